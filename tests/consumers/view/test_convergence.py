"""The promises as properties: hosts, a view, a broker that loses, repeats, withholds; agents that restart."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import isnan
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.consumers.view.back_to_back import FAILED, MIGRATED, Delivery, SimpleHost, Table, vm_number
from tests.consumers.view.subscriber import SubscribedView, Subscriber
from vmpulse_consumers.amqp_requests import ANSWER_S
from vmpulse_consumers.http import census
from vmpulse_consumers.view import BrokerEvent, Host, HostEvent, HostState, Request
from vmpulse_consumers.view.asking import RETRY_S
from vmpulse_consumers.view.host import LOST_S, REMEASURE_SLOW_S, WIDTH
from vmpulse_consumers.view.rows import VmRow, fleet_row, vm_row
from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32
from vmpulse_consumers.view.view import FORGOTTEN_S, GRACE_S, RETIRED_ASKS_S, SLACK_S
from vmpulse_contract import sections
from vmpulse_contract.devices import DeviceRecord
from vmpulse_contract.errors import HostDidNotAnswer, UnknownHost
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import BODIED, Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus

HOSTS, VMS = 2, 3
NUMBERS = st.integers(1, HOSTS * VMS)
TICK_S = 3.0
HEARD = {HostState.LIVE, HostState.LATE}
ROUNDING_S = 0.002
"""Agent clocks travel in whole milliseconds, and rows round to them."""


class Reply(NamedTuple):
    """An answer that is still under way."""

    request: Request
    raw: bytes


class Seen(NamedTuple):
    """What the last step left of a host."""

    epoch: int
    seq: int
    roster_as_of: int
    running: dict[VmId, int]
    """The start tokens of the VMs whose status was known."""


class Fleet(RuleBasedStateMachine):
    """Whatever happens between, the view ends up equal to the truth once faults stop."""

    @initialize(met=st.sampled_from([True, True, True, False]))
    def begin(self, met: bool) -> None:  # noqa: FBT001 - a drawn value
        self.table = Table(HOSTS, VMS)
        self.table.watch = self.message_by_message
        self.subscriber = Subscriber()
        self.table.view = SubscribedView(self.table.now, self.subscriber)
        self.table.view.canary(self.table.now)
        self.words = 0
        self.asked: list[Request] = []
        self.replies: list[Reply] = []
        self.forgotten: list[Request] = []
        """Nobody will ever say anything of these."""
        self.seen: dict[HostId, Seen] = {}
        self.shown: defaultdict[tuple[HostId, int, VmId, Section], int] = defaultdict(int)
        self.sampled: defaultdict[tuple[HostId, int, VmId], int] = defaultdict(int)
        """When the device statistics that were held last were sampled, in ms."""
        self.spoke_at: dict[HostId, float] = {}
        self.proved_at = self.graced_from = self.table.now
        if met:
            self.table.settle()
            self.step()

    def message_by_message(self) -> None:
        """So that a VM which one epoch drops and a rival's late reply lists again has not lost its values."""
        self.silence_counts_only_where_messages_would_come_through()
        self.nothing_goes_back()

    # --- helpers ------------------------------------------------------------------------------------------------

    def host_of(self, number: int) -> SimpleHost:
        return list(self.table.hosts.values())[(number - 1) // VMS]

    def other_than(self, host: SimpleHost) -> SimpleHost:
        return next(other for other in self.table.hosts.values() if other is not host)

    def place_of(self, number: int) -> SimpleHost:
        """Where a VM runs, or is defined, or else where it was at first."""
        places = [host for host in self.table.hosts.values() if vm_number(number) in host.domains]
        domains = {host: host.domains[vm_number(number)] for host in places}
        places.sort(key=lambda host: (not domains[host].runs, not domains[host].token))
        return places[0] if places else self.host_of(number)

    def new_word(self) -> str:
        """A word never said before, so that each hash stands for one moment."""
        self.words += 1
        return f"word-{self.words}"

    def canary(self) -> None:
        self.nothing_goes_back()
        self.table.view.canary(self.table.now)
        self.proved_at = self.table.now
        self.silence_counts_only_where_messages_would_come_through()

    def step(self) -> None:
        self.table.now += TICK_S
        self.canary()
        self.table.view.tick(self.table.now)
        self.silence_counts_only_where_messages_would_come_through()
        self.table.step(0.0)
        self.nothing_goes_back()

    # --- the truth changes --------------------------------------------------------------------------------------

    @rule(number=NUMBERS)
    def somebody_logs_in(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.user = self.new_word()

    @rule(number=NUMBERS)
    def an_application_changes(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.app = self.new_word()

    @rule(number=NUMBERS, announced=st.booleans())
    def a_migration_begins(self, number: int, announced: bool) -> None:  # noqa: FBT001 - a drawn value
        """The destination has it and does not run it; short ones never show that the source is one."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        domain = source.domains.get(vm)
        if domain is not None and domain.runs and not (vm in target.domains and target.domains[vm].token):
            domain.moving = VmStatus.MIGRATION_SOURCE if announced else None
            target.receive_vm(vm)

    @rule(number=NUMBERS, source_keeps_it=st.booleans())
    def a_migration_succeeds(self, number: int, source_keeps_it: bool) -> None:  # noqa: FBT001 - a drawn value
        """It runs on the destination, and the source's life of it has ended."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        if not self.is_arriving(vm, target):
            return
        target.domains[vm].moving = None
        target.domains[vm].user = source.domains[vm].user
        if source_keeps_it:
            source.stop_vm(vm, self.table.now, MIGRATED)
        else:
            source.undefine_vm(vm, self.table.now, MIGRATED)

    @rule(number=NUMBERS)
    def a_migration_fails(self, number: int) -> None:
        """It is gone from the destination, and runs on where it was."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        if self.is_arriving(vm, target):
            target.undefine_vm(vm, self.table.now, FAILED)
            source.domains[vm].moving = None

    @staticmethod
    def is_arriving(vm: VmId, target: SimpleHost) -> bool:
        domain = target.domains.get(vm)
        return domain is not None and domain.moving is VmStatus.MIGRATION_DESTINATION and domain.token != 0

    @rule(number=NUMBERS)
    def power_changes(self, number: int) -> None:
        host, vm = self.place_of(number), vm_number(number)
        host.define_vm(vm)
        if host.domains[vm].token:
            host.stop_vm(vm, self.table.now)
        else:
            host.start_vm(vm)

    @rule(number=NUMBERS)
    def a_monitor_hangs_or_answers_again(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.answered = not domain.answered

    @rule(number=NUMBERS)
    def a_vm_comes_or_goes(self, number: int) -> None:
        host, vm = self.place_of(number), vm_number(number)
        if vm in host.domains:
            host.undefine_vm(vm, self.table.now)
        else:
            host.define_vm(vm)

    @rule(number=NUMBERS)
    def a_vm_is_defined_elsewhere_too(self, number: int) -> None:
        self.other_than(self.place_of(number)).define_vm(vm_number(number))

    @rule(number=NUMBERS, start_first=st.booleans(), leave=st.booleans(), told=st.booleans())
    def a_vm_moves(self, number: int, start_first: bool, leave: bool, told: bool) -> None:  # noqa: FBT001 - drawn values
        """To the other host, which takes it up before or after it ends here; told: all see the moment between."""
        host, vm = self.place_of(number), vm_number(number)
        target = self.other_than(host)
        for starts in (start_first, not start_first):
            if starts:
                target.define_vm(vm)
                target.start_vm(vm)
            elif vm in host.domains and leave:
                host.undefine_vm(vm, self.table.now)
            elif vm in host.domains:
                host.stop_vm(vm, self.table.now)
            if told:
                self.all_hosts_tick(0.3)

    @rule(number=NUMBERS, clean=st.booleans())
    def an_agent_stops(self, number: int, clean: bool) -> None:  # noqa: FBT001 - a drawn value
        host = self.host_of(number)
        if clean and host.id not in self.table.dead:
            host.session.goodbye()
            host.pump()
        host.rival = None
        self.table.dead.add(host.id)

    @rule(number=NUMBERS, clean=st.booleans())
    def an_agent_restarts(self, number: int, clean: bool) -> None:  # noqa: FBT001 - a drawn value
        host = self.host_of(number)
        self.an_agent_stops(number, clean)
        self.table.dead.discard(host.id)
        host.begin(self.table.now, self.table.next_epoch())

    @rule(number=NUMBERS)
    def a_second_agent_takes_the_questions(self, number: int) -> None:
        host = self.host_of(number)
        if host.id in self.table.dead:
            return
        old, rival = host.session, host.rival
        if rival is None:
            host.begin(self.table.now, self.table.next_epoch())
        else:
            host.session = rival
        host.rival = old

    @rule(number=NUMBERS)
    def the_link_breaks_and_comes_back(self, number: int) -> None:
        host = self.host_of(number)
        if host.id not in self.table.dead:
            host.session.disconnected()
            host.session.connected(self.table.now)
            host.pump()

    # --- time and the broker ------------------------------------------------------------------------------------

    def all_hosts_tick(self, seconds: float) -> None:
        self.table.now += seconds
        for host in self.table.hosts.values():
            if host.id not in self.table.dead:
                host.tick(self.table.now)

    @rule(number=NUMBERS, seconds=st.sampled_from([0.05, 0.3, 3.0, 20.0]))
    def time_passes(self, number: int, seconds: float) -> None:
        self.table.now += seconds
        host = self.host_of(number)
        if host.id not in self.table.dead:
            host.tick(self.table.now)
        self.table.view.tick(self.table.now)

    @rule(seconds=st.sampled_from([3.0, 8.0, 16.0, 40.0]), canary=st.booleans())
    def nobody_is_heard(self, seconds: float, canary: bool) -> None:  # noqa: FBT001 - a drawn value
        self.table.now += seconds
        if canary:
            self.canary()
        self.table.view.tick(self.table.now)

    @rule(seconds=st.sampled_from([0.3, 3.0, 6.5]))
    def all_is_well_for_a_while(self, seconds: float) -> None:
        self.all_hosts_tick(seconds)
        for number in range(1, HOSTS * VMS + 1, VMS):
            self.all_arrives(number)
        self.canary()
        self.table.view.tick(self.table.now)
        self.the_view_asks()
        while self.asked:
            self.table.answer_one(self.asked.pop(0))
            self.the_view_asks()

    @rule()
    def our_canary_comes(self) -> None:
        self.canary()

    @rule()
    def our_connection_is_back(self) -> None:
        self.table.view.reconnected(self.table.now)
        self.graced_from = self.table.now + GRACE_S

    @rule(number=NUMBERS, count=st.integers(1, 4), fate=st.sampled_from(["arrives", "arrives", "lost", "repeated"]))
    def messages_meet_their_fate(self, number: int, count: int, fate: str) -> None:
        queue = self.host_of(number).queue
        for _ in range(min(count, len(queue))):
            delivery: Delivery = queue.popleft()
            for _ in range({"arrives": 1, "lost": 0, "repeated": 2}[fate]):
                self.table.receive(delivery)

    @rule(number=NUMBERS, kind=st.sampled_from([Kind.FRAME, Kind.ROSTER, Kind.CHANGE, Kind.GOODBYE]))
    def one_kind_is_lost(self, number: int, kind: Kind) -> None:
        host = self.host_of(number)
        kept = [delivery for delivery in host.queue if delivery.message.kind is not kind]
        host.queue.clear()
        host.queue.extend(kept)

    @rule(number=NUMBERS)
    def a_host_reports_its_devices(self, number: int) -> None:
        if self.host_of(number).id not in self.table.dead:
            self.host_of(number).report_devices(self.table.now)

    @rule(number=NUMBERS)
    def all_arrives(self, number: int) -> None:
        queue = self.host_of(number).queue
        while queue:
            self.table.receive(queue.popleft())

    # --- questions ----------------------------------------------------------------------------------------------

    @rule()
    def the_view_asks(self) -> None:
        requests = self.table.view.drain_requests(self.table.now)
        for request in requests:
            assert self.table.view.hosts[request.host].state not in {HostState.STOPPED, HostState.LOST}
        self.asked += requests

    @precondition(lambda self: self.asked)
    @rule(
        which=st.integers(0, 10), fate=st.sampled_from([*["answered", "on its way"] * 3, "lost", "lost", "forgotten"])
    )
    def a_question_is_settled(self, which: int, fate: str) -> None:
        request = self.asked.pop(which % len(self.asked))
        if fate == "forgotten":
            self.forgotten.append(request)
        elif fate == "lost" or self.too_late(request):
            self.table.view.request_failed(request, HostDidNotAnswer("lost"), self.table.now)
        elif request.host in self.table.dead:
            self.table.view.request_failed(request, UnknownHost("nobody there"), self.table.now)
        elif fate == "answered":
            self.table.answer_one(request)
        else:
            host = self.table.hosts[request.host]
            self.replies.append(Reply(request, host.answer(request, self.table.now)))

    def too_late(self, request: Request) -> bool:
        """Whether the asking side has given up on it by now."""
        return self.table.now - request.sent_at > ANSWER_S

    @precondition(lambda self: self.replies)
    @rule(which=st.integers(0, 10))
    def a_late_reply_arrives(self, which: int) -> None:
        reply = self.replies.pop(which % len(self.replies))
        if self.too_late(reply.request):
            self.table.view.request_failed(reply.request, HostDidNotAnswer("late"), self.table.now)
        else:
            self.table.reply(reply.request, reply.raw)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 10), number=NUMBERS)
    def an_answer_is_overtaken_by_the_stream(self, which: int, number: int) -> None:
        request = self.asked.pop(which % len(self.asked))
        host = self.table.hosts[request.host]
        raw = host.answer(request, self.table.now)
        self.table.now += TICK_S
        if host.domains and host.id not in self.table.dead:
            list(host.domains.values())[number % len(host.domains)].user = self.new_word()
            host.tick(self.table.now)
        while host.queue:
            self.table.receive(host.queue.popleft())
        self.replies.append(Reply(request, raw))
        self.a_late_reply_arrives(-1)

    @rule(number=NUMBERS, first=st.sampled_from(["nothing", "a VM", "a change"]), seconds=st.sampled_from([0.3, 3.0]))
    def a_roster_by_verb_comes_late(self, number: int, first: str, seconds: float) -> None:
        """All is well, and the answer to a question stays under way while the stream tells what came after it."""
        self.all_is_well_for_a_while(TICK_S)
        host = self.host_of(number)
        held = self.table.view.hosts.get(host.id)
        if held is None or held.in_flight is not None or host.id in self.table.dead:
            return
        self.table.view.asking.relist(held)
        for request in self.table.view.drain_requests(self.table.now):
            self.table.now += seconds / 2
            self.replies.append(Reply(request, host.answer(request, self.table.now)))
        if first == "a VM":
            self.a_vm_comes_or_goes(number)
        self.somebody_logs_in(number)
        self.all_hosts_tick(seconds)
        if first != "nothing":
            self.all_arrives(number)
        while self.replies:
            self.a_late_reply_arrives(0)
        self.nothing_goes_back()
        self.hashes_come_in_the_order_they_were_announced()
        self.only_rosters_say_who_is_there()

    @rule(number=NUMBERS, kind=st.sampled_from([Kind.CHANGE, Kind.ROSTER, Kind.FRAME]), heals=st.booleans())
    def all_is_well_but_for_one_loss(self, number: int, kind: Kind, heals: bool) -> None:  # noqa: FBT001 - a drawn value
        """A change, a roster or a frame is lost, and nothing else; often that is the last fault of all."""
        self.all_is_well_for_a_while(TICK_S)
        self.somebody_logs_in(number)
        if kind is Kind.ROSTER:
            self.power_changes(number)
        self.all_hosts_tick(TICK_S)
        self.one_kind_is_lost(number, kind)
        if heals:
            self.faults_stop()

    # --- promises -----------------------------------------------------------------------------------------------

    def known_hosts(self) -> list[Host]:
        return list(self.table.view.hosts.values()) if hasattr(self, "table") else []

    @invariant()
    def nothing_goes_back(self) -> None:
        """V2: within an epoch what is applied only rises, and never beyond what the stream has brought."""
        for host in self.known_hosts():
            assert host.seq <= self.table.delivered[host.id, host.epoch]
            assert not host.epoch or (host.id, host.epoch) in self.table.confirmed
            before = self.seen.get(host.id)
            running = {
                vm: token
                for vm, token, status in zip(host.vms, host.tokens, self.statuses(host), strict=True)
                if token and status != UNKNOWN_8
            }
            self.seen[host.id] = Seen(host.epoch, host.seq, host.roster_as_of, running)
            if before is None:
                continue
            if host.epoch == before.epoch:
                assert host.seq >= before.seq
                assert host.roster_as_of >= before.roster_as_of
                if host.seq > before.seq:
                    self.spoke_at[host.id] = self.table.now
            elif before.epoch:
                assert before.epoch in host.retired
            assert host.epoch not in host.retired
            for vm in before.running.keys() & host.index.keys():
                assert before.running[vm] != host.tokens[host.index[vm]] or vm in running, "a value was lost"

    def statuses(self, host: Host) -> list[int]:
        return [int(code) for code in self.table.view.runtime.status[host.block.start :][: len(host.vms)]]

    @invariant()
    def hashes_come_in_the_order_they_were_announced(self) -> None:
        """V2: the announced hashes that the view holds are a subsequence of what the epoch has announced."""
        for host in self.known_hosts():
            said = self.table.hosts[host.id].said.hashes
            for row, vm in enumerate(host.vms):
                for section in Section:
                    history, key = said[host.epoch, vm, section], (host.id, host.epoch, vm, section)
                    value = host.announced[row * WIDTH + section]
                    assert value in history[self.shown[key] :], "an older hash was put over a newer one"
                    self.shown[key] = history.index(value, self.shown[key])

    @invariant()
    def only_rosters_say_who_is_there(self) -> None:
        """V3, V6: the VMs held of a host are those of a roster of its epoch, and all of them are in the view."""
        view = self.table.view if hasattr(self, "table") else None
        for host in self.known_hosts():
            if host.confirmed:
                said = self.table.hosts[host.id].said.rosters[host.epoch, host.roster_as_of]
                assert frozenset(host.vms) in said
            assert host.block.size == len(host.vms)
            assert view is None or all(vm in view.vms for vm in host.vms)

    @invariant()
    def each_vm_has_one_owner_among_its_claims(self) -> None:
        """V4: each host that lists a VM claims it, one of them owns it, and none but an active one if there is any."""
        for vm in self.table.view.vms.values() if hasattr(self, "table") else ():
            assert Counter(vm.claims) == Counter(host for host in self.known_hosts() if vm.id in host.index)
            assert (vm.owner is None) == (vm.transit is not None) == (vm.id in self.table.view.transits)
            if vm.owner is None:
                # Whoever has listed it as active meanwhile has sent no frame since.
                assert all(host.frame_seq <= host.roster_as_of for host in vm.claims if vm.active_on(host))
                continue
            assert vm.owner in vm.claims
            assert vm.active_on(vm.owner) or not any(map(vm.active_on, vm.claims))

    @invariant()
    def a_held_hash_has_its_body(self) -> None:
        """V5: a held hash is stored with its body or not at all, and each body for as long as somebody holds it."""
        held_by: Counter[bytes] = Counter()
        for host in self.known_hosts():
            held_by.update(body for body in host.bodies if body is not None)
            for row in range(len(host.vms)):
                for section in BODIED:
                    held, body = host.held[row * WIDTH + section], host.bodies[row * WIDTH + section]
                    assert (held == 0) == (body is None)
                    assert body is None or sections.section_hash(section, body) == held
        assert not hasattr(self, "table") or held_by == self.table.view.bodies._holders

    @invariant()
    def a_life_is_not_described_by_the_one_before(self) -> None:
        """The pid in the info held is of no older life than is listed; a newer one's roster may have been lost."""
        for row, host in self.rows() if hasattr(self, "table") else ():
            if row.sections is not None and row.sections.info is not None and row.sections.info.pid is not None:
                assert row.sections.info.pid >= host.tokens[host.index[VmId(bytes.fromhex(row.id.replace("-", "")))]]

    def rows(self) -> list[tuple[VmRow, Host]]:
        view = self.table.view
        return [
            (vm_row(view, self.table.now, vm, with_sections=True), vm.owner)
            for vm in view.vms.values()
            if vm.owner is not None
        ]

    @invariant()
    def no_running_vm_is_said_to_be_down(self) -> None:
        """V4: Down is said of a VM only where its owner lists it as Down, whatever has arrived of a new life."""
        for row, host in self.rows() if hasattr(self, "table") else ():
            token = host.tokens[host.index[VmId(bytes.fromhex(row.id.replace("-", "")))]]
            assert row.status != VmStatus.DOWN.label or token == 0

    @invariant()
    def who_is_not_heard_is_unknown(self) -> None:
        """V6: the VMs of a host that is lost, long stopped or long unconfirmed are Unknown, never Down."""
        for row, host in self.rows() if hasattr(self, "table") else ():
            silent = host.state is HostState.LOST or (
                host.state not in HEARD and self.table.now - max(host.confirmed_at, self.last_word_of(host)) >= LOST_S
            )
            if silent:
                assert (row.status, row.freshness) == (VmStatus.UNKNOWN.label, "unknown")

    def last_word_of(self, host: Host) -> float:
        return self.spoke_at.get(host.id, float("-inf"))

    @invariant()
    def no_age_is_too_young(self) -> None:
        """V7: the age said of a VM is never below the true age of what is shown of it, which is what was sent."""
        view = self.table.view if hasattr(self, "table") else None
        for host in self.known_hosts():
            frame = self.table.hosts[host.id].said.frames.get((host.epoch, host.frame_seq), {})
            for row, vm in enumerate(host.vms):
                if view is None or view.vms[vm].owner is not host or host.frame_ms is None:
                    continue
                at, said = host.block.start + row, vm_row(view, self.table.now, view.vms[vm])
                if view.runtime.stats_age[at] == UNKNOWN_32:
                    assert said.age_s is None
                    continue
                assert said.mem_usage == frame[vm].mem_usage
                assert said.age_s is None or said.age_s >= self.table.now - frame[vm].sampled_at - ROUNDING_S

    @invariant()
    def device_statistics_are_what_was_said(self) -> None:
        """V2, V7: what is held of a life's devices was said of it in this epoch, goes on, and is never too young."""
        for host in self.known_hosts():
            for vm, token in zip(host.vms, host.tokens, strict=True):
                held = host.devices.of(vm, token)
                if held is None:
                    continue
                stats = held.stats()
                assert DeviceRecord(token, stats) in self.table.hosts[host.id].said.devices[host.epoch, vm]
                sampled = (stats.disks or {})["vda"].read_bytes or 0
                assert sampled >= self.sampled[host.id, host.epoch, vm]
                self.sampled[host.id, host.epoch, vm] = sampled
                age = host.age(held.monotonic_ms, self.table.now)
                assert age is None or age >= self.table.now - sampled / 1000 - ROUNDING_S

    @invariant()
    def silence_counts_only_where_messages_would_come_through(self) -> None:
        """V9: a host is late or lost only by a silence that canaries have proved, not counting the grace."""
        if not hasattr(self, "table"):
            return
        for event in self.table.view.drain_events():
            self.subscriber.take(event)
            if isinstance(event, BrokerEvent) and event.back:
                self.graced_from = self.table.now + GRACE_S
            if not isinstance(event, HostEvent):
                continue
            silent = self.proved_at - max(self.last_word_of(self.table.view.hosts[event.host]), self.graced_from)
            if event.state is HostState.LOST:
                assert silent > LOST_S
            elif event.state is HostState.LATE:
                assert silent > 2 * TICK_S + SLACK_S

    @invariant()
    def a_subscriber_knows_what_the_view_says(self) -> None:
        """V8: the events, in order, add up to what a reader of the view finds."""
        if hasattr(self, "table"):
            self.silence_counts_only_where_messages_would_come_through()
            self.subscriber.assert_knows(self.table.view, self.table.now)

    @invariant()
    def each_host_is_asked_one_thing_at_a_time(self) -> None:
        """What the view believes to be under way is under way, once for each host, and nothing else is."""
        if not hasattr(self, "table"):
            return
        view, pending = self.table.view, [*self.asked, *(reply.request for reply in self.replies), *self.forgotten]
        held = [host.in_flight for host in view.hosts.values() if host.in_flight is not None]
        assert view.asking.in_flight == len(held)
        assert all(request in pending for request in held)
        recent = [request for request in pending if self.table.now - request.sent_at <= FORGOTTEN_S]
        assert all(request in held for request in recent)

    @rule()
    def all_readers_say_the_same(self) -> None:
        """The arrays of lists and metrics, the rows, and the fleet's row agree on every VM."""
        view, now = self.table.view, self.table.now
        taken = census.take(view, view.hosts.values(), now)
        said = {
            vm: (VmStatus(int(status)).label, census.FRESHNESS[int(freshness)], None if isnan(age) else round(age, 3))
            for vm, status, freshness, age in zip(
                taken.vms, taken.status(), taken.freshness(), map(float, taken.age()), strict=True
            )
        }
        rows = {vm: vm_row(view, now, view.vms[vm]) for vm in view.vms}
        owned = rows.keys() - view.transits.keys()
        assert said == {vm: (rows[vm].status, rows[vm].freshness, rows[vm].age_s) for vm in owned}
        counted = Counter(row.freshness.value for row in rows.values())
        assert {word: count for word, count in fleet_row(view, now).freshness.items() if count} == counted

    @rule()
    def faults_stop(self) -> None:
        """V1: once faults stop, the view equals every live host's truth within three ticks and one pause at most."""
        for host in self.table.hosts.values():
            host.rival = None
            for domain in host.domains.values():
                domain.answered = True
            if host.id in self.table.dead:
                self.table.dead.discard(host.id)
                host.begin(self.table.now, self.table.next_epoch())
        while self.replies:
            self.a_late_reply_arrives(0)
        while self.asked:
            self.a_question_is_settled(0, "answered")
        self.canary()
        until = self.table.now + self.longest_pause()
        for _ in range(3):
            self.step()
        while self.table.now < until + TICK_S:
            self.step()
        self.table.assert_equal()
        for simple_host in self.table.hosts.values():
            simple_host.report_devices(self.table.now)
        self.table.deliver()
        self.table.assert_devices()
        assert {host.state for host in self.table.view.hosts.values()} == {HostState.LIVE}

    def longest_pause(self) -> float:
        """How long the view may ask some host nothing, whatever comes."""
        longest = 0.0
        for host in self.table.view.hosts.values():
            longest = max(longest, host.retry_at - self.table.now)
            if host.in_flight is not None:
                longest = max(longest, host.in_flight.sent_at + FORGOTTEN_S + RETRY_S[-1] - self.table.now)
            if self.table.hosts[host.id].session.epoch in host.retired:
                longest = max(longest, RETIRED_ASKS_S)
            if host.remeasure_at - self.table.now <= REMEASURE_SLOW_S:
                # A slow answer makes every age look as much too old, until the clock is measured anew.
                longest = max(longest, host.remeasure_at - self.table.now)
        return longest

    def teardown(self) -> None:
        if hasattr(self, "table"):
            self.faults_stop()
            self.each_host_is_asked_one_thing_at_a_time()
            self.all_readers_say_the_same()


TestConvergence = Fleet.TestCase
TestConvergence.settings = settings(
    # More only where a profile asks for more.
    max_examples=max(150, settings().max_examples),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
