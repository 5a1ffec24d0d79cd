"""A fleet at work, a view, and its readers: one kind after the other, and then all at once."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from benches import processes
from benches.chaos.rounds import beside
from benches.machine import Idle
from benches.program import progress
from benches.reads.client import NotAnswered
from benches.reads.costs import PACKED, PLAIN, Costs
from benches.reads.prober import Stalls
from benches.reads.report import GOALS, Report, missed
from benches.reads.subscribers import Followed
from benches.simulated import SimulatedFleet
from benches.soak.readers import scrape
from vmpulse_simulator.broker_files import free_port_numbers
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError, ViewUnreachable
from vmpulse_simulator.view_api import LOOPBACK, ViewApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from benches.simulated import Size

say = progress("reads")
T = TypeVar("T")

RATES: Final = {"agent-restart-percent": 0.0}
"""An agent that begins anew begins to count anew, so that nobody could tell what never came."""
READY_S: Final = 120.0
POLL_S: Final = 0.5
SETTLED_S: Final = 6.0
"""After a start much is done once that is no reader's doing."""
LOOKS: Final = 8
STEADY: Final = 0.9
"""On a busy machine what follows a start takes longer: the view is at rest when it takes nearly what it took before."""
GAPS: Final = "vmpulse_gaps_total"
END_S: Final = 15.0


class NotSeen(SimulatorError):
    """The view did not come to see the whole fleet, or ended."""


class Reads:
    """One run, to be run once.

    Args:
        folder: for everything that is written.
        size: of the fleet.
        seconds: how long each kind of reader is at work.
        subscribers: how many follow the events.
    """

    def __init__(self, folder: Path, size: Size, seconds: float, subscribers: int) -> None:
        self._folder = folder
        self._size = size
        self._seconds = seconds
        self._subscribers = subscribers
        self._fleet = SimulatedFleet(folder, size, RATES)
        (self._port,) = free_port_numbers(1)
        self._api = ViewApi(f"http://{LOOPBACK}:{self._port}", time.monotonic)
        self._view = self._fleet.view(folder, self._port, "--store", str(folder / "view.db"))
        self._reader = Costs(self._port, size, self._cpu_s)
        self._stalls: dict[str, Stalls] = {}
        self._cpu_percent: dict[str, float] = {}
        self._ages: list[float] = []

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run."""
        async with self._fleet, self._view:
            await self._until_ready()
            costs = await self._costs()
            for kind in ("nobody", "scrapes", "lists"):
                await self._probe(kind, self._works(kind))
            await self._follow("subscribers", ())
            idle, before = Idle(), await self._gaps()
            followed = await self._follow("everything", (*self._works("scrapes"), *self._works("lists")))
            missed_ticks = await self._gaps() - before
            return self._report(costs, followed, {"missed_ticks": missed_ticks, "idle_share": idle.share()})

    def _report(self, costs: dict[str, Any], followed: Followed, more: dict[str, Any]) -> Report:
        found = costs | more | {"sse_lost": followed.lost}
        found["loop_stall_max_ms"] = max(stall.loop.max or 0.0 for stall in self._stalls.values())
        return Report(
            hosts=self._size.hosts,
            vms=self._size.vms,
            tick_s=self._size.tick_s,
            seconds=self._seconds,
            stalls=self._stalls,
            followed=followed,
            worst_age_s=max(self._ages),
            cpu_percent=self._cpu_percent,
            goals=GOALS,
            goals_missed=missed(found),
            **found,
        )

    async def _costs(self) -> dict[str, Any]:
        """Measure single reads; gives those fields of the report."""
        idle_rate = await self._idle_rate()
        say(f"without readers the view takes {idle_rate:.1%} of a CPU")
        count = max(2, round(self._seconds / self._size.tick_s))
        metrics = {
            "gzip": await self._reader.scrapes(PACKED, count, idle_rate),
            "plain": await self._reader.scrapes(PLAIN, count, idle_rate),
        }
        lists = await self._reader.lists(idle_rate)
        vm_ms, vm_p99_ms = await asyncio.to_thread(self._reader.singles)
        say(f"metrics: {metrics}; {lists}; one VM: {vm_ms} ms")
        return {
            "idle_cpu_percent": round(idle_rate * 100, 1),
            "metrics": metrics,
            "metrics_cpu_ms": metrics["gzip"].cpu_ms,
            "vms_10000_ms": lists.took,
            "vms_requests": lists.requests,
            "vms_bytes": lists.bytes,
            "vms_cpu_ms": lists.cpu,
            "vm_ms": vm_ms,
            "vm_p99_ms": vm_p99_ms,
        }

    async def _idle_rate(self) -> float:
        """CPU seconds of the view, each second, without readers, once they fall no more."""
        rate = await self._cpu_rate(self._wait(self._seconds / 2))
        for _ in range(LOOKS):
            before, rate = rate, await self._cpu_rate(self._wait(self._seconds / 2))
            if rate > STEADY * before:
                break
        return rate

    # --- the view -----------------------------------------------------------------------------------------------

    async def _until_ready(self) -> None:
        say(f"waiting for {self._size.hosts} hosts with {self._size.vms} VMs each ...")
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self._check()
            try:
                report = await self._api.fleet()
            except ViewUnreachable:
                report = None
            if report is not None and report.ready and report.live() == self._size.hosts:
                return await self._wait(SETTLED_S)
            await asyncio.sleep(POLL_S)
        raise NotSeen(f"the view did not see {self._size.hosts} hosts live within {READY_S:.0f} s")

    def _check(self) -> int:
        """Raise if a part has ended; gives the view's pid."""
        self._fleet.check()
        pid = self._view.child.pid
        if pid is None:
            raise NotSeen(f"the view has ended\n{self._view.last_lines()}")
        return pid

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._check()

    async def _gaps(self) -> int:
        return int((await scrape(f"{self._api.url}/metrics"))[GAPS])

    def _cpu_s(self) -> float:
        return processes.usage(self._check()).cpu_ns / 1e9

    async def _cpu_rate(self, work: Coroutine[None, None, None]) -> float:
        """CPU seconds of the view, each second, while something goes on."""
        begun, before = time.monotonic(), self._cpu_s()
        await work
        return (self._cpu_s() - before) / (time.monotonic() - begun)

    # --- readers, beside a prober -------------------------------------------------------------------------------

    def _works(self, kind: str) -> tuple[Callable[[], object], ...]:
        """What readers of a kind do once a tick."""
        kinds: dict[str, tuple[Callable[[], object], ...]] = {
            "scrapes": (lambda: self._reader.paced("/metrics", PACKED, 1),),
            "lists": (self._reader.list,),
        }
        return kinds.get(kind, ())

    async def _probe(self, kind: str, works: tuple[Callable[[], object], ...]) -> None:
        """Have the loop probed while readers are at work."""
        words = ("--pid", str(self._check()), "--port", str(self._port))
        async with AsyncExitStack() as stack:
            prober = await stack.enter_async_context(self._helper("prober", *words))
            for work in (*((self._each_tick(work)) for work in works), self._watch_ages()):
                await stack.enter_async_context(beside(work))
            rate = await self._cpu_rate(self._wait(self._seconds))
            self._stalls[kind] = await last_word(prober, Stalls)
        self._cpu_percent[kind] = round(rate * 100, 1)
        say(f"beside {kind}: {self._stalls[kind]}, CPU {rate:.1%}")

    async def _follow(self, kind: str, works: tuple[Callable[[], object], ...]) -> Followed:
        """Have the loop probed while many follow the events, beside other readers."""
        words = ("--port", str(self._port), "--count", str(self._subscribers))
        async with self._helper("subscribers", *words) as subscribers:
            while "all have asked" not in subscribers.last_lines():
                await self._wait(POLL_S)
            await self._probe(kind, works)
            followed = await last_word(subscribers, Followed)
        say(f"beside {kind}: {followed}")
        return followed

    async def _each_tick(self, work: Callable[[], object]) -> None:
        while True:
            await asyncio.to_thread(work)
            await asyncio.sleep(self._size.tick_s)

    async def _watch_ages(self) -> None:
        while True:
            age = (await self._api.fleet()).worst_age_s
            self._ages += [] if age is None else [age]
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _helper(self, name: str, *words: str) -> AsyncIterator[ChildProcess]:
        """A program of this bench that runs beside."""
        command = (sys.executable, "-m", f"benches.reads.{name}", *words)
        child = ChildProcess(command, self._folder / f"{name}.log", os.environ)
        await child.start()
        try:
            yield child
        finally:
            await child.kill()


async def last_word(child: ChildProcess, kind: type[T]) -> T:
    """Tell a program to end, and give what it has found. Raises NotAnswered if it has not."""
    if child.died is None:
        await child.end(END_S)
    try:
        return msgspec.json.decode(child.last_lines().splitlines()[-1], type=kind)
    except (IndexError, msgspec.DecodeError) as error:
        raise NotAnswered(f"{child.log} has no result\n{child.last_lines()}") from error
