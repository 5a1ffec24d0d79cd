"""One host's side of the protocol: looks, readings and events in; stream messages out. No I/O and no clock.

Rules of this file.
- Everything published goes through ``_say``, which counts ``seq``. Nothing is said while the broker is away, and what
  was said but not drained when it went leaves a gap, for a reply may have named its number. All of it is still in the
  ledger and is said from there on reconnect, so memory does not grow with the outage (promise A3).
- Before the first roster (``begin``) nothing is published. It announces all that was read so far, so that a restart of
  the agent costs no detail traffic; what is read later travels as change events.
- A roster is said whole at the beginning, after a connect, every 5 minutes and where facts have changed; in between as
  the difference to what was said before (``membership``). "Roster" below is either.
- Order within one drain: roster, change events, frame, device statistics. A frame is never sent under a layout whose
  roster was not.
- When a change event may be said is change_schedule's affair, what becomes of device statistics device_report's.
- Device statistics are no part of the stream and have numbers of their own. A report that falls due while the broker is
  away is made up for on reconnect, by the newest sample; one that was lost on its way falls due again. Either way the
  rates then are over all the time since what came last.

Times are seconds on the caller's monotonic clock; the wire carries milliseconds since the epoch began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from vmpulse_agent.allowance import Allowance
from vmpulse_agent.change_schedule import ChangeKey, ChangeSchedule
from vmpulse_agent.device_report import DeviceReport
from vmpulse_agent.endings import Endings
from vmpulse_agent.host_values import host_values, with_sizes
from vmpulse_agent.hypervisor import DomainLook, Exit, LifecycleEvent, Look, SectionReading
from vmpulse_agent.ledger import Ledger, Row
from vmpulse_agent.membership import Membership
from vmpulse_contract import limits, sections, topology, wire
from vmpulse_contract.device_columns import pack_columns
from vmpulse_contract.errors import MessageError
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.roster_change import RosterChangeMessage
from vmpulse_contract.sections import ABSENT, BODIED, Section, Status
from vmpulse_contract.stream import (
    ChangeEvent,
    Frame,
    Goodbye,
    HostFacts,
    HostValues,
    Roster,
    RosterMessage,
    Tombstone,
)
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import GoodbyeReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmpulse_agent.hypervisor import DeviceSample
    from vmpulse_contract.verbs import HostStats

URGENT_GAP_S: Final = 0.2
URGENT_BURST: Final = 3
"""Rosters and extra frames go out 5 times a second for each host; up to three in a row do not wait."""
BALLOON_GAP_S: Final = 10.0
BALLOON_BURST: Final = 3
"""A guest may change its balloon once a second: a host tells of balloons three times in a row, then every 10 s."""
ROSTER_PERIOD_S: Final = 300.0
"""A whole roster every 5 minutes, so that a reader of the one exchange can start at any time."""
TOMBSTONE_S: Final = 3600.0
EMPTY_LOOKS_BELIEVED: Final = 3
"""An empty list from a dying hypervisor has powered off whole hosts elsewhere (OpenNebula #5564): look again."""
EMPTY_TICKS_BELIEVED: Final = 1.5
"""The three looks span so many ticks at least."""


class Policy(NamedTuple):
    """The session's own settings, in seconds."""

    damping_s: float = 3.0
    unresponsive_after_s: float = 60.0
    tombstone_s: float = TOMBSTONE_S


class Outgoing(NamedTuple):
    """One message to publish, in this order. ``change`` is set where the confirm matters; ``seq`` goes back with it.

    Device statistics have their own number there.
    """

    kind: Kind
    exchange: str
    routing_key: str
    body: bytes
    seq: int
    expiration_ms: int | None = None
    change: ChangeKey | None = None


class Counters(msgspec.Struct):
    """What the session has done, for metrics."""

    frames: int = 0
    frames_withheld: int = 0
    """Ticks whose frame nobody could be told of; the next frame says all that they would have said."""
    rosters: int = 0
    roster_changes: int = 0
    """Differences that were said in place of a roster."""
    changes: int = 0
    devices: int = 0
    """Messages of device statistics."""
    coalesced: int = 0
    flaps: list[int] = msgspec.field(default_factory=lambda: [0] * len(Section))
    """By section: times that one read as it was before its last change, told or not."""
    looks: int = 0
    looks_failed: int = 0
    looks_late: int = 0
    bodies_refused: int = 0
    vms_refused: int = 0
    """Of the last look: VMs beyond the limit of a host, which nobody is told of."""
    bytes_published: int = 0


class Session:
    """The protocol state of one host within one epoch.

    Args:
        host: the host's id.
        epoch: a random number above 0, new at each agent start.
        facts: what rosters say of the host.
        started: now, when the epoch begins.
        policy: damping and the like.
    """

    def __init__(
        self, host: HostId, epoch: int, facts: HostFacts, started: float, policy: Policy | None = None
    ) -> None:
        self.host = host
        self.epoch = epoch
        self.facts = facts
        self.started = started
        self.policy = policy or Policy()
        self.seq = 0
        self.ledger = Ledger()
        self.counters = Counters()
        self._membership = Membership(self.ledger, self.policy.tombstone_s)
        self.tombstones = self._membership.tombstones
        self._begun = False
        self._connected = False
        self._outgoing: list[Outgoing] = []
        self._unread: list[VmId] = []
        self.changes = ChangeSchedule(self.policy.damping_s)
        self._statuses: dict[VmId, Status] = {}
        self._endings = Endings()
        self._look_started = self._values_started = float("-inf")
        self._empty_looks = 0
        self._empty_since = 0.0
        self.devices = DeviceReport()
        self._host_values: HostValues | None = None
        self._roster_due = False
        self._roster_at = float("-inf")
        self._rosters = Allowance(URGENT_GAP_S, URGENT_BURST)
        self._tick_due = False
        self._frame_due = False
        self._extra_frames = Allowance(URGENT_GAP_S, URGENT_BURST)
        self._balloons = Allowance(BALLOON_GAP_S, BALLOON_BURST)

    # --- inputs -------------------------------------------------------------------------------------------------

    def looked(self, look: Look, now: float) -> None:
        """Take in a good look.

        One that began before another that was taken in is late: states and membership are known better by now. Its
        values still count, unless newer ones are in; a slow host with many events would otherwise never have any. Of a
        partial look too the values count, and nothing else.
        """
        # Of an inactive domain all is known without a monitor, so it does not tell which kind of look this is.
        whole = any(domain.token and domain.answered is not None for domain in look.domains)
        if look.partial or look.started <= self._look_started:
            self.counters.looks_late += not look.partial
            if whole and look.started > self._values_started:
                self._take_values(look)
            return
        if whole:
            self._values_started = look.started
        self._look_started = look.started
        self.counters.looks += 1
        if not self._believed(look):
            return
        if self._observe(self._bounded(look.domains), look.started):
            self.ledger.relayout()
            self._roster_due = True
        self._judge_monitors(now)
        self._flush(now)

    def look_failed(self, now: float) -> None:
        """A look gave nothing: nothing follows, except that ages grow (promise A2)."""
        self.counters.looks_failed += 1
        self._empty_looks = 0
        self._flush(now)

    def lifecycle(self, event: LifecycleEvent, now: float) -> None:
        """Take note of an announced change: it explains what the next look will show."""
        row = self.ledger.rows.get(event.vm)
        if row is None:
            return  # a life that no look has shown has no end to explain, and its note would stay for ever
        self._endings.note(row, event, now)

    def section_read(self, reading: SectionReading, now: float) -> None:
        """Take in sections of one domain as read. One that left meanwhile is ignored."""
        row = self.ledger.rows.get(reading.vm)
        if row is None:
            return
        if reading.config is not None:
            self._hold(row, Section.CONFIG, reading.config, now)
        if reading.info is not None:
            self._encode(row, Section.INFO, reading.info, now)
        if reading.status is not None:
            self._statuses[row.vm] = reading.status
            self._encode_status(row, now)
        # Of a life that no look has shown there may be none to come that ends it: the details would stay with a VM that
        # is down. When a look shows it, all is read anew.
        if reading.guest_details is not None and row.token:
            self._encode(row, Section.GUEST_DETAILS, reading.guest_details, now)
        self._flush(now)

    def devices_sampled(self, sample: DeviceSample, now: float) -> None:
        """Take in a sample of devices; it is said if a report is due."""
        self.devices.take(sample, self.ledger.rows)
        self._flush(now)

    def balloon_changed(self, vm: VmId, kib: int, now: float) -> None:
        """The hypervisor announces a balloon's size: the VM's device statistics are said ahead of the next report."""
        self.devices.balloon_changed(vm, kib, now)
        self._flush(now)

    def report_devices(self, now: float) -> None:
        """A report of devices is due: say the newest sample, or the next one if that has been said."""
        self.devices.due = True
        self._flush(now)

    def devices_told(self, number: int) -> None:
        """The broker has taken a message of device statistics."""
        self.devices.told(number)

    def devices_lost(self, number: int, now: float) -> None:
        """A message of device statistics never came to the broker: the next sample says what it would have said."""
        self.devices.lost(number)
        self._flush(now)

    def host_sampled(self, stats: HostStats | None, now: float) -> None:
        """Take in the host's own statistics, for the next frame; None: they could not be read and are not known."""
        self._host_values = None if stats is None else host_values(stats)
        facts = self.facts if stats is None else with_sizes(self.facts, stats)
        if facts != self.facts:
            self.facts = facts
            self._whole_roster_due()
            self._flush(now)

    def begin(self, now: float) -> None:
        """The first look and the first readings are in: announce all of it by roster, and start the stream."""
        self.ledger.announce_all()
        self._begun = self._frame_due = True
        self._whole_roster_due()
        self._flush(now)

    def tick(self, now: float) -> None:
        """Publish a frame: the look of this tick is in, or has failed."""
        self._tick_due = True
        self.counters.frames_withheld += not (self._begun and self._connected)
        if now - self._roster_at >= ROSTER_PERIOD_S:
            self._whole_roster_due()
        self._flush(now)

    def wake(self, now: float) -> None:
        """Do what was put off until now (see ``wake_at``)."""
        self._flush(now)

    def connected(self, now: float) -> None:
        """The broker takes messages again: say at once where things stand, unconfirmed changes included."""
        self._connected = self._frame_due = True
        self._whole_roster_due()
        self._rosters.renew()
        self._extra_frames.renew()
        unannounced = self.ledger.unannounced() if self._begun else ()
        self.changes.renew((ChangeKey(row.vm, section) for row, section in unannounced), now)
        self._flush(now)

    def disconnected(self) -> None:
        """The broker is away: nothing is said until ``connected``."""
        self._connected = False
        self._outgoing.clear()

    def confirmed(self, change: ChangeKey, seq: int) -> None:
        """The broker has taken responsibility for a change event; a later one of the same section still waits."""
        self.changes.confirmed(change, seq)

    def refused(self, change: ChangeKey, seq: int, now: float) -> None:
        """The broker has refused a change event: say it again from state, damped like any other."""
        self.changes.refused(change, seq, now)

    def goodbye(self) -> None:
        """Publish a clean stop as the last message of the epoch."""
        if self._begun and self._connected:
            body = Goodbye(wire.VERSION, self.epoch, self._next_seq(), GoodbyeReason.STOPPED)
            self._say(Kind.GOODBYE, topology.RUNTIME, topology.goodbye_key(self.host), wire.write(body))
        self._connected = False

    # --- outputs ------------------------------------------------------------------------------------------------

    def drain(self) -> list[Outgoing]:
        """Hand out the messages to publish, in order; each is handed out once."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def drain_unread(self) -> list[VmId]:
        """Hand out the VMs whose sections have to be read because a life of theirs has begun or ended."""
        unread, self._unread = self._unread, []
        return unread

    def wake_at(self) -> float | None:
        """When to call ``wake``: the earliest moment at which something put off may be said. None: nothing is."""
        if not (self._begun and self._connected):
            return None
        if self._roster_due:
            return self._rosters.next_at()
        change_at = self.changes.next_at()
        moments = [] if change_at is None else [change_at]
        if self.devices.balloons_unsaid:
            moments.append(self._balloons.next_at())
        if self._frame_due:
            moments.append(self._extra_frames.next_at())
        return min(moments, default=None)

    @property
    def ready(self) -> bool:
        """Whether there is something true to answer verbs from."""
        return self._begun

    @property
    def looked_at(self) -> float:
        """When the last good look began; minus infinity before the first."""
        return self._look_started

    def monotonic_ms(self, now: float) -> int:
        """The agent's time on the wire: milliseconds since the epoch began."""
        return max(0, int((now - self.started) * 1000))

    def roster(self, now: float) -> Roster:
        """The roster as of now."""
        return self._membership.whole(self.facts, self.monotonic_ms(now), now)

    # --- looks --------------------------------------------------------------------------------------------------

    def _believed(self, look: Look) -> bool:
        """An empty list while VMs are known is believed when events explain it, or at the third in a row."""
        if look.domains or not self.ledger.rows:
            self._empty_looks = 0
            return True
        if not self._empty_looks:
            self._empty_since = look.started
        self._empty_looks += 1
        if all(map(self._endings.explain_absence, self.ledger.rows)):
            return True
        # Looks that follow on announcements within milliseconds would see one and the same trouble three times.
        long_enough = look.started - self._empty_since >= EMPTY_TICKS_BELIEVED * self.facts.tick_ms / 1000
        return self._empty_looks >= EMPTY_LOOKS_BELIEVED and long_enough

    def _take_values(self, look: Look) -> None:
        self._values_started = look.started
        for domain in look.domains:
            row = self.ledger.rows.get(domain.vm)
            if row is not None and row.token == domain.token:
                row.observe_values(domain, look.started)

    def _bounded(self, domains: Sequence[DomainLook]) -> Sequence[DomainLook]:
        """Keep to the limit: beyond it the VMs already told keep their places, and newcomers are counted."""
        most = limits.VMS_PER_HOST.maximum
        self.counters.vms_refused = max(0, len(domains) - most)
        if not self.counters.vms_refused:
            return domains
        return sorted(domains, key=lambda look: (look.vm not in self.ledger.rows, look.vm))[:most]

    def _observe(self, domains: Iterable[DomainLook], started: float) -> bool:
        """Bring the rows up to the look. Tells whether the layout changes."""
        rows, changed, seen = self.ledger.rows, False, 0
        for look in domains:
            row = rows.get(look.vm)
            if row is None:
                row = rows[look.vm] = Row(look, started)
                self._unread.append(look.vm)
                changed = True
            elif row.token != look.token:
                self._end(row, look.exit, started)
                row.reincarnate(look.token)
                self._statuses.pop(row.vm, None)
                self._unread.append(look.vm)
                changed = True
            elif row.status is not look.status:
                self._frame_due = True
            self._endings.disproved(row.vm, started)
            row.observe(look, started)
            seen += 1
        if seen != len(rows):
            self._forget_absent({look.vm for look in domains}, started)
            changed = True
        return changed

    def _forget_absent(self, present: set[VmId], started: float) -> None:
        for vm in self.ledger.rows.keys() - present:
            self._end(self.ledger.rows.pop(vm), None, started)
            self._endings.forget(vm)
            self._statuses.pop(vm, None)
            self.changes.forget(vm)

    def _end(self, row: Row, remembered: Exit | None, at: float) -> None:
        """Leave a tombstone for the incarnation that is over, if there was one."""
        ended = self._endings.over(row, remembered)
        if ended is not None:
            self._membership.ended(Tombstone(row.vm, row.token, *ended, self.monotonic_ms(at)))

    def _judge_monitors(self, now: float) -> None:
        """A monitor that was asked and silent for long is reported so, in ``status`` (VDSM: vm_command_timeout, 60 s).

        Only looks that asked it count: when the hypervisor is away, nobody knows how its VMs' monitors do.
        """
        for row in self.ledger.order:
            silent_s = 0.0 if row.silent_since is None else row.silent_until - row.silent_since
            response = -1 if silent_s >= self.policy.unresponsive_after_s else 0
            if response != row.monitor_response:
                row.monitor_response = response
                self._encode_status(row, now)

    # --- sections -----------------------------------------------------------------------------------------------

    def _encode_status(self, row: Row, now: float) -> None:
        status = self._statuses.get(row.vm)
        if status is None:
            return
        if row.token:
            status = msgspec.structs.replace(status, monitor_response=row.monitor_response)
        self._encode(row, Section.STATUS, status, now)

    def _encode(self, row: Row, section: Section, content: sections.SectionBody, now: float) -> None:
        try:
            body = sections.encode(content)
        except MessageError:
            # The edge bounds and cleans what guests say; what still cannot travel costs only its own section.
            self.counters.bodies_refused += 1
            return
        self._hold(row, section, body, now)

    def _hold(self, row: Row, section: Section, body: bytes, now: float) -> None:
        key = ChangeKey(row.vm, section)
        was, before = row.current[section], row.before[section]
        told = not row.hold(section, body)
        self.counters.flaps[section] += ABSENT != before == row.current[section] != was
        if told:
            self.changes.unchanged(key)
        elif self._begun:
            self.counters.coalesced += self.changes.changed(key, now)

    def _whole_roster_due(self) -> None:
        self._membership.forget_said()
        self._roster_due = True

    # --- saying -------------------------------------------------------------------------------------------------

    def _flush(self, now: float) -> None:
        if not (self._begun and self._connected):
            return
        # Compared as wake_at gives it: ``now - at >= span`` may still be false at ``at + span``, by rounding.
        if self._roster_due and now >= self._rosters.next_at():
            self._say_roster(now)
        if self._roster_due:
            return
        for key in self.changes.take_due(now):
            self._say_change(key, now)
        if self._tick_due:
            self._say_frame(now)
        elif self._frame_due and now >= self._extra_frames.next_at():
            # Only extra frames keep a distance: a change right after a tick does not wait.
            self._extra_frames.take(now)
            self._say_frame(now)
        self._say_devices(now)

    def _say_roster(self, now: float) -> None:
        self._roster_due, self._frame_due = False, True
        self._rosters.take(now)
        change = self._membership.difference(self.monotonic_ms(now), now)
        if change is None:
            self._roster_at = now
            self.counters.rosters += 1
            whole = RosterMessage(wire.VERSION, self.epoch, self._next_seq(), self.roster(now))
            self._say(Kind.ROSTER, topology.RUNTIME, topology.roster_key(self.host), wire.write(whole))
        else:
            self.counters.roster_changes += 1
            part = RosterChangeMessage(wire.VERSION, self.epoch, self._next_seq(), change)
            self._say(Kind.ROSTER_CHANGE, topology.RUNTIME, topology.roster_change_key(self.host), wire.write(part))
        self._membership.said()

    def _say_change(self, key: ChangeKey, now: float) -> None:
        row = self.ledger.rows[key.vm]
        new, previous = row.announce(key.section)
        self.ledger.touched()
        if new == ABSENT:
            return
        body = row.bodies[key.section] if key.section in BODIED else None
        if body is not None and len(body) > limits.BODY_PUSH_BYTES.maximum:
            body = None
        event = ChangeEvent(wire.VERSION, self.epoch, self._next_seq(), key.vm, key.section, new, previous, body)
        self.changes.said(key, self.seq, now)
        self.counters.changes += 1
        routing_key = topology.change_key(self.host, key.section)
        self._say(Kind.CHANGE, topology.CHANGES, routing_key, wire.write(event), change=key)

    def _say_frame(self, now: float) -> None:
        self._tick_due = self._frame_due = False
        self.counters.frames += 1
        ledger = self.ledger
        frame = Frame(
            wire.VERSION,
            self.epoch,
            self._next_seq(),
            ledger.layout,
            len(ledger),
            ledger.digest(),
            self.monotonic_ms(now),
            *ledger.runtime_columns(now),
            self._host_values,
        )
        expiration = topology.FRAME_EXPIRATION_TICKS * self.facts.tick_ms
        self._say(Kind.FRAME, topology.RUNTIME, topology.frame_key(self.host), wire.write(frame), expiration)

    def _say_devices(self, now: float) -> None:
        report, key = self.devices, topology.devices_key(self.host)
        refused = report.refused
        messages = report.say(self.epoch, self.ledger.order, self.monotonic_ms)
        if report.balloons_unsaid and now >= self._balloons.next_at():
            self._balloons.take(now)
            messages += report.say_balloons(self.epoch, self.ledger.rows, self.monotonic_ms)
        for message in messages:
            body = wire.write(pack_columns(message))
            self.counters.devices += 1
            self.counters.bytes_published += len(body)
            self._outgoing.append(
                Outgoing(Kind.DEVICES, topology.DEVICES, key, body, message.number, topology.DEVICES_EXPIRATION_MS)
            )
        self.counters.bodies_refused += report.refused - refused

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def _say(  # noqa: PLR0917 - the properties of one message
        self,
        kind: Kind,
        exchange: str,
        routing_key: str,
        body: bytes,
        expiration_ms: int | None = None,
        change: ChangeKey | None = None,
    ) -> None:
        self.counters.bytes_published += len(body)
        self._outgoing.append(Outgoing(kind, exchange, routing_key, body, self.seq, expiration_ms, change))
