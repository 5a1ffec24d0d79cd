"""What the view's state machine costs without a broker: bytes for each VM, and CPU time for each message.

A view is given what a fleet of ``benches.streamed`` says, as bytes that are made beforehand, and answered what it asks:
every section of every VM is fetched once. Then come frames, and in the end device statistics. Run it by ``python -m
benches.view_alone [--hosts N] [--traced]``; with ``--traced`` bytes are counted where Python asked for them, which
makes everything slow, so that nothing is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import sys
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from benches.processes import memory
from benches.program import count
from benches.streamed import amqp
from benches.streamed.fleet import StreamedFleet
from benches.streamed.templates import templates
from vmpulse_consumers.view import View
from vmpulse_contract import verbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benches.streamed.amqp import Published

VMS: Final = 40
TICK_S: Final = 3.0
AT_ONCE: Final = 50
"""Hosts that are heard before the view is answered, so that little is under way at a time."""
TICKS: Final = 20
LARGEST: Final = 20
ROOT: Final = f"{Path(__file__).parents[1]}/"


class Place(Struct, frozen=True):
    """A line of the program that asked for what is held, with bytes and objects for each VM."""

    where: str
    bytes: float
    objects: float


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes for each VM: growth of resident memory, or with ``--traced`` what Python asked for.

    ``frame_us``: what a frame costs, decoding it included, the median over TICKS; ``devices_us``: the device statistics
    of a host, the median over hosts.
    """

    vms: int
    bytes_with_sections: float
    bytes_with_devices: float
    frame_us: float | None = None
    devices_us: float | None = None
    largest: tuple[Place, ...] = ()


class Fed:
    """A view and the fleet that it is fed with."""

    def __init__(self, hosts: int) -> None:
        self._now = 0.0
        self._hosts = hosts
        self._ticks = 0
        self.fleet = StreamedFleet(asyncio.run(templates(hosts, VMS, 1)), hosts, lambda: self._now, 1)
        self.view = View(self._now)

    def meet(self) -> None:
        """Let each host say a frame, and answer what the view asks then."""
        self.tick()
        for first in range(0, self._hosts, AT_ONCE):
            self.take(self._frames(first))
            self._answer()

    def tick(self) -> None:
        """Let the time of a tick pass."""
        self._now += TICK_S
        self._ticks += 1
        self.view.canary(self._now)
        self.view.tick(self._now)

    def frames(self) -> list[Published]:
        """The frames of all hosts."""
        return [message for first in range(0, self._hosts, AT_ONCE) for message in self._frames(first)]

    def devices(self, number: int) -> list[Published]:
        """The device statistics of one host."""
        return list(amqp.published(self.fleet.devices(number)))

    def take(self, messages: Iterable[Published]) -> None:
        """Give the view messages, and take what it tells, which nobody reads."""
        view, now = self.view, self._now
        for message in messages:
            view.receive(message.exchange, message.key, message.user, message.body, now)
            if view.has_events:
                view.drain_events()

    def timed(self, messages: Sequence[Published]) -> float:
        """Give the view messages; tells the microseconds of CPU time that each took."""
        began = time.thread_time()
        self.take(messages)
        return (time.thread_time() - began) / len(messages) * 1e6

    def _frames(self, first: int) -> list[Published]:
        return list(amqp.published(self.fleet.frames(first, min(first + AT_ONCE, self._hosts), self._ticks)))

    def _answer(self) -> None:
        while (wait := self.view.requests_due_in(self._now)) is not None:
            self._now += wait
            for request in self.view.drain_requests(self._now):
                raw = self.fleet.answer(request.host, request.verb, request.vms)
                self.view.replied(request, verbs.read_reply(request.verb, raw), self._now)


def measure(hosts: int, *, traced: bool) -> Report:
    """Feed a view, and tell what it costs."""
    fed = Fed(hosts)
    vms = hosts * VMS
    if traced:
        tracemalloc.start()
    before = _held(traced=traced)
    fed.meet()
    with_sections = _held(traced=traced) - before
    # As the program does (settling).
    gc.freeze()
    frames = []
    for _ in range(0 if traced else TICKS):
        fed.tick()
        frames.append(fed.timed(fed.frames()))
    devices = [fed.timed(fed.devices(number)) for number in range(hosts)]
    with_devices = _held(traced=traced) - before
    largest = _largest(vms) if traced else ()
    return Report(
        vms=len(fed.view.vms),
        bytes_with_sections=round(with_sections / vms, 1),
        bytes_with_devices=round(with_devices / vms, 1),
        frame_us=round(median(frames), 2) if frames else None,
        devices_us=None if traced else round(median(devices), 1),
        largest=largest,
    )


def _held(*, traced: bool) -> float:
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    # What was used to unpack messages is free, and only by chance given back: glibc's malloc_trim(3).
    ctypes.CDLL(None).malloc_trim(0)
    return memory(os.getpid())["rss_mib"] * (1 << 20)


def _largest(vms: int) -> tuple[Place, ...]:
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    found = snapshot.statistics("lineno")[:LARGEST]
    return tuple(_place(each, vms) for each in found)


def _place(found: tracemalloc.Statistic, vms: int) -> Place:
    (line,) = found.traceback
    where = f"{line.filename.removeprefix(ROOT)}:{line.lineno}"
    return Place(where, round(found.size / vms, 1), round(found.count / vms, 2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benches.view_alone", description="What a view alone costs.")
    parser.add_argument("--hosts", type=count, default=1000, help=f"of the fleet, {VMS} VMs on each (default 1000)")
    parser.add_argument("--traced", action="store_true", help="say where memory was asked for, and time nothing")
    options = parser.parse_args(arguments)
    sys.stdout.write(msgspec.json.encode(measure(options.hosts, traced=options.traced)).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
