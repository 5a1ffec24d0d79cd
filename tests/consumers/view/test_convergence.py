"""The promises as properties: hosts, a view, a broker that loses, repeats, withholds; agents that restart."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.consumers.view.back_to_back import Delivery, SimpleHost, Table, vm_number
from vmpulse_consumers.view import HostState, Request
from vmpulse_consumers.view.host import WIDTH
from vmpulse_contract import sections, verbs
from vmpulse_contract.errors import HostDidNotAnswer
from vmpulse_contract.sections import BODIED
from vmpulse_contract.topology import Kind

HOSTS, VMS = 2, 3
NUMBERS = st.integers(1, HOSTS * VMS)
WORDS = st.sampled_from(["alice", "bob", "nobody"])


class Fleet(RuleBasedStateMachine):
    """Whatever happens between, the view ends up equal to the truth once faults stop."""

    @initialize(met=st.sampled_from([True, True, False]))
    def begin(self, met: bool) -> None:  # noqa: FBT001 - a drawn value
        self.table = Table(HOSTS, VMS)
        if met:
            self.table.settle()
            self.table.step()
        self.asked: list[Request] = []
        self.seqs: dict[tuple[str, int], int] = {}

    def host_of(self, number: int) -> SimpleHost:
        return list(self.table.hosts.values())[(number - 1) // VMS]

    # --- the truth changes --------------------------------------------------------------------------------------

    @rule(number=NUMBERS, word=WORDS)
    def somebody_logs_in(self, number: int, word: str) -> None:
        self.host_of(number).domains[vm_number(number)].user = word

    @rule(number=NUMBERS, word=WORDS)
    def an_application_changes(self, number: int, word: str) -> None:
        self.host_of(number).domains[vm_number(number)].app = word

    @rule(number=NUMBERS)
    def power_changes(self, number: int) -> None:
        host, vm = self.host_of(number), vm_number(number)
        if host.domains[vm].token:
            host.stop_vm(vm, self.table.now)
        else:
            host.start_vm(vm)

    @rule(number=NUMBERS, clean=st.booleans())
    def an_agent_restarts(self, number: int, clean: bool) -> None:  # noqa: FBT001 - a drawn value
        host = self.host_of(number)
        if clean:
            host.session.goodbye()
            host.pump()
        host.begin(self.table.now, self.table.next_epoch())

    @rule(number=NUMBERS)
    def the_link_breaks_and_comes_back(self, number: int) -> None:
        host = self.host_of(number)
        host.session.disconnected()
        host.session.connected(self.table.now)
        host.pump()

    # --- time and the broker ------------------------------------------------------------------------------------

    @rule(number=NUMBERS, seconds=st.sampled_from([0.05, 0.3, 3.0, 20.0]))
    def time_passes(self, number: int, seconds: float) -> None:
        self.table.now += seconds
        self.host_of(number).tick(self.table.now)
        self.table.view.tick(self.table.now)

    @rule()
    def our_canary_comes(self) -> None:
        self.table.view.canary(self.table.now)

    @rule(number=NUMBERS, count=st.integers(1, 4), fate=st.sampled_from(["arrives", "arrives", "lost", "repeated"]))
    def messages_meet_their_fate(self, number: int, count: int, fate: str) -> None:
        queue = self.host_of(number).queue
        for _ in range(min(count, len(queue))):
            delivery: Delivery = queue.popleft()
            for _ in range({"arrives": 1, "lost": 0, "repeated": 2}[fate]):
                self.table.receive(delivery)

    @rule(number=NUMBERS, kind=st.sampled_from([Kind.FRAME, Kind.ROSTER, Kind.CHANGE]))
    def one_kind_is_lost(self, number: int, kind: Kind) -> None:
        host = self.host_of(number)
        kept = [delivery for delivery in host.queue if delivery.message.kind is not kind]
        host.queue.clear()
        host.queue.extend(kept)

    @rule(number=NUMBERS)
    def all_arrives(self, number: int) -> None:
        queue = self.host_of(number).queue
        while queue:
            self.table.receive(queue.popleft())

    # --- questions ----------------------------------------------------------------------------------------------

    @rule()
    def the_view_asks(self) -> None:
        self.asked += self.table.view.drain_requests(self.table.now)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 10), lost=st.booleans())
    def a_question_is_settled(self, which: int, lost: bool) -> None:  # noqa: FBT001 - a drawn value
        request = self.asked.pop(which % len(self.asked))
        if lost:
            self.table.view.request_failed(request, HostDidNotAnswer("lost"), self.table.now)
        else:
            self.table.answer_one(request)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 10), number=NUMBERS)
    def an_answer_is_overtaken_by_the_stream(self, which: int, number: int) -> None:
        request = self.asked.pop(which % len(self.asked))
        host = self.table.hosts[request.host]
        raw = host.answer(request, self.table.now)
        self.table.now += 3.0
        host.domains[next(iter(host.domains))].user = f"user-{number}"
        host.tick(self.table.now)
        while host.queue:
            self.table.receive(host.queue.popleft())
        self.table.view.replied(request, verbs.read_reply(request.verb, raw), self.table.now)

    # --- promises -----------------------------------------------------------------------------------------------

    @invariant()
    def applied_seq_only_rises(self) -> None:
        """V2: within (host, epoch) applied seq only rises."""
        for host in self.table.view.hosts.values() if hasattr(self, "table") else ():
            key = (host.id, host.epoch)
            assert host.seq >= self.seqs.get(key, 0)
            self.seqs[key] = host.seq

    @invariant()
    def a_held_hash_has_its_body(self) -> None:
        """V5: a held hash is stored with its body or not at all."""
        for host in self.table.view.hosts.values() if hasattr(self, "table") else ():
            for row in range(len(host.vms)):
                for section in BODIED:
                    held, body = host.held[row * WIDTH + section], host.bodies[row * WIDTH + section]
                    assert (held == 0) == (body is None)
                    assert body is None or sections.section_hash(section, body) == held

    @invariant()
    def nothing_vanishes_without_evidence(self) -> None:
        """V3, V6: a VM of a confirmed host is in the view, whatever was lost or silent."""
        for host in self.table.view.hosts.values() if hasattr(self, "table") else ():
            if host.confirmed:
                assert all(vm in self.table.view.vms for vm in host.vms)
                assert set(host.vms) == self.table.hosts[host.id].domains.keys()

    @rule()
    def faults_stop(self) -> None:
        """V1: once faults stop, the view equals every live host's truth, within a few ticks."""
        for request in self.asked:
            self.table.view.request_failed(request, HostDidNotAnswer("lost"), self.table.now)
        self.asked.clear()
        self.table.view.canary(self.table.now)
        for _ in range(4):
            self.table.step()
        self.table.now += 20  # the longest pause after failed requests
        for _ in range(3):
            self.table.step()
        self.table.assert_equal()
        assert {host.state for host in self.table.view.hosts.values()} == {HostState.LIVE}

    def teardown(self) -> None:
        if hasattr(self, "table"):
            self.faults_stop()


TestConvergence = Fleet.TestCase
TestConvergence.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
