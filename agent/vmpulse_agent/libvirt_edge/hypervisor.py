"""The hypervisor port on libvirt: what is called in which lane, and what is remembered between calls.

Nothing here interprets; stats, domain_xml, events and guest_agent do. What is remembered is bounded by the domains of
the last look, and belongs to the event loop, except for what the lanes fill (tokens.Lives, bulk.Devices).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.hypervisor import (
    ConnectionBack,
    ConnectionLost,
    DeviceCounters,
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
from vmpulse_agent.libvirt_edge.lanes import Lanes, lanes
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_local_qemu
from vmpulse_agent.libvirt_edge.questions import Questions, Topic
from vmpulse_agent.libvirt_edge.reading import DomainReading
from vmpulse_agent.libvirt_edge.stats import Moment
from vmpulse_agent.libvirt_edge.status import pause_code
from vmpulse_agent.libvirt_edge.surveys import Survey, Surveyor
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.libvirt_edge.tokens import Lives
from vmpulse_agent.measures import Calls
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import GuestDetails, Section, Status, guest_ips
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    from vmpulse_agent.hypervisor import Hypervisor

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

HOST_DEADLINE_S: Final = 2.0
AGAIN_S: Final = 0.25
"""After which a sample asks those again that another client was just asking: its call takes some milliseconds."""
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


def _guarded(
    lane: Callable[[Lanes], Lane],
) -> Callable[
    [Callable[Concatenate[LibvirtHypervisor, P], Coroutine[Any, Any, T]]],
    Callable[Concatenate[LibvirtHypervisor, P], Coroutine[Any, Any, T]],
]:
    """Let nothing but a HypervisorError out of a method of the port, and count what else there was in a lane's errors.

    Whoever calls goes on after a HypervisorError; any other would end all work for the host.
    """

    def guarded(
        method: Callable[Concatenate[LibvirtHypervisor, P], Coroutine[Any, Any, T]],
    ) -> Callable[Concatenate[LibvirtHypervisor, P], Coroutine[Any, Any, T]]:
        @wraps(method)
        async def call(self: LibvirtHypervisor, /, *args: P.args, **named: P.kwargs) -> T:
            try:
                return await method(self, *args, **named)
            except HypervisorError:
                raise
            except Exception as error:
                lane(self._lanes).measure.errors += 1
                raise self._connection.faults.made(method.__name__, error) from error

        return call

    return guarded


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
        listener = Listener(self._heard, self._lost, self._back, self._granted)
        self._connection = Connection(self.options, listener, self._lanes.hangable, calls.of("connect"))
        self._askers = Askers()
        self._mended = calls.mended
        self._calls = count()
        self._notify: Notify | None = None
        self._lives = self._new_lives()
        self._surveyor = Surveyor(self._connection, self._lanes, self._lives, self._askers)
        self._devices = bulk.Devices(self._lives)
        self._evidence = EvidenceBook()
        self._guests = GuestAsking(
            self._connection, self._lanes.guest, Askers(GUESTS), self._guest_changed, self._mended
        )
        self._settling = True
        self._withheld: set[VmId] = set()
        self._questions = Questions(self._connection, self._lanes.job, self._askers)
        self._asking_roles: dict[VmId, asyncio.Task[None]] = {}
        self._role_refused: set[VmId] = set()
        self._disks_unasked: set[VmId] = set()
        self._last_look_s = float("-inf")
        self._last_looks: dict[VmId, DomainLook] = {}
        self._heard_s: dict[VmId, float] = {}
        """When each domain's last event came."""
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
        self._surveyor.forget(self._lives)
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

    @_guarded(lambda lanes: lanes.read)
    async def facts(self) -> HypervisorFacts:
        """Give the facts of the host. Raises HypervisorError."""
        key = ("facts", next(self._calls))
        return await self._connection.call(self._lanes.read, key, reading.host_facts, self.options.read_deadline_s)

    def _new_lives(self) -> Lives:
        return Lives(self.options.run_dir if is_local_qemu(self.options.uri) else None)

    def _say(self, event: HypervisorEvent) -> None:
        if self._notify is not None:
            self._notify(event)

    def _heard(self, event: events.RawEvent) -> None:
        self._heard_s[event.vm] = asyncio.get_running_loop().time()
        if event.kind in events.DEVICE_EVENTS:
            self._devices.forget(event.vm)
        if events.asks_role(event, self._evidence):
            self._ask_role(event.vm)
        for meaning in events.translate(event, self._evidence):
            self._say(meaning)

    def _lost(self, why: str) -> None:
        """Forget what no event will mend: unseen, domains may begin anew under the same numbers, with other devices.

        Calls of before that still go on fill what they were begun with, and that is gone. A life that goes on is found
        again in the same place, with the same token.
        """
        self._lives = self._new_lives()
        self._devices = bulk.Devices(self._lives)
        self._surveyor.forget(self._lives)
        self._evidence.forget_all()
        self._role_refused.clear()
        self._say(ConnectionLost(why))

    def _back(self) -> None:
        self._guests.back()
        self._say_what_is_lacking()
        self._say(ConnectionBack())

    def _granted(self) -> None:
        self._guests.back()
        self._say_what_is_lacking()

    def _say_what_is_lacking(self) -> None:
        """Once for each change: the rest works, and nobody is to be told of it at every return."""
        if self.lacking != self._lacking:
            if self.lacking is None:
                log.info("guest agents may be asked now")
            else:
                log.warning("guest agents may not be asked, what they tell is absent: %s", self.lacking)
        self._lacking = self.lacking

    # --- looks --------------------------------------------------------------------------------------------------

    @_guarded(lambda lanes: lanes.look)
    async def look(self, *, states_only: bool = False) -> Look:
        """Look at all domains, active and inactive; see surveys. Raises HypervisorError."""
        survey = await (self._surveyor.states() if states_only else self._surveyor.whole())
        self._end_reboots(survey)
        domains = list(self._made(survey))
        if survey.partial:
            return Look(survey.moment.loop_s, domains, partial=True)
        self._remember(survey, domains)
        if not states_only:
            silent = frozenset(domain.vm for domain in domains if domain.answered is False)
            self._guests.silent(silent)
            self._questions.silent(silent)
        return Look(survey.moment.loop_s, domains)

    def _made(self, survey: Survey) -> Iterator[DomainLook]:
        """Make the look of each domain by itself: one that cannot be made is as it was, and was not asked."""
        for vm, seen in survey.seen.items():
            evidence, answered = self._evidence.of(vm), survey.answered[vm]
            try:
                yield stats.domain_look(seen.record, seen.life, evidence, answered=answered, moment=survey.moment)
            except Exception as error:  # noqa: BLE001 - whatever the data met, it costs one domain
                yield self._as_it_was(vm, error)
        for vm, fault in survey.faults.items():
            if vm not in survey.seen:
                yield self._as_it_was(vm, fault)

    def _as_it_was(self, vm: VmId, error: Exception) -> DomainLook:
        """It is there, and that is all that can be said: what is not told is no change, and no end."""
        self._fault(self._lanes.look, error)
        known = self._last_looks.get(vm)
        if known is None:
            return DomainLook(vm, 0, VmStatus.UNKNOWN, answered=None)
        return known._replace(answered=None, elapsed_ms=None)

    def _fault(self, lane: Lane, error: Exception) -> None:
        lane.measure.errors += 1
        self._connection.faults.tell(lane.name, error)

    def _end_reboots(self, survey: Survey) -> None:
        """A guest whose balloon driver has reported since its reboot runs again."""
        for vm in self._evidence.rebooting():
            seen = survey.seen.get(vm)
            # A look of before the reboot knows a report of before.
            if seen is not None and not self._heard_since(vm, survey.moment.loop_s):
                self._evidence.about(vm).driver_reported(stats.driver_reported(seen.record.stats))

    def _heard_since(self, vm: VmId, at: float) -> bool:
        """Whether an event of this domain has come since."""
        return self._heard_s.get(vm, float("-inf")) >= at

    def _remember(self, survey: Survey, domains: list[DomainLook]) -> None:
        for domain in domains:
            if domain.token and (domain.status in _BY_JOB or self._role_is_open(domain)):
                self._ask_role(domain.vm)
            if domain.answered and domain.vm in self._disks_unasked:
                self._disks_unasked.discard(domain.vm)
                self._say(SectionsStale(domain.vm, frozenset({Section.STATUS})))
        # An old look must not take away what is known of a domain that has come since.
        if survey.moment.loop_s >= self._last_look_s:
            self._last_look_s = survey.moment.loop_s
            self._last_looks = {domain.vm: domain for domain in domains}
            self._keep_only(survey)

    def _keep_only(self, survey: Survey) -> None:
        """Forget what is over. A domain that has been heard of since the look began may be another life by now."""
        active = {vm: seen.record.domain_id for vm, seen in survey.seen.items() if seen.record.active}
        since = {vm for vm in self._heard_s if self._heard_since(vm, survey.moment.loop_s)} | survey.faults.keys()
        present = survey.seen.keys() | since
        self._evidence.keep_only(present)
        self._lives.keep_only(active.items(), since)
        self._refused &= present
        self._role_refused &= present
        self._disks_unasked &= present
        self._questions.keep_only(present)
        self._guests.keep_only(active.keys() | since)
        self._heard_s = {vm: at for vm, at in self._heard_s.items() if vm in present}

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
            role = await self._questions.ask(Topic.ROLE, vm, reading.role)
        except (HypervisorTimeout, HypervisorUnavailable):
            return
        except HypervisorError:
            # As at the destination of a migration: not to be asked for at every look because nobody knows.
            self._role_refused.add(vm)
            return
        # An event that came meanwhile knows better.
        if before is not self._evidence.of(vm).role or before in _UNTIL_EVENT or role is before:
            return
        # That it was resumed meanwhile leaves no role behind, and nothing would ever end one taken on now.
        if role in _UNTIL_EVENT and self._heard_since(vm, asked_s):
            return
        self._evidence.about(vm).role = role
        if {before, role} - {None, Role.NONE}:
            self._say(LifecycleEvent(vm, LifecycleChange.OTHER))

    # --- sections -----------------------------------------------------------------------------------------------

    @_guarded(lambda lanes: lanes.read)
    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read the wanted sections of one domain. Raises HypervisorError if it is gone or nothing can be read."""
        lives = self._lives
        found = await self._connection.call(
            self._lanes.read,
            ("read", next(self._calls)),
            lambda handles: reading.read_domain(handles, vm, wanted, lives, self._mended),
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

    @_guarded(lambda lanes: lanes.guest)
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
        evidence, said = self._evidence.of(vm), None
        if found.facts.agent_connected and self.asks_guests:
            said = self._guests.facts(vm)
        said = said or GuestFacts()
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
            code = await self._questions.ask(Topic.DISKS, vm, reading.disk_error)
        except (HypervisorTimeout, HypervisorUnavailable):
            self._disks_unasked.add(vm)
        except HypervisorError:
            return
        else:
            self._evidence.about(vm).pause_code = code

    # --- statistics ---------------------------------------------------------------------------------------------

    @_guarded(lambda lanes: lanes.device)
    async def device_sample(self) -> DeviceSample:
        """Read the device counters of all active domains whose monitors do not hang. Raises HypervisorError.

        A domain that was passed over, since another client was just asking its monitor, is asked once more. One that is
        still passed over is left out: what was told of it stays, and says how old it is. Nothing was told yet of one
        whose monitor never gave anything, so it is told with what is known without.
        """
        moment, taken = await self._sampled(self._surveyor.trusted())
        passed_over = self._passed_over(taken)
        if taken.bare and self._connection.has_monitors:
            counters = {vm: one for vm, one in taken.counters.items() if vm not in passed_over}
            counters |= await self._sampled_again(taken.bare)
        else:
            counters = taken.counters
        for vm, one in counters.items():
            said = self._guests.facts(vm) if self.asks_guests else None
            if said is not None:
                counters[vm] = one._replace(usage=said.usage)
        return DeviceSample(moment.loop_s, counters)

    async def _sampled_again(self, vms: frozenset[VmId]) -> dict[VmId, DeviceCounters]:
        await asyncio.sleep(AGAIN_S)
        trusted = self._surveyor.trusted()
        with contextlib.suppress(HypervisorError):
            _, taken = await self._sampled(vms if trusted is None else vms & trusted)
            passed_over = self._passed_over(taken)
            return {vm: one for vm, one in taken.counters.items() if vm not in passed_over}
        return {}

    def _passed_over(self, taken: bulk.Sampled) -> frozenset[VmId]:
        return frozenset(vm for vm in taken.bare if self._surveyor.gave(vm, taken.counters[vm].token))

    async def _sampled(self, only: frozenset[VmId] | None) -> tuple[Moment, bulk.Sampled]:
        async with self._surveyor.turn():
            moment, devices = Moment.now(), self._devices

            def work(handles: Handles) -> bulk.Sampled:
                with self._askers.one(handles) as connection:
                    return devices.sample(connection, handles, moment, only)

            taken = await self._connection.call(
                self._lanes.device, next(self._calls), work, self.options.device_deadline_s
            )
        for error in taken.faults.values():
            self._fault(self._lanes.device, error)
        return moment, taken

    @_guarded(lambda lanes: lanes.host)
    async def host_stats(self) -> HostStats:
        """Read the host's own statistics. Raises HypervisorError."""
        texts = await self._lanes.host.run("proc", host_stats.read, HOST_DEADLINE_S)
        found, self._ticks = host_stats.host_stats(texts, self._ticks)
        return found


if TYPE_CHECKING:
    _port: Hypervisor = LibvirtHypervisor()
