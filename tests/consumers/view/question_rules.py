"""What becomes of the view's questions, and a few histories that a random walk would rarely find."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.consumers.view.back_to_back import SimpleHost, vm_number
from tests.consumers.view.broker_rules import BrokerRules
from tests.consumers.view.world import HOSTS, NUMBERS, TICK_S, VMS, Reply
from vmpulse_consumers.amqp_requests import ANSWER_S
from vmpulse_consumers.view import HostState, Request
from vmpulse_consumers.view.asking import RETRY_S
from vmpulse_consumers.view.host import REMEASURE_SLOW_S, WIDTH
from vmpulse_consumers.view.rows import vm_row
from vmpulse_consumers.view.view import FORGOTTEN_S, RETIRED_ASKS_S
from vmpulse_contract import verbs
from vmpulse_contract.errors import HostDidNotAnswer, NotReady, UnknownHost
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import SECTION_OF_VERB, Verb


class QuestionRules(BrokerRules):
    """Questions are answered, late or never."""

    @rule(seconds=st.sampled_from([0.3, 3.0, 6.5]))
    def all_is_well_for_a_while(self, seconds: float) -> None:
        self.all_hosts_tick(seconds)
        for number in range(1, HOSTS * VMS + 1, VMS):
            self.all_arrives(number)
        self.canary()
        self.view_ticks()
        self.the_view_asks()
        while self.asked:
            self.answer_one(self.asked.pop(0))
            self.the_view_asks()

    @rule()
    def the_view_asks(self) -> None:
        requests = self.table.view.drain_requests(self.table.now)
        for request in requests:
            host = self.table.view.hosts[request.host]
            assert host.state not in {HostState.STOPPED, HostState.LOST}
            section = SECTION_OF_VERB.get(request.verb)
            for vm in () if section is None else request.vms:
                assert section is not None
                at = host.index[vm] * WIDTH + section
                assert host.announced[at] != host.held[at], "what is held is not asked for"
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
        elif (
            fate == "answered"
            or request.host in self.table.dead
            or not self.table.broker.reaches(self.table.hosts[request.host])
        ):
            self.answer_one(request)
        else:
            host = self.table.hosts[request.host]
            self.replies.append(Reply(request, host.answer(request, self.table.now)))

    def answer_one(self, request: Request) -> None:
        if request.number in self.disowned:
            self.table.view.request_failed(request, UnknownHost("forgotten"), self.table.now)
        else:
            self.table.answer_one(request)

    def reply(self, request: Request, raw: bytes) -> None:
        """Hand over an answer; one that nobody waits for changes nothing and confirms nobody."""
        if request.number not in self.disowned:
            self.table.reply(request, raw)
            return
        try:
            self.table.view.replied(request, verbs.read_reply(request.verb, raw), self.table.now)
        except NotReady as error:
            self.table.view.request_failed(request, error, self.table.now)

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
            self.reply(reply.request, reply.raw)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 10), number=NUMBERS)
    def an_answer_is_overtaken_by_the_stream(self, which: int, number: int) -> None:
        request = self.asked.pop(which % len(self.asked))
        host = self.table.hosts[request.host]
        if not self.table.broker.reaches(host):
            self.answer_one(request)
            return
        raw = host.answer(request, self.table.now)
        self.table.now += TICK_S
        if host.domains and self.lives(host):
            list(host.domains.values())[number % len(host.domains)].user = self.new_word()
            host.tick(self.table.now)
        while host.queue:
            self.table.receive(host.queue.popleft())
        self.replies.append(Reply(request, raw))
        self.a_late_reply_arrives(-1)

    @rule(
        number=NUMBERS,
        first=st.sampled_from(["nothing", "a VM", "a VM", "a change"]),
        seconds=st.sampled_from([0.3, 3.0]),
    )
    def a_roster_by_verb_comes_late(self, number: int, first: str, seconds: float) -> None:
        """All is well, and the answer to a question stays under way while the stream tells what came after it."""
        self.faults_stop()
        host = self.host_of(number)
        held = self.table.view.hosts.get(host.id)
        if held is None or held.in_flight is not None or not self.lives(host):
            return
        if not self.table.broker.up or self.replies:
            return
        self.table.view.asking.relist(held)
        for request in self.table.view.drain_requests(self.table.now):
            host = self.table.hosts[request.host]
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

    @rule(
        number=NUMBERS,
        kind=st.sampled_from([Kind.CHANGE, Kind.CHANGE, Kind.ROSTER, Kind.FRAME]),
        heals=st.sampled_from([True, True, False]),
        restarted=st.booleans(),
    )
    def all_is_well_but_for_one_loss(
        self,
        number: int,
        kind: Kind,
        heals: bool,  # noqa: FBT001 - a drawn value
        restarted: bool,  # noqa: FBT001 - a drawn value
    ) -> None:
        """A change, a roster or a frame is lost, and nothing else; often that is the last fault of all."""
        host = self.running_place_of(number)
        self.all_is_well_for_a_while(TICK_S)
        self.somebody_logs_in(number)
        if kind is Kind.ROSTER:
            self.power_changes(number)
        elif restarted:
            host.stop_vm(vm_number(number), self.table.now)
            host.start_vm(vm_number(number))
        self.all_hosts_tick(TICK_S)
        self.lose(host, kind)
        self.arrive(host)
        self.a_life_is_not_described_by_the_one_before()
        if heals:
            self.faults_stop()

    @rule(number=NUMBERS)
    def a_body_by_verb_comes_late(self, number: int) -> None:
        """A change is lost and its body asked for; before the answer comes, the stream tells of another change."""
        self.faults_stop()
        host = self.running_place_of(number)
        self.all_is_well_for_a_while(TICK_S)
        self.somebody_logs_in(number)
        self.all_hosts_tick(TICK_S)
        self.lose(host, Kind.CHANGE)
        self.arrive(host)
        self.the_view_asks()
        while self.asked:
            request = self.asked.pop(0)
            if request.verb is Verb.GET_ROSTER:
                self.answer_one(request)
                self.the_view_asks()
            else:
                asked = self.table.hosts[request.host]
                self.replies.append(Reply(request, asked.answer(request, self.table.now)))
        self.somebody_logs_in(number)
        self.all_hosts_tick(TICK_S)
        self.arrive(host)
        self.hashes_come_in_the_order_they_were_announced()
        while self.replies:
            self.a_late_reply_arrives(0)
        self.hashes_come_in_the_order_they_were_announced()

    @rule(number=NUMBERS)
    def an_agent_is_confirmed_before_it_is_heard(self, number: int) -> None:
        """The queue still has what the agent before has said."""
        self.faults_stop()
        host = self.host_of(number)
        for _ in range(2):
            self.all_hosts_tick(TICK_S)
        self.an_agent_restarts(number, clean=False, jump_s=None)
        self.table.view.asking.relist(self.table.view.hosts[host.id])
        self.the_view_asks()
        while self.asked:
            self.answer_one(self.asked.pop(0))
            self.the_view_asks()
        self.nothing_goes_back()
        self.arrive(host)

    @rule(number=NUMBERS)
    def an_agent_is_heard_to_stop(self, number: int) -> None:
        """A goodbye that comes is understood."""
        self.faults_stop()
        host = self.host_of(number)
        self.an_agent_stops(number, clean=True)
        self.arrive(host)
        assert self.table.view.hosts[host.id].state is HostState.STOPPED

    @rule(
        number=NUMBERS,
        source_keeps_it=st.booleans(),
        shown=st.sampled_from([True, False, False]),
        source_first=st.sampled_from([True, True, False]),
        long=st.sampled_from([True, True, False]),
    )
    def a_migration_is_heard_of(
        self,
        number: int,
        source_keeps_it: bool,  # noqa: FBT001
        shown: bool,  # noqa: FBT001
        source_first: bool,  # noqa: FBT001
        long: bool,  # noqa: FBT001
    ) -> None:
        """All is well, and hosts are heard in some order: the VM is there and not Down, however long it takes (V4)."""
        self.faults_stop()
        vm, source = vm_number(number), self.running_place_of(number)
        target, view = self.other_than(source), self.table.view
        if vm in target.domains and target.domains[vm].token:
            target.stop_vm(vm, self.table.now)
        self.all_is_well_for_a_while(TICK_S)
        owner = view.vms[vm].owner
        self.a_migration_begins(number, announced=True)
        if owner is not view.hosts[source.id] or not self.is_arriving(vm, target):
            return
        if shown:
            self.all_hosts_tick(TICK_S)
            self.arrive(target)
            self.arrive(source)
        self.a_migration_succeeds(number, source_keeps_it=source_keeps_it)
        self.all_hosts_tick(TICK_S)
        for host in (source, target) if source_first else (target, source):
            self.arrive(host)
            if long:
                self.nobody_is_heard(40.0, canary=False)
            assert vm_row(view, self.table.now, view.vms[vm]).status != VmStatus.DOWN.label

    def is_whole(self) -> bool:
        """Whether nothing is wrong with the broker and the agents."""
        hosts = self.table.hosts.values()
        return not self.replies and all(
            self.lives(host) and self.table.broker.reaches(host) and host.rival is None for host in hosts
        )

    def running_place_of(self, number: int) -> SimpleHost:
        """Where a VM runs, which is started if it does not."""
        domain = self.place_of(number).domains.get(vm_number(number))
        if domain is None or not domain.token:
            self.power_changes(number)
        return self.place_of(number)

    @rule()
    def faults_stop(self) -> None:
        """V1: once faults stop, the view equals every live host's truth within three ticks and one pause at most."""
        self.table.broker.heal(self.table.now)
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
