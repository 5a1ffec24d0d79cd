"""Questions about one domain that take its monitor's answer: what its job is, why its disks fail.

They have few threads, and a domain that hangs in a job of its own would take them all, one at each look. So a domain
that is silent is not asked, and of those whose last question was late one alone is: the rest of the threads are for
others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from typing import TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorTimeout
from vmpulse_agent.libvirt_edge.connection import Connection
from vmpulse_agent.libvirt_edge.handles import Askers, Handles
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_contract.identity import VmId

T = TypeVar("T")


class Topic(Enum):
    """What is asked."""

    ROLE = "role"
    DISKS = "disks"


class Questions:
    """Asks. All methods belong to the event loop."""

    def __init__(self, connection: Connection, lane: Lane, askers: Askers) -> None:
        self._connection = connection
        self._lane = lane
        self._askers = askers
        self._silent: Collection[VmId] = ()
        self._late: set[VmId] = set()

    def silent(self, vms: Collection[VmId]) -> None:
        """Take note of those that did not answer the last look."""
        self._silent = vms

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget domains that are gone."""
        self._late.intersection_update(present)

    async def ask(self, topic: Topic, vm: VmId, work: Callable[[libvirt.virConnect, VmId], T]) -> T:
        """Ask one domain; *work* blocks. Raises HypervisorError, and HypervisorTimeout at once if it is not asked."""

        def apart(handles: Handles) -> T:
            with self._askers.one(handles) as connection:
                return work(connection, vm)

        if vm in self._silent or (vm in self._late and self._late_going()):
            msg = f"{self._lane.name} {topic.value}: not asked, it may hang"
            raise HypervisorTimeout(msg)
        key = (topic.value, vm)
        try:
            answer = await self._connection.call(self._lane, key, apart, self._connection.options.read_deadline_s)
        except HypervisorTimeout:
            # One that found no thread has not been asked at all.
            if self._lane.busy(key):
                self._late.add(vm)
            raise
        self._late.discard(vm)
        return answer

    def _late_going(self) -> bool:
        return any(self._lane.busy((topic.value, vm)) for vm in self._late for topic in Topic)
