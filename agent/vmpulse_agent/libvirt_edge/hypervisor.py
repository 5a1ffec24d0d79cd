"""The hypervisor port on libvirt: what is called in which lane, and what is remembered between calls.

Nothing here interprets; stats, domain_xml, events and guest_agent do. What is remembered is bounded by the domains of
the last look, and belongs to the event loop, except for what the lanes fill (tokens.Lives, bulk.Devices).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorTimeout
from vmpulse_agent.hypervisor import (
    ConnectionBack,
    ConnectionLost,
    DeviceSample,
    DomainLook,
    HypervisorEvent,
    HypervisorFacts,
    LifecycleChange,
    LifecycleEvent,
    Look,
    Notify,
    SectionReading,
    SectionsStale,
)
from vmpulse_agent.libvirt_edge import bulk, clock_offset, domain_xml, events, host_stats, reading, stats
from vmpulse_agent.libvirt_edge.connection import Connection, Listener
from vmpulse_agent.libvirt_edge.evidence import EvidenceBook, Role
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.guest_asking import GuestAsking
from vmpulse_agent.libvirt_edge.handles import GUESTS, Askers, Handles
from vmpulse_agent.libvirt_edge.host_stats import CpuTicks
from vmpulse_agent.libvirt_edge.lanes import lanes
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu
from vmpulse_agent.libvirt_edge.reading import DomainReading
from vmpulse_agent.libvirt_edge.stats import Moment
from vmpulse_agent.libvirt_edge.status import pause_code
from vmpulse_agent.libvirt_edge.surveys import Survey, Surveyor
from vmpulse_agent.libvirt_edge.tokens import Lives
from vmpulse_agent.measures import Calls
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import GuestDetails, Section, Status, guest_ips
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    from vmpulse_agent.hypervisor import Hypervisor

T = TypeVar("T")
log = logging.getLogger(__name__)

HOST_DEADLINE_S: Final = 2.0
_POSTCOPY_FAILED: Final = frozenset(
    {
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    }
)
_BY_JOB: Final = frozenset(
    {
        VmStatus.MIGRATION_SOURCE,
        VmStatus.MIGRATION_DESTINATION,
        VmStatus.SAVING_STATE,
        VmStatus.RESTORING_STATE,
        VmStatus.WAIT_FOR_LAUNCH,
    }
)
_UNTIL_EVENT: Final = frozenset({Role.DESTINATION, Role.RESTORING})
"""Whoever is started by a migration or from a file is so until it is resumed or paused, job or not."""
_GUEST_SECTIONS: Final = frozenset({Section.STATUS, Section.GUEST_DETAILS})


class LibvirtHypervisor:
    """The hypervisor port (see vmpulse_agent.hypervisor) on one libvirt.

    Args:
        options: where and how.
        calls: where the calls are counted, by lane.
    """

    def __init__(self, options: LibvirtOptions | None = None, calls: Calls | None = None) -> None:
        self.options = options or LibvirtOptions()
        calls = calls or Calls()
        self._lanes = lanes(calls)
        listener = Listener(self._heard, self._lost, self._back)
        self._connection = Connection(self.options, listener, self._lanes.hangable, calls.of("connect"))
        self._askers = Askers()
        self._mended = calls.mended
        self._calls = count()
        self._notify: Notify | None = None
        self._lives = Lives(self.options.run_dir if is_local_qemu(self.options.uri) else None)
        self._surveyor = Surveyor(self._connection, self._lanes, self._lives, self._askers)
        self._devices = bulk.Devices(self._lives)
        self._evidence = EvidenceBook()
        self._guests = GuestAsking(
            self._connection, self._lanes.guest, Askers(GUESTS), self._guest_changed, self._mended
        )
        self._settling = True
        self._withheld: set[VmId] = set()
        self._asking_roles: dict[VmId, asyncio.Task[None]] = {}
        self._role_refused: set[VmId] = set()
        self._last_look_s = float("-inf")
        self._last_event_s = float("-inf")
        self._refused: set[VmId] = set()
        self._lacking: str | None = None
        self._ticks: CpuTicks | None = None

    # --- the connection -----------------------------------------------------------------------------------------

    async def open(self, notify: Notify) -> None:
        """Connect; see the port. Raises HypervisorUnavailable, HypervisorTimeout."""
        self._notify = notify
        await self._connection.open()
        self._guests.start()
        self._say_what_is_lacking()

    async def close(self) -> None:
        """Let go of the connection. Threads that are stuck in a call end when it does."""
        self._notify = None
        for task in self._asking_roles.values():
            task.cancel()
        self._surveyor.forget()
        await self._guests.stop()
        for lane in self._lanes:
            lane.close()
        await self._connection.close()

    @property
    def asks_guests(self) -> bool:
        """Whether guest agents can be asked: it was allowed by us and by the daemon."""
        return self._connection.asks_guests

    @property
    def lacking(self) -> str | None:
        """Why guest agents cannot be asked, although the setting allows it; None: nothing is amiss."""
        return self._connection.refused

    async def facts(self) -> HypervisorFacts:
        """Give the facts of the host. Raises HypervisorError."""
        key = ("facts", next(self._calls))
        return await self._connection.call(self._lanes.read, key, reading.host_facts, self.options.read_deadline_s)

    def _apart(self, handles: Handles, work: Callable[[libvirt.virConnect], T]) -> T:
        """Do what may hang on a connection of its own. For lanes."""
        with self._askers.one(handles) as connection:
            return work(connection)

    def _say(self, event: HypervisorEvent) -> None:
        if self._notify is not None:
            self._notify(event)

    def _heard(self, event: events.RawEvent) -> None:
        self._last_event_s = asyncio.get_running_loop().time()
        if event.kind in events.DEVICE_EVENTS:
            self._devices.forget(event.vm)
        if events.asks_role(event, self._evidence):
            self._ask_role(event.vm)
        for meaning in events.translate(event, self._evidence):
            self._say(meaning)

    def _lost(self, why: str) -> None:
        self._surveyor.forget()
        self._evidence.forget_all()
        self._role_refused.clear()
        self._say(ConnectionLost(why))

    def _back(self) -> None:
        self._say_what_is_lacking()
        self._say(ConnectionBack())

    def _say_what_is_lacking(self) -> None:
        """Once for each change: the rest works, and nobody is to be told of it at every return."""
        if self.lacking != self._lacking:
            if self.lacking is None:
                log.info("guest agents may be asked now")
            else:
                log.warning("guest agents may not be asked, what they tell is absent: %s", self.lacking)
        self._lacking = self.lacking

    # --- looks --------------------------------------------------------------------------------------------------

    async def look(self, *, states_only: bool = False) -> Look:
        """Look at all domains, active and inactive; see surveys. Raises HypervisorError."""
        survey = await (self._surveyor.states() if states_only else self._surveyor.whole())
        self._end_reboots(survey)
        domains = [
            stats.domain_look(
                record, life, self._evidence.of(record.vm), answered=survey.answered[record.vm], moment=survey.moment
            )
            for record, life in survey.seen.values()
        ]
        if survey.partial:
            return Look(survey.moment.loop_s, domains, partial=True)
        self._remember(survey, domains)
        if not states_only:
            self._guests.silent(frozenset(domain.vm for domain in domains if domain.answered is False))
        return Look(survey.moment.loop_s, domains)

    def _end_reboots(self, survey: Survey) -> None:
        """A guest whose balloon driver has reported since its reboot runs again."""
        for vm, rebooted_s in self._evidence.rebooting().items():
            seen = survey.seen.get(vm)
            if seen is not None and stats.driver_reported_since(seen.record.stats, rebooted_s):
                self._evidence.about(vm).rebooted_s = None

    def _remember(self, survey: Survey, domains: list[DomainLook]) -> None:
        for domain in domains:
            if domain.token and (domain.status in _BY_JOB or self._role_is_open(domain)):
                self._ask_role(domain.vm)
        # An old look must not take away what is known of a domain that has come since.
        if survey.moment.loop_s >= max(self._last_look_s, self._last_event_s):
            self._last_look_s = survey.moment.loop_s
            self._keep_only(survey)

    def _keep_only(self, survey: Survey) -> None:
        incarnations = {(vm, seen.record.domain_id) for vm, seen in survey.seen.items() if seen.record.active}
        self._evidence.keep_only(survey.seen.keys())
        self._lives.keep_only(incarnations)
        self._refused &= survey.seen.keys()
        self._role_refused &= survey.seen.keys()
        self._guests.keep_only({vm for vm, _ in incarnations})

    def _role_is_open(self, domain: DomainLook) -> bool:
        """Whether it has to be asked once: it may have been migrating or the like when we connected."""
        if not (domain.answered and self._connection.has_monitors):
            return False
        return self._evidence.of(domain.vm).role is None and domain.vm not in self._role_refused

    def _ask_role(self, vm: VmId) -> None:
        """Verify a role in a migration: the end of one that failed, or began before we connected, has no event."""
        if vm not in self._asking_roles:
            task = self._asking_roles[vm] = asyncio.create_task(self._verify_role(vm))
            task.add_done_callback(lambda _: self._asking_roles.pop(vm, None))

    async def _verify_role(self, vm: VmId) -> None:
        before, asked_s = self._evidence.of(vm).role, asyncio.get_running_loop().time()
        try:
            role = await self._connection.call(
                self._lanes.job,
                ("role", vm),
                lambda handles: self._apart(handles, lambda connection: reading.role(connection, vm)),
                self.options.read_deadline_s,
            )
        except HypervisorTimeout:
            return
        except HypervisorError:
            # As at the destination of a migration: not to be asked for at every look because nobody knows.
            self._role_refused.add(vm)
            return
        # An event that came meanwhile knows better.
        if before is not self._evidence.of(vm).role or before in _UNTIL_EVENT or role is before:
            return
        # That it was resumed meanwhile leaves no role behind, and nothing would ever end one taken on now.
        if role in _UNTIL_EVENT and self._last_event_s >= asked_s:
            return
        self._evidence.about(vm).role = role
        if {before, role} - {None, Role.NONE}:
            self._say(LifecycleEvent(vm, LifecycleChange.OTHER))

    # --- sections -----------------------------------------------------------------------------------------------

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read the wanted sections of one domain. Raises HypervisorError if it is gone or nothing can be read."""
        found = await self._connection.call(
            self._lanes.read,
            ("read", next(self._calls)),
            lambda handles: reading.read_domain(handles, vm, wanted, self._lives, self._mended),
            self.options.read_deadline_s,
        )
        if Section.CONFIG in wanted:
            self._note_refusal(vm, found.refused)
        facts = found.facts
        if facts is None:
            return SectionReading(vm, config=found.config)
        self._guests.channel(vm, found.domain_id, connected=found.active and facts.agent_connected)
        withheld = self._settling and self.asks_guests and self._guests.pending(vm)
        if withheld:
            self._withheld.add(vm)
        return SectionReading(
            vm,
            info=facts.info if Section.INFO in wanted else None,
            config=found.config,
            status=await self._status(vm, found) if Section.STATUS in wanted and not withheld else None,
            guest_details=self._guest_details(vm, found) if Section.GUEST_DETAILS in wanted else None,
        )

    async def settle(self) -> None:
        """Wait for the guests' first answers; see the port."""
        await self._guests.settle(self.options.guest_deadline_s)
        self._settling = False
        withheld, self._withheld = self._withheld, set()
        for vm in withheld:
            self._guest_changed(vm)

    def _guest_changed(self, vm: VmId) -> None:
        self._say(SectionsStale(vm, _GUEST_SECTIONS))

    def _note_refusal(self, vm: VmId, why: str | None) -> None:
        """Say once of each domain that its configuration is not told."""
        if why is None:
            self._refused.discard(vm)
        elif vm not in self._refused:
            self._refused.add(vm)
            log.warning("the configuration of %s is not told: %s", vm_text(vm), why)

    def _guest_details(self, vm: VmId, found: DomainReading) -> GuestDetails | None:
        """What the guest has said, as a section; None, while it has not answered yet, leaves the section as it was."""
        if not found.active or found.facts is None:
            return None
        if not (found.facts.agent_connected and self.asks_guests):
            return GuestDetails()
        said = self._guests.facts(vm)
        return None if said is None else GuestDetails(apps_list=said.apps, net_ifaces=said.interfaces)

    async def _status(self, vm: VmId, found: DomainReading) -> Status:
        if not found.active or found.facts is None:
            return Status()
        await self._find_disk_error(vm, found)
        self._note_reading(vm, found, found.facts)
        evidence, said = self._evidence.of(vm), self._guests.facts(vm) or GuestFacts()
        return Status(
            time_offset=evidence.told_offset,
            client_ip=evidence.client_ip,
            username=said.username,
            session=said.session,
            guest_ips=None if said.interfaces is None else guest_ips(said.interfaces),
            pause_code=pause_code(found.state, found.reason, evidence),
            watchdog_event=evidence.watchdog,
        )

    def _note_reading(self, vm: VmId, found: DomainReading, facts: domain_xml.Facts) -> None:
        """Take what a reading tells for evidence, as after a start of ours, when no event has told it."""
        evidence = self._evidence.about(vm)
        if facts.agent_connected and not evidence.rebooting:
            evidence.agent_came = True
        if (found.state, found.reason) in _POSTCOPY_FAILED:
            evidence.postcopy_failed = True
        offset = evidence.clock_offset if facts.time_offset is None else facts.time_offset
        if offset is not None:
            evidence.told_offset = clock_offset.steady(evidence.told_offset, offset)

    async def _find_disk_error(self, vm: VmId, found: DomainReading) -> None:
        """Ask for the error that paused a domain before we connected."""
        failed = (found.state, found.reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
        if not failed or self._evidence.of(vm).pause_code is not None:
            return
        try:
            self._evidence.about(vm).pause_code = await self._connection.call(
                self._lanes.job,
                ("disks", vm),
                lambda handles: self._apart(handles, lambda connection: reading.disk_error(connection, vm)),
                self.options.read_deadline_s,
            )
        except HypervisorError:
            return

    # --- statistics ---------------------------------------------------------------------------------------------

    async def device_sample(self) -> DeviceSample:
        """Read the device counters of all active domains whose monitors do not hang. Raises HypervisorError."""
        only = self._surveyor.trusted()
        async with self._surveyor.turn():
            moment = Moment.now()
            taken = await self._connection.call(
                self._lanes.device,
                next(self._calls),
                lambda handles: self._apart(
                    handles, lambda connection: self._devices.sample(connection, handles, moment, only)
                ),
                self.options.device_deadline_s,
            )
        for vm, counters in taken.items():
            said = self._guests.facts(vm)
            if said is not None:
                taken[vm] = counters._replace(usage=said.usage)
        return DeviceSample(moment.loop_s, taken)

    async def host_stats(self) -> HostStats:
        """Read the host's own statistics. Raises HypervisorTimeout."""
        texts = await self._lanes.host.run("proc", host_stats.read, HOST_DEADLINE_S)
        found, self._ticks = host_stats.host_stats(texts, self._ticks)
        return found


if TYPE_CHECKING:
    _port: Hypervisor = LibvirtHypervisor()
