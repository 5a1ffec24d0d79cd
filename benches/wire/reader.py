"""The reading side of vmpulse: the real view on fleet time. ``python -m benches.wire.reader``, started by the bench.

It is the view as it runs in life (stream, requests, repair, canary, events for workers) without its HTTP API. Once a
second of fleet time it notes how old each value is by the view's own word, which is never too young (docs/view.md).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from msgspec import Struct

from benches.wire.ages import Ages, Freshness
from benches.wire.clock import FleetClock, FleetLoop, FollowingSelector
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.runtime import UNKNOWN_32
from vmpulse_contract import broker_url
from vmpulse_contract.stream import AGE_UNIT
from vmpulse_contract.values import VmStatus
from vmpulse_simulator.signals import run_until_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vmpulse_consumers.view.host import Host

SAMPLE_S: Final = 1.037
"""Of no common length with a tick, so that every phase of it is seen."""
POLL_S: Final = 0.25


class Reading(Struct, frozen=True):
    """What the view has read.

    - ``frames``: applied or passed over; ``bodies``: bytes of all stream messages.
    - ``cpu_s``: of the whole process since it began to read, without what noting the ages took.
    - ``live``: hosts that are LIVE at the end; ``gaps``, ``digest_mismatches``, ``relists``, ``repairs``: its counts.
    """

    frames: int
    messages: int
    bodies: int
    cpu_s: float
    freshness: Freshness
    live: int
    gaps: int
    digest_mismatches: int
    relists: int
    repairs: int


class Reader:
    """A view and what is noted of it.

    Args:
        service: the view.
        hosts: how many there are to be.
        ready: the file that is made when all of them are live.
    """

    def __init__(self, service: ViewService, hosts: int, ready: Path) -> None:
        self._service = service
        self._hosts = hosts
        self._ready = ready
        self._ages = Ages()
        self._noting_s = 0.0
        self._cpu_before_s = time.process_time()

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._service.run())
            group.create_task(self._note())

    def reading(self) -> Reading:
        """What has been read."""
        view = self._service.view
        counts = view.counts
        return Reading(
            frames=counts.messages["frame"],
            messages=counts.messages.total(),
            bodies=counts.bytes,
            cpu_s=time.process_time() - self._cpu_before_s - self._noting_s,
            freshness=self._ages.freshness(),
            live=self._live(),
            gaps=counts.gaps,
            digest_mismatches=counts.digest_mismatches,
            relists=counts.relists,
            repairs=counts.repairs,
        )

    def _live(self) -> int:
        return sum(host.state is HostState.LIVE for host in self._service.view.hosts.values())

    async def _note(self) -> None:
        while self._live() < self._hosts or self._service.view.not_ready(self._service.clock()):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        self._ready.touch()
        while True:
            await asyncio.sleep(SAMPLE_S)
            began = time.process_time()
            now = self._service.clock()
            found = [self._of(host, now) for host in self._service.view.hosts.values()]
            self._ages.add(np.concatenate(found))
            self._noting_s += time.process_time() - began

    def _of(self, host: Host, now: float) -> NDArray[np.float64]:
        """The ages of a host's values: of VMs that run, for of the others there is nothing to measure."""
        block, runtime, age = host.block, self._service.view.runtime, host.frame_age(now)
        if age is None:
            return np.empty(0)
        rows = slice(block.start, block.start + block.size)
        stats_age = runtime.stats_age[rows]
        known = (runtime.status[rows] != VmStatus.DOWN) & (stats_age != UNKNOWN_32)
        ages: NDArray[np.float64] = stats_age[known] * AGE_UNIT + age
        return ages


async def read(options: argparse.Namespace) -> int:
    """Read until told to end; what was read is then in the file."""
    url = broker_url.parse("broker_url", options.broker_url, options.password_file.read_text(encoding="utf-8"))
    reader = Reader(ViewService(url, "main"), options.hosts, options.ready)
    with contextlib.suppress(asyncio.CancelledError):
        await reader.run()
    options.result.write_bytes(msgspec.json.encode(reader.reading()))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.wire.reader")
    parser.add_argument("--broker-url", required=True)
    parser.add_argument("--hosts", type=int, required=True)
    for name in ("clock", "password-file", "ready", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    clock = FleetClock(options.clock)
    return run_until_told(read(options), loop_factory=lambda: FleetLoop(clock, FollowingSelector(clock)))


if __name__ == "__main__":
    sys.exit(main())
