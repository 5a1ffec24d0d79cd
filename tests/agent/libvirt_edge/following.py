"""A hypervisor under test with all that it has notified."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from vmpulse_agent.hypervisor import DomainLook, HypervisorEvent, LifecycleChange, LifecycleEvent
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions
from vmpulse_contract.identity import VmId

T = TypeVar("T")
PATIENCE_S = 10.0


class Following:
    """An open hypervisor, and what it has told so far."""

    def __init__(self, hypervisor: LibvirtHypervisor) -> None:
        self.hypervisor = hypervisor
        self.events: list[HypervisorEvent] = []
        self._more = asyncio.Event()

    def notify(self, event: HypervisorEvent) -> None:
        """The port's callback."""
        self.events.append(event)
        self._more.set()

    async def until(self, wanted: Callable[[HypervisorEvent], bool]) -> HypervisorEvent:
        """Wait for an event, and forget those up to it."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(map(wanted, self.events)):
                self._more.clear()
                await self._more.wait()
        index = next(index for index, event in enumerate(self.events) if wanted(event))
        found, self.events = self.events[index], self.events[index + 1 :]
        return found

    async def change(self, vm: VmId, change: LifecycleChange) -> LifecycleEvent:
        """Wait for a lifecycle event of one domain."""
        found = await self.until(lambda e: isinstance(e, LifecycleEvent) and (e.vm, e.change) == (vm, change))
        assert isinstance(found, LifecycleEvent)
        return found

    async def seen(self, vm: VmId) -> DomainLook | None:
        """One domain as the next look shows it."""
        look = await self.hypervisor.look()
        return next((domain for domain in look.domains if domain.vm == vm), None)

    async def status(self, vm: VmId) -> str | None:
        """Its status in words."""
        domain = await self.seen(vm)
        return None if domain is None else domain.status.label


@asynccontextmanager
async def following(options: LibvirtOptions) -> AsyncIterator[Following]:
    """Open, hand over, close; and no thread is left."""
    before = set(threading.enumerate())
    follower = Following(LibvirtHypervisor(options))
    await follower.hypervisor.open(follower.notify)
    try:
        yield follower
    finally:
        await follower.hypervisor.close()
    ours = [t for t in set(threading.enumerate()) - before if t.name.startswith("libvirt-")]
    for thread in ours:
        await asyncio.to_thread(thread.join, PATIENCE_S)
    assert not any(thread.is_alive() for thread in ours)
