"""The view with a probe in it: ``python -m benches.freshness.view``, started by the bench.

It is put together as ``vmpulse view`` is, without a store. The probe notes when a change event came in and when it was
applied: from then on whoever asks the view is told.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from benches.freshness.place import VIEW_NAME, Records, Seen, number_in, started, write_down
from vmpulse_consumers.http import EventStreams, build_app, listen, serve_on
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view import View
from vmpulse_contract import broker_url, topology
from vmpulse_simulator.view_api import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benches.freshness.place import Place


class ProbedView(View):
    """The view, with a note of each change event: when it came in, when it was applied, and its body."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.changes: list[tuple[float, float, bytes]] = []

    def receive(self, exchange: str, routing_key: str, user_id: str | None, body: bytes, now: float) -> None:
        """Apply one message; those that are no change events are not noted."""
        came = time.monotonic()
        super().receive(exchange, routing_key, user_id, body, now)
        if exchange == topology.CHANGES:
            self.changes.append((came, time.monotonic(), body))


async def serve(place: Place, records: Path) -> None:
    """Serve until told to stop, and then write down what came."""
    probed: list[ProbedView] = []

    def make_view(now: float) -> ProbedView:
        probed.append(ProbedView(now))
        return probed[-1]

    service = ViewService(broker_url.parse("view_url", place.view_url), VIEW_NAME, make_view=make_view)
    await service.restore()
    app = build_app(service.view, service.clock, EventStreams(service.teller), applied=service.applied)
    work = asyncio.gather(service.run(), serve_on(app, listen(LOOPBACK, place.api_port)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        write_down(records, noted(probed[0]))


def noted(view: ProbedView) -> Records:
    """What the probe has of our own changes."""
    found = [(number, came, held) for came, held, body in view.changes if (number := number_in(body)) is not None]
    return {
        "received": [Seen(number, came) for number, came, _ in found],
        "view": [Seen(number, held) for number, _, held in found],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until SIGTERM; gives the exit code."""
    place, records = started("view", arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvloop.run(serve(place, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
