"""One fleet at work, and a view that is started over it again and again: with an empty store, and with its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from benches import processes
from benches.chaos.cable import LOOPBACK
from benches.machine import Idle
from benches.program import progress
from benches.warmup.counting_cable import CountingCable
from benches.warmup.report import Start, Warmup, told
from benches.warmup.request_tap import USER, RequestTap
from vmpulse_simulator.broker_files import free_port_numbers
from vmpulse_simulator.errors import SimulatorError, ViewUnreachable
from vmpulse_simulator.view_api import ViewApi, get

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benches.simulated import SimulatedFleet
    from vmpulse_simulator.view_process import ViewProcess

say = progress("warmup")
POLLS_PER_VM_S: Final = 5e-6
"""To be asked for its fleet costs a view some microseconds for each VM, so a large one is asked more rarely."""
POLL_S: Final = 0.05
BEGIN_PER_HOST_S: Final = 0.2
"""Simulated hosts take a while to begin, which is the simulator's affair."""
STATES: Final = ("connected_s", "http_s", "confirmed_s", "shown_s", "fresh_s", "ready_s")


class NotWarm(SimulatorError):
    """A view did not come to show the whole fleet."""


class FleetNow(Struct, frozen=True, kw_only=True):
    """What a view says of its fleet, as far as a warm-up is about it."""

    ready: bool
    hosts: dict[str, int]
    vms: int
    freshness: dict[str, int]
    relists: int
    repairs: int


class WarmupRun:
    """Starts a view over a fleet, and measures.

    Args:
        folder: for everything that is written.
        fleet: that is at work, to be entered.
        rounds: how often it is started with an empty store, and then with its own.
        latest_s: a start that takes longer has failed.
    """

    def __init__(self, folder: Path, fleet: SimulatedFleet, rounds: int, latest_s: float) -> None:
        self._folder = folder
        self._fleet = fleet
        self._size = fleet.size
        self._rounds = rounds
        self._latest_s = latest_s
        (self._port,) = free_port_numbers(1)
        self._api = ViewApi(f"http://{LOOPBACK}:{self._port}", time.monotonic)

    async def run(self) -> Warmup:
        """Run it. Raises SimulatorError if a part cannot run, or a view shows less than there is."""
        cold: list[Start] = []
        warm: list[Start] = []
        async with self._fleet, RequestTap(self._fleet.broker.url(USER)) as tap:
            say(f"waiting for {self._size.hosts} hosts with {self._size.vms} VMs each ...")
            begin_s = BEGIN_PER_HOST_S * self._size.hosts
            self._latest_s += begin_s
            await self._start("settling", tap)
            self._latest_s -= begin_s
            for number in range(1, self._rounds + 1):
                await tap.delete_view_queue()
                store = self._folder / f"view-{number}.db"
                cold.append(await self._start(f"cold-{number}", tap, "--store", str(store)))
                warm.append(await self._start(f"warm-{number}", tap, "--store", str(store)))
        return told(*self._size, cold, warm)

    async def _start(self, name: str, tap: RequestTap, *options: str) -> Start:
        """Start a view, wait until it is done and a tick longer, and end it."""
        async with CountingCable(self._fleet.broker.port) as cable:
            view = self._fleet.view(self._folder / name, self._port, *options, broker_port=cable.port)
            asked, idle = tap.anew(), Idle()
            begun = time.monotonic()
            async with view:
                reached = await self._until_warm(view, begun)
                done: dict[str, Any] = {"bytes": cable.carried, "idle_share": idle.share(), "cpu_ms": cpu_ms(view)}
                await self._until_fresh(view, begun, reached)
                await asyncio.sleep(self._size.tick_s)
        reached["connected_s"] = (cable.used_since or begun) - begun
        reached["done_s"] = max(reached[state] for state in STATES if state != "fresh_s")
        numbers = {key: round(value, 3) for key, value in reached.items()} | done
        start = Start(**numbers, requests=dict(asked.requests), asked_twice=asked.twice)
        say(f"{name}: {start}")
        return start

    # --- what a view has come to --------------------------------------------------------------------------------

    async def _until_warm(self, view: ViewProcess, begun: float) -> dict[str, float]:
        """Look again and again; gives when each state was reached, but for the last one."""
        reached: dict[str, float] = {}
        asked: int | None = None
        while not {"confirmed_s", "shown_s", "ready_s"} <= reached.keys():
            before, now = asked, await self._look(view, begun, reached)
            asked = None if now is None else now.relists + now.repairs
            # Pages of all VMs cost the view much more: they are asked for when it asks for nothing any more.
            if "confirmed_s" in reached and "shown_s" not in reached and asked is not None and asked == before:
                at = time.monotonic() - begun
                if await self._all_shown():
                    reached["shown_s"] = at
        return reached

    async def _until_fresh(self, view: ViewProcess, begun: float, reached: dict[str, float]) -> None:
        while "fresh_s" not in reached:
            await self._look(view, begun, reached)

    async def _look(self, view: ViewProcess, begun: float, reached: dict[str, float]) -> FleetNow | None:
        """Look once and note what was reached; gives what was seen, if the view answers."""
        self._check(view, begun)
        now: FleetNow | None = None
        with contextlib.suppress(ViewUnreachable):
            now = await asyncio.to_thread(get, self._api.url, "/api/v1/fleet", FleetNow)
            at, size = time.monotonic() - begun, self._size
            found = {
                "http_s": True,
                "confirmed_s": now.hosts.get("live") == size.hosts and now.vms == size.all_vms,
                "fresh_s": now.freshness.get("fresh") == size.all_vms,
                "ready_s": now.ready and now.vms == size.all_vms,
            }
            for state in (state for state, holds in found.items() if holds):
                reached.setdefault(state, at)
        await asyncio.sleep(max(POLL_S, POLLS_PER_VM_S * self._size.all_vms))
        return now

    async def _all_shown(self) -> bool:
        """Whether each VM is there with all its sections."""
        count = 0
        with contextlib.suppress(ViewUnreachable):
            async for page in self._api.vms(sections=False):
                if not all(is_whole(seen.row) for seen in page):
                    return False
                count += len(page)
        return count == self._size.all_vms

    def _check(self, view: ViewProcess, begun: float) -> None:
        self._fleet.check()
        if view.child.died is not None:
            raise NotWarm(f"the view has ended with status {view.child.died}\n{view.last_lines()}")
        if time.monotonic() - begun > self._latest_s:
            words = f"the view does not show the whole fleet after {self._latest_s:.0f} s"
            raise NotWarm(f"{words}; its log is {view.child.log}")


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a VM's row has something of each section, and waits for nothing."""
    return bool(row.get("name")) and bool(row.get("hashes")) and not row.get("repairing")


def cpu_ms(view: ViewProcess) -> int:
    """What a view's process has used so far. Raises NotWarm if it has ended."""
    if view.child.pid is None:
        raise NotWarm(f"the view has ended\n{view.last_lines()}")
    return round(processes.usage(view.child.pid).cpu_ns / 1e6)
