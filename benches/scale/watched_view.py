"""A view that is watched from inside: ``python -m benches.scale.watched_view``, started by the bench.

The service that ``vmpulse view`` runs, under the same event loop, without the HTTP API: at a million VMs asking that
for ages would be the larger load. Once a second a line of JSON (`Look`) goes to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import uvloop
from msgspec import Struct

from vmpulse_consumers.service import ViewService
from vmpulse_consumers.settling import Settling
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.runtime import UNKNOWN_32
from vmpulse_contract import broker_url
from vmpulse_contract.stream import AGE_UNIT
from vmpulse_contract.topology import Kind
from vmpulse_edges import logs
from vmpulse_edges.logs import LogFormat, LogLevel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_consumers.view import View
    from vmpulse_consumers.view.host import Host

LOOK_S: Final = 1.0
SAMPLED: Final = 500
"""Hosts whose VMs' ages are taken in a look, drawn anew each time: 2 ms of the view's time."""
BIN_S: Final = 0.1
BINS: Final = 600
"""Ages are counted by BIN_S; the last bin is for whatever is older, or not known."""
COLUMNS: Final = ("status", "mem_usage", "cpu_user", "cpu_sys", "stats_age")


class Look(Struct, frozen=True, kw_only=True):
    """What was seen at once.

    ``at`` on the machine's monotonic clock; ``cpu_ns`` of the process so far; ``messages`` of the stream so far, of
    which ``frames``; ``ages``: VMs of the sample by age, see BIN_S; ``asking``: requests that wait or are under way;
    ``events``: that the broker has taken so far; ``untold``: that it has not been given yet; ``runtime_bytes``: of the
    columns, with their room to grow, ``used_bytes`` without.
    """

    at: float
    cpu_ns: int
    messages: int
    frames: int
    gaps: int
    relists: int
    clocks: int
    repairs: int
    dropped: int
    rejected: int
    hosts: int
    live: int
    asking: int
    events: int
    untold: int
    ages: list[int]
    runtime_bytes: int
    used_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(prog="python -m benches.scale.watched_view")
    parser.add_argument("--url-file", type=Path, required=True)
    parser.add_argument("--looks", type=Path, required=True)
    options = parser.parse_args(arguments)
    logs.configure(LogLevel.WARNING, LogFormat.TEXT)
    uvloop.run(_run(options.url_file.read_text(encoding="utf-8"), options.looks))
    return 0


async def _run(url: str, looks: Path) -> None:
    service = ViewService(broker_url.parse("broker_url", url), "main")
    await service.restore()
    async with asyncio.TaskGroup() as group:
        group.create_task(Settling(service.view).run())
        group.create_task(service.run())
        group.create_task(_watch(service, looks))


async def _watch(service: ViewService, looks: Path) -> None:
    lots = random.Random(1)  # noqa: S311 - a sample, no secret
    while True:
        await asyncio.sleep(LOOK_S)
        line = msgspec.json.encode(look(service, lots)) + b"\n"
        with looks.open("ab") as output:
            output.write(line)


def look(service: ViewService, lots: random.Random) -> Look:
    """Look at a view at work."""
    view, now = service.view, service.clock()
    counts, hosts = view.counts, list(view.hosts.values())
    columns = [getattr(view.runtime, name) for name in COLUMNS]
    return Look(
        at=time.monotonic(),
        cpu_ns=time.process_time_ns(),
        messages=sum(counts.messages.values()),
        frames=counts.messages[Kind.FRAME],
        gaps=counts.gaps,
        relists=counts.relists,
        clocks=counts.clocks,
        repairs=counts.repairs,
        dropped=counts.over_budget,
        rejected=sum(counts.rejected.values()),
        hosts=len(hosts),
        live=sum(host.state is HostState.LIVE for host in hosts),
        asking=view.asking.waiting + view.asking.in_flight,
        events=service.teller.published.events,
        untold=service.backlog.waiting + service.teller.unpublished,
        ages=ages(view, lots.sample(hosts, min(SAMPLED, len(hosts))), now),
        runtime_bytes=sum(column.nbytes for column in columns),
        used_bytes=sum(host.block.capacity for host in hosts) * sum(column.itemsize for column in columns),
    )


def ages(view: View, hosts: Sequence[Host], now: float) -> list[int]:
    """Count the active VMs of hosts by their age: since the host's frame, and how old the values were then."""
    counted = np.zeros(BINS, np.int64)
    for host in hosts:
        frame_age = host.frame_age(now)
        units = view.runtime.stats_age[host.block.start : host.block.start + host.block.size]
        known = units[units != UNKNOWN_32]
        if frame_age is None:
            counted[-1] += host.block.size
        else:
            bins = ((known * AGE_UNIT + frame_age) / BIN_S).astype(np.int64)
            counted += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
    found: list[int] = counted.tolist()
    return found


if __name__ == "__main__":
    sys.exit(main())
