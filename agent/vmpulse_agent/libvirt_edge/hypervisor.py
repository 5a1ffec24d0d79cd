"""The hypervisor port on libvirt: what is called in which lane, and what is remembered between calls.

Nothing here interprets; stats, domain_xml, events and guest_agent do. What is remembered is bounded by the domains of
the last look, and belongs to the event loop, except for what the lanes fill (tokens.Lives, bulk.Devices).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import libvirt

from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import (
    ConnectionBack,
    ConnectionLost,
    DeviceSample,
    DomainLook,
    HypervisorEvent,
    HypervisorFacts,
    Look,
    Notify,
    SectionReading,
)
from vmpulse_agent.libvirt_edge import bulk, events, host_stats, reading, stats
from vmpulse_agent.libvirt_edge.connection import Connection, Listener
from vmpulse_agent.libvirt_edge.evidence import EvidenceBook, Role
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_agent.libvirt_edge.host_stats import CpuTicks, VmCounts
from vmpulse_agent.libvirt_edge.monitors import Monitors
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu
from vmpulse_agent.libvirt_edge.reading import DomainReading
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.libvirt_edge.tokens import Lives, boottime_ns
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, Section, Status, guest_ips
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    from vmpulse_agent.hypervisor import Hypervisor

HOST_DEADLINE_S: Final = 2.0
TURN_S: Final = 1.0
_MIGRATING: Final = frozenset({VmStatus.MIGRATION_SOURCE, VmStatus.MIGRATION_DESTINATION})
_GUEST_SECTIONS: Final = frozenset({Section.STATUS, Section.GUEST_DETAILS})


class _Lanes(NamedTuple):
    """See the package's table: no connection has more than four."""

    look: Lane
    state: Lane
    device: Lane
    read: Lane
    job: Lane
    guest: Lane
    host: Lane


class LibvirtHypervisor:
    """The hypervisor port (see vmpulse_agent.hypervisor) on one libvirt."""

    def __init__(self, options: LibvirtOptions | None = None) -> None:
        self.options = options or LibvirtOptions()
        self._connection = Connection(self.options, Listener(self._heard, self._lost, self._back))
        self._lanes = _Lanes(
            look=Lane("look", 3),
            state=Lane("state", 1),
            device=Lane("device", 2),
            read=Lane("read", 1),
            job=Lane("job", 1),
            guest=Lane("guest", 4),
            host=Lane("host", 1),
        )
        self._calls = count()
        self._bulk = asyncio.Lock()
        self._notify: Notify | None = None
        self._lives = Lives(self.options.run_dir if is_local_qemu(self.options.uri) else None)
        self._devices = bulk.Devices(self._lives)
        self._monitors = Monitors()
        self._evidence = EvidenceBook()
        self._guests: dict[VmId, GuestFacts] = {}
        self._asking_roles: dict[VmId, asyncio.Task[None]] = {}
        self._silent: frozenset[VmId] = frozenset()
        self._vms: VmCounts | None = None
        self._ticks: CpuTicks | None = None

    # --- the connection -----------------------------------------------------------------------------------------

    async def open(self, notify: Notify) -> None:
        """Connect; see the port. Raises HypervisorUnavailable, HypervisorTimeout."""
        self._notify = notify
        await self._connection.open()

    async def close(self) -> None:
        """Let go of the connection. Threads that are stuck in a call end when it does."""
        self._notify = None
        for task in self._asking_roles.values():
            task.cancel()
        for lane in self._lanes:
            lane.close()
        await self._connection.close()

    async def facts(self) -> HypervisorFacts:
        """Give the facts of the host. Raises HypervisorError."""
        key = ("facts", next(self._calls))
        return await self._connection.call(self._lanes.read, key, reading.host_facts, self.options.read_deadline_s)

    def _say(self, event: HypervisorEvent) -> None:
        if self._notify is not None:
            self._notify(event)

    def _heard(self, event: events.RawEvent) -> None:
        if event.kind in events.DEVICE_EVENTS:
            self._devices.forget(event.vm)
        for meaning in events.translate(event, self._evidence):
            self._say(meaning)

    def _lost(self, why: str) -> None:
        self._evidence.forget_all()
        self._say(ConnectionLost(why))

    def _back(self) -> None:
        self._say(ConnectionBack())

    # --- looks --------------------------------------------------------------------------------------------------

    async def look(self) -> Look:
        """Look at all domains, active and inactive, in one bulk call. Raises HypervisorError.

        Without a thread that is not stuck in some monitor, only states are asked for, and no monitor has ``answered``.
        """
        whole = self._lanes.look.free
        lane = self._lanes.look if whole else self._lanes.state

        def work(handles: Handles) -> tuple[int, list[bulk.Seen]]:
            groups = handles.look_groups if whole else libvirt.VIR_DOMAIN_STATS_STATE
            return handles.look_groups, bulk.look(handles, groups, self._lives)

        async with self._turn():
            started = asyncio.get_running_loop().time()
            possible, seen = await self._connection.call(lane, next(self._calls), work, self.options.look_deadline_s)
        # A driver without monitors never fails to ask one.
        asks = possible != libvirt.VIR_DOMAIN_STATS_STATE
        domains = self._judge(seen, whole=whole, asks=asks)
        self._remember(seen, domains)
        return Look(started, domains)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One bulk call at a time, if that is soon: two at once pass over each other's domains as busy."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._bulk.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._bulk.release()

    def _judge(self, seen: list[bulk.Seen], *, whole: bool, asks: bool) -> list[DomainLook]:
        now, stuck = boottime_ns(), bool(self._lanes.look.overdue or self._lanes.device.overdue)
        return [
            stats.domain_look(
                record,
                life,
                self._evidence.of(record.vm),
                answered=not asks or (whole and self._monitors.answered(record, stuck=stuck)),
                now_ns=now,
            )
            for record, life in seen
        ]

    def _remember(self, seen: list[bulk.Seen], domains: list[DomainLook]) -> None:
        present = {record.vm for record, _ in seen}
        incarnations = {(record.vm, record.domain_id) for record, _ in seen if record.active}
        self._evidence.keep_only(present)
        self._lives.keep_only(incarnations)
        self._monitors.keep_only(incarnations)
        for vm in self._guests.keys() - {vm for vm, _ in incarnations}:
            del self._guests[vm]
        self._silent = frozenset(domain.vm for domain in domains if not domain.answered)
        migrating = [domain.vm for domain in domains if domain.status in _MIGRATING]
        self._vms = VmCounts(len(domains), len(incarnations), len(migrating))
        for vm in migrating:
            self._ask_role(vm)

    def _ask_role(self, vm: VmId) -> None:
        """Verify a role in a migration: the end of one that failed, or began before we connected, has no event."""
        if vm not in self._asking_roles:
            task = self._asking_roles[vm] = asyncio.create_task(self._verify_role(vm))
            task.add_done_callback(lambda _: self._asking_roles.pop(vm, None))

    async def _verify_role(self, vm: VmId) -> None:
        before = self._evidence.of(vm).role
        try:
            role = await self._connection.call(
                self._lanes.job,
                ("role", vm),
                lambda handles: reading.migration_role(handles, vm),
                self.options.read_deadline_s,
            )
        except HypervisorError:
            return
        # An event that came meanwhile knows better; and a destination stays one until it is resumed, job or not.
        if before is self._evidence.of(vm).role is not Role.DESTINATION and role is not before:
            self._evidence.about(vm).role = role

    # --- sections -----------------------------------------------------------------------------------------------

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read the wanted sections of one domain. Raises HypervisorError if it is gone or nothing can be read."""
        found = await self._connection.call(
            self._lanes.read,
            ("read", next(self._calls)),
            lambda handles: reading.read_domain(handles, vm, wanted, self._lives),
            self.options.read_deadline_s,
        )
        facts = found.facts
        if facts is None:
            return SectionReading(vm, config=found.config)
        details = await self._guest_details(vm, found, wanted) if wanted & _GUEST_SECTIONS else None
        return SectionReading(
            vm,
            info=facts.info if Section.INFO in wanted else None,
            config=found.config,
            status=await self._status(vm, found) if Section.STATUS in wanted else None,
            guest_details=details if Section.GUEST_DETAILS in wanted else None,
        )

    async def _guest_details(self, vm: VmId, found: DomainReading, wanted: frozenset[Section]) -> GuestDetails | None:
        """Refresh what the guest has said, and give it as a section; None leaves the section as it was."""
        if not found.active or found.facts is None:
            return None
        if not found.facts.agent_connected:
            self._guests.pop(vm, None)
            return GuestDetails()
        if Section.GUEST_DETAILS in wanted or vm not in self._guests:
            # A domain whose monitor hangs has no agent that answers: do not spend a deadline on it.
            said = None if vm in self._silent else await self._ask_guest(vm)
            if said is None:
                return None
            self._guests[vm] = said
        return GuestDetails(net_ifaces=self._guests[vm].interfaces)

    async def _ask_guest(self, vm: VmId) -> GuestFacts | None:
        try:
            return await self._connection.call(
                self._lanes.guest,
                ("guest", vm),
                lambda handles: reading.ask_guest(handles, vm),
                self.options.guest_deadline_s,
            )
        except HypervisorError:
            return None

    async def _status(self, vm: VmId, found: DomainReading) -> Status:
        if not found.active or found.facts is None:
            return Status()
        await self._find_disk_error(vm, found)
        evidence, said = self._evidence.of(vm), self._guests.get(vm, GuestFacts())
        offset = found.facts.time_offset
        return Status(
            time_offset=evidence.time_offset if offset is None else offset,
            client_ip=evidence.client_ip,
            username=said.username,
            guest_ips=None if said.interfaces is None else guest_ips(said.interfaces),
            pause_code=stats.pause_code(found.state, found.reason, evidence),
        )

    async def _find_disk_error(self, vm: VmId, found: DomainReading) -> None:
        """Ask for the error that paused a domain before we connected."""
        failed = (found.state, found.reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
        if not failed or self._evidence.of(vm).pause_code is not None:
            return
        try:
            self._evidence.about(vm).pause_code = await self._connection.call(
                self._lanes.job,
                ("disks", vm),
                lambda handles: reading.disk_error(handles, vm),
                self.options.read_deadline_s,
            )
        except HypervisorError:
            return

    # --- statistics ---------------------------------------------------------------------------------------------

    async def device_sample(self) -> DeviceSample:
        """Read the device counters of all active domains. Raises HypervisorError."""
        async with self._turn():
            started = asyncio.get_running_loop().time()
            taken = await self._connection.call(
                self._lanes.device,
                next(self._calls),
                lambda handles: self._devices.sample(handles, started),
                self.options.device_deadline_s,
            )
        for vm in taken.keys() & self._guests.keys():
            taken[vm] = taken[vm]._replace(usage=self._guests[vm].usage)
        return DeviceSample(started, taken)

    async def host_stats(self) -> HostStats:
        """Read the host's own statistics. Raises HypervisorTimeout."""
        texts = await self._lanes.host.run("proc", host_stats.read, HOST_DEADLINE_S)
        found, self._ticks = host_stats.host_stats(texts, self._ticks, self._vms)
        return found


if TYPE_CHECKING:
    _port: Hypervisor = LibvirtHypervisor()
