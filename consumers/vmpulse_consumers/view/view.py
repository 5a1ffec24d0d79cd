"""The view: a state machine without I/O that turns the fleet's stream into one picture, and repairs it by itself.

Inputs are methods (``receive``, ``replied``, ``request_failed``, ``canary``, ``tick``), outputs are drained lists
(``drain_requests``, ``drain_events``). Times are seconds on the caller's monotonic clock; nothing is ordered by a wall
clock (promise V2).

Rules of this file.
- State, not history, is the truth: a message may be missing at any time. Gaps are counted; whether anything is wrong is
  decided by comparing digests, and then asked for by verb.
- Only a roster fetched by rpc confirms an epoch: whoever holds the exclusive rpc queue is the live agent. Until then a
  new epoch's messages are passed over.
- A reply says what held at its ``as_of``; of two words on one (VM, section) the higher of seq and as_of wins. A reply
  never advances a host's seq.
- One request in flight for each host, a bounded number overall, paced for each and in all (``asking``).
- Each sender has a budget of messages and bytes; what goes beyond is dropped before it is read, and digests repair it.
- What outlives the view is marked in ``memory``; whoever keeps it drains the marks, and ``restoring`` takes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.asking import RETRY_S, Asking
from vmpulse_consumers.view.bodies import Bodies
from vmpulse_consumers.view.budget import MAP_COSTS
from vmpulse_consumers.view.claims import is_heard
from vmpulse_consumers.view.counts import Counts
from vmpulse_consumers.view.events import BrokerEvent, HostEvent
from vmpulse_consumers.view.host import LOST_S, SLACK_S, WIDTH, Host
from vmpulse_consumers.view.listening import Listening
from vmpulse_consumers.view.memory import Memory
from vmpulse_consumers.view.placement import Before, Placement
from vmpulse_consumers.view.runtime import Runtime
from vmpulse_consumers.view.states import HEARD, HostInput, HostState
from vmpulse_consumers.view.telling import Telling
from vmpulse_consumers.view.troubles import Troubles
from vmpulse_contract import device_door, devices, limits, roster_change, stream, topology
from vmpulse_contract.errors import HostDidNotAnswer, MessageError, MistypedMessage, NotReady, VerbError, WrongSender
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import SECTION_OF_VERB, HostStatsReply, RosterReply, SectionReply, Verb

if TYPE_CHECKING:
    from vmpulse_consumers.view.events import Event
    from vmpulse_consumers.view.host import Request
    from vmpulse_contract.errors import ContractError
    from vmpulse_contract.verbs import AnyReply

CANARY_MISSING_S: Final = 6.0
"""Two canaries missed: the trouble is ours or the broker's."""
GRACE_S: Final = 30.0
"""After the broker is back, silence counts only so much later: twice an agent's longest back-off."""
TELL_SOONEST_S: Final = 6.0
"""On the stream before VMs are told of: in the first tick hosts are met, in the second VMs get their first values."""
TELL_AT_LATEST_S: Final = 30.0
"""After so long on the stream VMs are told of, even if some host has not been confirmed: twice LOST_S."""
FORGOTTEN_S: Final = 30.0
"""Several times as long as any request may take."""
SEQ_JUMP: Final = 1 << 32
"""More messages than a host says in 400 years of ticks: a jump of so much is a fault, not a gap."""
RETIRED_ASKS_S: Final = 10.0
"""A retired epoch that still speaks so long after is not the tail of a queue: ask who is live."""
LATER_KIND: Final = "unknown"
"""How messages are counted whose kind only a newer version knows."""
NOBODY: Final = "(no user_id)"
"""Who says what has no sender: all such messages have one budget. No host can be called so."""


class View:
    """The picture of the fleet."""

    def __init__(self, now: float) -> None:
        self.hosts: dict[HostId, Host] = {}
        self.runtime = Runtime()
        self.bodies = Bodies()
        self.counts = Counts()
        self.started = now
        self.broker_ok = False
        self._canary_at: float | None = None
        self.listening = Listening()
        self._silence_from = now
        self._telling = Telling(self.runtime)
        self.troubles = Troubles(self.counts, self._telling)
        self.memory = Memory()
        self.placement = Placement(self.runtime, self._telling, self.memory)
        self.vms = self.placement.vms
        self.transits = self.placement.transits
        self.split = self.placement.splits.split
        self.asking = Asking(self.counts, now)
        self.degraded = ""
        """Why the view works worse than it should though it goes on, as a sentence; empty: it does not."""

    # --- inputs: the stream -------------------------------------------------------------------------------------

    def receive(self, exchange: str, routing_key: str, user_id: str | None, body: bytes, now: float) -> None:
        """Apply one stream message. Raises MessageError for one that nobody can use; it has changed nothing."""
        try:
            self._receive(exchange, routing_key, user_id, body, now)
        except MessageError as error:
            self.counts.rejected[error.reason] += 1
            raise

    def _receive(self, exchange: str, routing_key: str, user_id: str | None, body: bytes, now: float) -> None:
        sender = HostId(user_id or NOBODY)
        if not self.troubles.within_budget(sender, self.hosts.get(sender), len(body), now):
            return
        key = topology.parse_stream_key(exchange, routing_key)
        if user_id != key.host:
            raise WrongSender(f"routing key {routing_key!r:.100} with user_id {user_id!r:.80}; they must name one host")
        match key.kind:
            case None:
                # Of a newer agent: what it means is not known here, so that it is not read, and is no sign of life.
                self.counts.messages[LATER_KIND] += 1
                self.counts.bytes += len(body)
                return
            case Kind.FRAME:
                self._frame(key.host, stream.read_frame(body), now)
            case Kind.ROSTER:
                self._roster(key.host, stream.read_roster(body), now)
            case Kind.ROSTER_CHANGE:
                self._roster_change(key.host, roster_change.read_roster_change(body), now)
            case Kind.DEVICES:
                self._devices(key.host, devices.read_packed(body), now, by_columns=key.columns)
            case Kind.CHANGE:
                self._change(key.host, _change_of(key, body), now)
            case _:
                self._goodbye(key.host, stream.read_goodbye(body), now)
        self.counts.messages[key.kind] += 1
        self.counts.bytes += len(body)
        host = self.hosts.get(key.host)
        if host is not None:  # device statistics alone make no host known
            self._judge_hearing(host, now)

    def _admit(self, host_id: HostId, epoch: int, seq: int, now: float) -> Host | None:
        """Give the host if the message is to be applied: of the confirmed epoch, and not seen yet."""
        host = self.hosts.get(host_id) or self._meet(host_id, now)
        host.messages += 1
        if epoch != host.epoch:
            self._stranger(host, epoch, seq, now)
            return None
        if seq - host.seq > SEQ_JUMP:
            raise MistypedMessage(f"seq {seq} after {host.seq}: no host says so much between two messages")
        missing = host.admit(seq)
        if missing is None:
            self.counts.repeats += 1
            return None
        self.counts.gaps += missing
        host.heard_at = host.spoke_at = now
        self._step(host, HostInput.HEARD, now)
        return host

    def _meet(self, host_id: HostId, now: float) -> Host:
        host = self.hosts[host_id] = Host(host_id, self.runtime.allocate(0), now)
        host.budget = self.troubles.unmet.taken(host_id, now)
        return host

    def _stranger(self, host: Host, epoch: int, seq: int, now: float) -> None:
        """A message of an epoch that is not confirmed: ask by rpc who the live agent is."""
        self.counts.strangers += 1
        if seq - (host.provisional_seq if epoch == host.provisional else 0) > SEQ_JUMP:
            raise MistypedMessage(f"seq {seq} of an epoch that has hardly begun: no host says so much")
        if epoch in host.retired and now - host.confirmed_at < RETIRED_ASKS_S:
            return
        if epoch in host.retired and is_heard(host) and now - host.spoke_at < RETIRED_ASKS_S:
            self.troubles.rivals(host, now)
        if host.state not in HEARD:
            host.heard_at = now
        self._step(host, HostInput.STRANGER, now)
        if epoch != host.provisional:
            # Somebody new is there: whatever did not answer before is no reason to wait now.
            host.provisional, host.provisional_seq, host.parting = epoch, 0, False
            host.provisional_at = now
            host.retry_at, host.retries = 0.0, 0
        host.provisional_seq = max(seq, host.provisional_seq)
        if host.in_flight is None or host.in_flight.verb is not Verb.GET_ROSTER:
            self.asking.relist(host)

    def _frame(self, host_id: HostId, frame: stream.Frame, now: float) -> None:
        host = self._admit(host_id, frame.epoch, frame.seq, now)
        if host is None or frame.seq <= host.roster_as_of:
            return
        if frame.layout != host.layout or frame.count != host.block.size:
            self.counts.layout_mismatches += 1
            self.asking.relist(host)
            return
        first = host.frame_seq <= host.roster_as_of
        changed = self.runtime.store(host.block, frame)
        host.frame_ms, host.frame_seq, host.host_stats = frame.monotonic_ms, frame.seq, frame.host_stats
        if first:
            # Only now it is known that a status is not just unheard of, but unknown to the host too.
            changed = sorted({*changed, *self.runtime.unknown(host.block)})
        for row in changed:
            self.placement.status_said(host, row, now)
        if frame.digest != host.own_digest() and frame.seq > host.reply_as_of:
            self.counts.digest_mismatches += 1
            self.asking.relist(host)
        elif host.frame_age(now) is None:
            host.offset = None  # our own clock stood still: measure anew
            self.asking.relist(host)
        elif now > host.remeasure_at and not self.asking.crowded:
            # A measure in a crowd is slow and has to be made again: at the start of a large view one crowd more.
            self.asking.remeasure(host)

    def _roster(self, host_id: HostId, message: stream.RosterMessage, now: float) -> None:
        host = self._admit(host_id, message.epoch, message.seq, now)
        if host is not None and message.seq > host.roster_as_of:
            self._apply_roster(host, message.roster, message.seq, now, met=False)

    def _roster_change(self, host_id: HostId, message: roster_change.RosterChangeMessage, now: float) -> None:
        """Apply a difference as the roster that it makes of the one held; ask for the roster if it goes with another.

        One whose layout is held says nothing new: an answer was given before the stream said it. To the sender's budget
        it counts as the roster too, for that is what it costs: a few bytes may be about thousands of VMs.
        """
        host, change = self._admit(host_id, message.epoch, message.seq, now), message.change
        if host is None or message.seq <= host.roster_as_of or change.layout == host.layout:
            return
        if change.base == host.layout:
            if not self.troubles.within_budget(host_id, host, stream.ROW_BYTES * len(host.vms), now):
                return
            roster = roster_change.applied(host.roster(), change)
            if roster is not None:
                self._apply_roster(host, roster, message.seq, now, met=False, named=set(change.vm_ids()))
                return
        self.counts.layout_mismatches += 1
        self.asking.relist(host)

    def _change(self, host_id: HostId, change: stream.ChangeEvent, now: float) -> None:
        host = self._admit(host_id, change.epoch, change.seq, now)
        if host is None:
            return
        vm, section = VmId(change.vm), change.section
        if not self._announce(host, vm, section, change.hash, change.seq) or section not in BODIED:
            return
        if change.body is None:
            self.asking.want(host)
        elif not self._hold(host, vm, section, change.hash, change.body):
            self.troubles.crowded(host, now)

    def _announce(self, host: Host, vm: VmId, section: Section, value: int, as_of: int) -> bool:
        """Take in what a hash is said to be, and tell of it if no body follows. Tells whether it is the newest word."""
        row = host.index.get(vm)
        before = ABSENT if row is None else host.announced[row * WIDTH + section]
        if not host.announce(vm, section, value, as_of):
            return False
        self.memory.host(host.id)
        if section not in BODIED and value != before:
            self._telling.section(self.vms[vm], host, section)
        return True

    def _hold(self, host: Host, vm: VmId, section: Section, value: int, body: bytes) -> bool:
        """Hold a body that was checked against its hash, and tell what is new of it. Tells whether there was room."""
        news, was_crowded = host.held[host.index[vm] * WIDTH + section] != value, bool(host.crowded)
        if not host.hold(vm, section, value, body, self.bodies):
            return False
        if news:
            self.memory.section(host.id, vm, section)
            self._telling.section(self.vms[vm], host, section)
        if was_crowded and not host.crowded:
            self.asking.want(host)
        return True

    def _devices(self, host_id: HostId, message: devices.PackedDevices, now: float, *, by_columns: bool) -> None:
        """Keep device statistics of the confirmed epoch.

        They count neither as heard nor as a stranger to ask about. Silence is judged by the stream alone, for it has a
        cadence: an agent whose frames do not come is not live because its devices are told of every few minutes. Those
        that are not to be kept are not looked into, for looking may cost a thousand times what they travel as.
        """
        host = self.hosts.get(host_id)
        if host is None or message.epoch != host.epoch:
            self.counts.strangers += 1
            return
        if not host.devices.is_new(message.number):
            self.counts.repeats += 1
            return
        inflated = self._inflated(host, message, 1 if by_columns else MAP_COSTS, now)
        check = device_door.check_columns if by_columns else devices.check_map
        host.devices.take(check(message, inflated), host.index, host.vms)

    @staticmethod
    def _inflated(host: Host, message: devices.PackedDevices, costs: int, now: float) -> bytes:
        """Inflate device statistics, and count each byte to the host's budget as *costs*; refused ones in full."""
        size = limits.MESSAGE_BYTES.maximum
        try:
            inflated = message.inflated()
            size = len(inflated)
        finally:
            host.budget.charge(size * costs, now)
        return inflated

    def _goodbye(self, host_id: HostId, goodbye: stream.Goodbye, now: float) -> None:
        host = self._admit(host_id, goodbye.epoch, goodbye.seq, now)
        if host is not None:
            self._step(host, HostInput.GOODBYE, now)
        elif self.hosts[host_id].provisional == goodbye.epoch:
            self.hosts[host_id].parting = True

    # --- inputs: replies ----------------------------------------------------------------------------------------

    def replied(self, request: Request, reply: AnyReply, now: float) -> None:
        """Apply the answer to a request that ``drain_requests`` gave. Raises MessageError for one that does not fit."""
        host = self.hosts.get(request.host)
        if not self.asking.answered(host, request) or host is None:
            return
        try:
            if isinstance(reply, RosterReply):
                self._relisted(host, reply, request, now)
            elif isinstance(reply, SectionReply):
                self._repaired(host, reply, request, now)
            elif isinstance(reply, HostStatsReply):
                self._measured(host, reply, request, now)
        except Exception:
            # Whatever is wrong with the answer, or with us: the question stands, and is not put again at once.
            self.asking.failed(host, request, "message", now)
            raise
        self.asking.want(host)

    def request_failed(self, request: Request, error: ContractError, now: float) -> None:
        """A request got no usable answer: ask again later, for as long as the host is heard."""
        host = self.hosts.get(request.host)
        if self.asking.answered(host, request) and host is not None:
            code = error.code if isinstance(error, VerbError) else "message"
            # An agent that has just begun answers in a moment.
            self.asking.failed(host, request, code, now, RETRY_S[0] if isinstance(error, NotReady) else None)

    def _relisted(self, host: Host, reply: RosterReply, request: Request, now: float) -> None:
        if reply.roster is None or not reply.epoch:
            raise MistypedMessage("not a RosterReply: it has no roster or no epoch")
        _check_as_of(host, reply)
        host.retries = 0
        if host.state is HostState.STOPPED and reply.epoch == host.epoch:
            return  # the answer was under way when the goodbye came: the last word is the stream's
        parting = host.parting and reply.epoch == host.provisional
        if reply.epoch == host.epoch and host.provisional and now - host.provisional_at > RETIRED_ASKS_S:
            self.troubles.rivals(host, now)
        new_epoch = host.adopt(reply.epoch, now)
        if new_epoch:
            self.memory.host(host.id)
        host.measure(reply.monotonic_ms, request.sent_at, now)
        host.heard_at = host.spoke_at = now
        self._step(host, HostInput.CONFIRMED, now)
        if parting:
            self._step(host, HostInput.GOODBYE, now)
        if reply.as_of >= host.roster_as_of:
            self._apply_roster(host, reply.roster, reply.as_of, now, met=new_epoch)
        else:
            self._overtaken(host, reply.roster, reply.as_of)
        self._judge_hearing(host, now)

    def _overtaken(self, host: Host, roster: stream.Roster, as_of: int) -> None:
        """Take the hashes of a roster than which a newer one is held: one made by differences says nothing of most VMs.

        Without them a change that was lost would stay so for as long as each answer is overtaken by another VM's start.
        """
        hashes = roster.announced()
        for row, vm in enumerate(roster.vm_ids()):
            for section in Section:
                self._announce(host, vm, section, hashes[row * WIDTH + section], as_of)

    def _repaired(self, host: Host, reply: SectionReply, request: Request, now: float) -> None:
        if reply.epoch != host.epoch:
            self.asking.relist(host)
            return
        _check_as_of(host, reply)
        section = SECTION_OF_VERB[request.verb]
        host.reply_as_of = max(host.reply_as_of, reply.as_of)
        held = 0
        for vm, record in reply.vms.items():
            known = VmId(vm)
            if self._announce(host, known, section, record.hash, reply.as_of):
                if self._hold(host, known, section, record.hash, record.body):
                    held += 1
                else:
                    self.troubles.crowded(host, now)
        if set(request.vms) - reply.vms.keys() - set(reply.remaining):
            # The host has no such section now although it announced one: its roster will tell.
            self.asking.relist(host)
        if held:
            host.retries = 0
        else:
            self.asking.put_off(host, now)

    def _measured(self, host: Host, reply: HostStatsReply, request: Request, now: float) -> None:
        """Take the clock's reading from an answer, and nothing else: the stream says the rest with each frame."""
        if reply.epoch == host.epoch:
            host.measure(reply.monotonic_ms, request.sent_at, now)
        else:
            self.asking.relist(host)

    # --- inputs: people -----------------------------------------------------------------------------------------

    def forget(self, host_id: HostId, now: float) -> None:
        """Somebody says that a host is no more: it is GONE, and its claims with it.

        Raises IllegalTransition while the host is heard, which changes nothing, and KeyError for one that is not known.
        """
        host = self.hosts[host_id]
        self._step(host, HostInput.FORGOTTEN, now)
        self.asking.forget(host)
        nothing = stream.pack_roster(
            layout=0, monotonic_ms=0, facts=host.facts, vms=(), tokens=(), elapsed_ms=(), hashes=b"", tombstones=()
        )
        self._apply_roster(host, nothing, host.roster_as_of, now, met=False)
        self.placement.host_gone(host, now)
        self.runtime.release(host.block)
        host.alone = ()  # it refers to the host: what is forgotten must not wait for a collector
        del self.hosts[host_id]
        self.memory.forgotten(host_id)

    # --- inputs: time -------------------------------------------------------------------------------------------

    def canary(self, now: float) -> None:
        """Our own canary came through the stream's queue."""
        if self._canary_at is None:
            self._silence_from = now  # nobody could be heard before
        if not self.broker_ok:
            self.broker_ok = True
            if self._canary_at is not None:
                self._silence_from = now + GRACE_S
                self._telling.events.append(BrokerEvent(back=True))
        self._canary_at = now
        self.listening.canary(self.hosts.values(), now)

    def reconnected(self, now: float) -> None:
        """The stream's connection was lost and is back: hosts may have lost theirs with it, so they get the grace.

        Another view of our name may have told of changes that we never saw, so subscribers read everything anew.
        """
        self._silence_from = now + GRACE_S
        self.listening.lost()
        self._telling.relist("the view was cut off from its stream, and another may have told of changes meanwhile")

    def tick(self, now: float) -> None:
        """Judge silence, and take up requests that were put off until now. Call it about once a second."""
        if self._canary_at is not None and self.broker_ok and now - self._canary_at > CANARY_MISSING_S:
            self.broker_ok = False
            self.listening.lost()
            self._telling.events.append(BrokerEvent(back=False))
        for host in self.hosts.values():
            if self.broker_ok and self._canary_at is not None:
                if self._canary_at - self._silence_from >= LOST_S:
                    host.hide_memory()
                self._judge_silence(host, self._canary_at, now)
            self._give_up_waiting(host, now)
            self.asking.tick(host, now)
        # After all hosts: of many that are lost at once, each itself is told before any of their VMs.
        for host in self.hosts.values():
            self._judge_hearing(host, now)
        self.placement.tell_transits(now)
        self.placement.splits.tick(now)
        if not self._telling.begun and self._may_tell(now):
            self._telling.begin(self.vms.values(), now)

    def _may_tell(self, now: float) -> bool:
        """Whether the picture is built up; a host that never answers must not keep all others from being told of.

        Counted from when the stream was heard: time without the broker builds up nothing.
        """
        heard_s = self.listening.lasts_s(now)
        built = not self.asking.crowded and not self.not_ready(
            now
        )  # a section is told when it comes: three for each VM
        return heard_s >= TELL_AT_LATEST_S or (heard_s >= TELL_SOONEST_S and built)

    def _judge_hearing(self, host: Host, now: float) -> None:
        """What is said of all VMs of a host changes when it is heard, or no longer."""
        heard = host.heard(now)
        if heard is not host.told_heard:
            host.told_heard = heard
            for known in host.vms:
                vm = self.vms[known]
                if vm.owner is host:
                    self._telling.vm(vm, now)

    def _judge_silence(self, host: Host, proven: float, now: float) -> None:
        """Count a host's silence up to the last canary only: later nobody knows whether messages come through."""
        if host.state not in {HostState.SYNCING, HostState.LIVE, HostState.LATE}:
            return
        silent = proven - max(host.heard_at, self._silence_from)
        tick_s = host.facts.tick_ms / 1000
        if silent > max(LOST_S, 5 * tick_s):
            self._step(host, HostInput.SILENT_LOST, now)
        elif silent > 2 * tick_s + SLACK_S and host.state is HostState.LIVE:
            self._step(host, HostInput.SILENT_LATE, now)
            if self.troubles.flooded(now):
                # A flood pushes others out of our queue; questions and answers have queues of their own.
                self.asking.relist(host)

    def _give_up_waiting(self, host: Host, now: float) -> None:
        """A request that never came back, by whatever fault of ours, must not keep the host from being asked again."""
        request = host.in_flight
        if request is not None and now - request.sent_at > FORGOTTEN_S:
            self.request_failed(request, HostDidNotAnswer("the request was forgotten"), now)

    # --- outputs ------------------------------------------------------------------------------------------------

    def requests_due_in(self, now: float) -> float | None:
        """Seconds until ``drain_requests`` would give any; None: not before something else happens. Cheap."""
        return self.asking.due_in(now)

    def drain_requests(self, now: float) -> list[Request]:
        """Hand out the requests to send now; each must come back through ``replied`` or ``request_failed``."""
        return self.asking.drain(now)

    @property
    def has_events(self) -> bool:
        """Whether ``drain_events`` would give any; cheap, for a call after each message."""
        return bool(self._telling.events)

    def drain_events(self) -> list[Event]:
        """Hand out what has happened, in order."""
        return self._telling.drain()

    def not_ready(self, now: float) -> list[str]:
        """The reasons why the view is not ready; empty: it is.

        Ready: it hears the stream, knows its fleet, and each known host is confirmed, STOPPED or LOST.
        """
        reasons = []
        if self._canary_at is None:
            reasons.append("the stream has not been heard yet")
        elif not self.broker_ok:
            reasons.append("the broker is lost")
        if not self.listening.is_enough(self.hosts.values(), now):
            reasons.append("hosts have had less than a tick to be heard")
        waiting = [host.id for host in self.hosts.values() if host.state in {HostState.UNKNOWN, HostState.SYNCING}]
        if waiting:
            reasons.append(f"{len(waiting)} hosts are not confirmed yet, among them {', '.join(sorted(waiting)[:3])}")
        return reasons

    # --- rosters ------------------------------------------------------------------------------------------------

    def _apply_roster(
        self,
        host: Host,
        roster: stream.Roster,
        as_of: int,
        now: float,
        *,
        met: bool,
        named: set[VmId] | None = None,
    ) -> None:
        """Replace what we know of a host's VMs. *met*: an epoch was confirmed, so what is listed has not just begun.

        *named*: of which VMs a difference told; None: the roster came whole.
        """
        before = Before(host)
        before.keep_infos(host, roster)
        host.replace_roster(roster, as_of, named)
        host.block = self.runtime.allocate(len(host.vms))
        # Values are of one life: what began another is not said to be what the last one was until its frame comes.
        self.runtime.carry(before.block, host.block, before.same_lives(host))
        self.runtime.release(before.block)
        if before.changed(host):
            self.memory.host(host.id)
            for vm in before.let_go(host):
                self.memory.vm_left(host.id, vm)
        self.placement.listed(host, before, now, met=met)
        self.asking.want(host)

    def _step(self, host: Host, given: HostInput, now: float) -> None:
        was, was_heard = host.state, is_heard(host)
        if host.given(given, now):
            self.memory.host(host.id)
            self._telling.events.append(HostEvent(host.id, host.state, was))
            if was is HostState.LOST:
                self.asking.want(host)  # what was left unasked while nobody was there to answer
            if is_heard(host) and not was_heard:
                self.placement.heard_again(host, now)


def _change_of(key: topology.StreamKey, body: bytes) -> stream.ChangeEvent:
    """Read a change event, which has to be of the section that its key names. Raises MessageError."""
    change = stream.read_change(body)
    if change.section is not key.section:
        raise MistypedMessage(f"a change of {change.section.label} with the routing key of another section")
    return change


def _check_as_of(host: Host, reply: RosterReply | SectionReply) -> None:
    """Refuse an answer from so far ahead that nothing true would ever be newer. Raises MistypedMessage."""
    heard = {host.epoch: host.seq, host.provisional: host.provisional_seq}.get(reply.epoch, 0)
    if reply.as_of - heard > SEQ_JUMP:
        raise MistypedMessage(
            f"an answer as of {reply.as_of} after seq {heard}: no host says so much between two messages"
        )
