"""Time, and what the broker and the network make of messages."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.consumers.view.back_to_back import ROSTERS, SimpleHost
from tests.consumers.view.simulated_broker import Link
from tests.consumers.view.truth_rules import TruthRules
from tests.consumers.view.world import NUMBERS, TICK_S
from vmpulse_consumers.view.view import CANARY_MISSING_S, GRACE_S
from vmpulse_contract.errors import HostDidNotAnswer
from vmpulse_contract.topology import Kind


class BrokerRules(TruthRules):
    """Messages are lost, repeated, withheld; hosts are cut off; the broker is in trouble."""

    # --- time ---------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, seconds=st.sampled_from([0.05, 0.3, 3.0, 20.0]))
    def time_passes(self, number: int, seconds: float) -> None:
        self.table.now += seconds
        host = self.host_of(number)
        if self.lives(host):
            host.tick(self.table.now)
        self.view_ticks()

    @rule(seconds=st.sampled_from([3.0, 8.0, 16.0, 40.0]), canary=st.booleans())
    def nobody_is_heard(self, seconds: float, canary: bool) -> None:  # noqa: FBT001 - a drawn value
        self.table.now += seconds
        if canary:
            self.canary()
        self.view_ticks()

    @rule()
    def our_canary_comes(self) -> None:
        self.canary()

    @rule()
    def our_canary_is_late(self) -> None:
        """It is not missing yet, but what it has not proved counts against nobody."""
        self.table.now += 5.0
        self.canary()
        self.table.now += CANARY_MISSING_S - 0.5
        self.view_ticks()

    @rule()
    def our_connection_is_back(self) -> None:
        self.table.view.reconnected(self.table.now)
        self.graced_from = self.table.now + GRACE_S

    # --- messages -----------------------------------------------------------------------------------------------

    @rule(
        number=NUMBERS,
        count=st.integers(1, 4),
        fate=st.sampled_from(["arrive", "arrive", "lost", "repeated", "given again"]),
    )
    def messages_meet_their_fate(self, number: int, count: int, fate: str) -> None:
        """Given again: the consumer had not acknowledged them when its channel broke."""
        queue = self.host_of(number).queue
        taken = [queue.popleft() for _ in range(min(count, len(queue)))]
        if fate == "repeated":
            taken = [delivery for delivery in taken for _ in range(2)]
        for delivery in () if fate == "lost" else taken:
            self.table.receive(delivery)
        for delivery in taken if fate == "given again" else ():
            self.table.receive(delivery)

    @rule(number=NUMBERS)
    def a_channel_breaks(self, number: int) -> None:
        """What two ticks have brought is given again, from its beginning."""
        host = self.host_of(number)
        for _ in range(2):
            self.all_hosts_tick(TICK_S)
        taken = list(host.queue)
        host.queue.clear()
        for delivery in [*taken, *taken]:
            self.table.receive(delivery)

    @rule(
        number=NUMBERS, kind=st.sampled_from([Kind.FRAME, Kind.ROSTER, Kind.ROSTER_CHANGE, Kind.CHANGE, Kind.GOODBYE])
    )
    def one_kind_is_lost(self, number: int, kind: Kind) -> None:
        self.lose(self.host_of(number), kind)

    @rule(number=NUMBERS)
    def a_roster_is_lost_but_not_what_follows(self, number: int) -> None:
        """Frames come that are of another layout than the view's."""
        self.power_changes(number)
        host = self.place_of(number)
        for _ in range(2):
            self.all_hosts_tick(TICK_S)
        self.lose(host, Kind.ROSTER)
        self.arrive(host)

    @rule(number=NUMBERS, other=NUMBERS, begins=st.booleans())
    def a_difference_is_lost_but_not_the_next(self, number: int, other: int, begins: bool) -> None:  # noqa: FBT001 - drawn
        """The second one is to a roster that the view does not hold."""
        host = self.place_of(number)
        self.arrive(host)
        for changed in (number, other):
            if begins:
                self.power_changes(changed)
            else:
                self.a_vm_comes_or_goes(changed)
            self.all_hosts_tick(TICK_S)
        told = [delivery for delivery in host.queue if delivery.message.kind in ROSTERS]
        if len(told) > 1:
            host.queue.remove(told[0])
        self.arrive(host)

    @staticmethod
    def lose(host: SimpleHost, kind: Kind) -> None:
        """Lose all messages of a kind; rosters in either way."""
        lost = ROSTERS if kind is Kind.ROSTER else {kind}
        kept = [delivery for delivery in host.queue if delivery.message.kind not in lost]
        host.queue.clear()
        host.queue.extend(kept)

    @rule(number=NUMBERS)
    def a_host_reports_its_devices(self, number: int) -> None:
        if self.lives(self.host_of(number)):
            self.host_of(number).report_devices(self.table.now)

    @rule(number=NUMBERS)
    def all_arrives(self, number: int) -> None:
        self.arrive(self.host_of(number))

    def arrive(self, host: SimpleHost) -> None:
        while host.queue:
            self.table.receive(host.queue.popleft())

    # --- the broker ---------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, link=st.sampled_from([Link.AWAY, Link.LOSES, Link.WITHHOLDS]))
    def a_host_is_cut_off(self, number: int, link: Link) -> None:
        self.table.broker.cut(self.host_of(number), link)

    @rule(number=NUMBERS)
    def a_host_is_back(self, number: int) -> None:
        host = self.host_of(number)
        if self.lives(host):
            self.table.broker.mend(host, self.table.now)

    @rule(number=NUMBERS)
    def a_link_breaks_and_comes_back(self, number: int) -> None:
        self.a_host_is_cut_off(number, Link.AWAY)
        self.a_host_is_back(number)

    @rule(ends=st.booleans())
    def the_broker_goes_into_alarm_or_out(self, ends: bool) -> None:  # noqa: FBT001 - a drawn value
        broker = self.table.broker
        if broker.alarm:
            broker.end_alarm()
        elif not broker.down:
            broker.begin_alarm()
        if ends:
            self.an_alarm_is_over()

    def an_alarm_is_over(self) -> None:
        """Hosts have gone on ticking all the while, and the view has waited in vain."""
        for _ in range(3):
            self.all_hosts_tick(8.0)
            self.view_ticks()
        self.table.broker.end_alarm()

    @rule(seconds=st.sampled_from([0.5, 8.0, 40.0]), hosts_first=st.booleans(), some=st.booleans())
    def the_broker_restarts(self, seconds: float, hosts_first: bool, some: bool) -> None:  # noqa: FBT001 - drawn values
        """What was queued is gone, requests under way fail, and everybody comes back, some of them later."""
        broker = self.table.broker
        broker.die()
        for request in [*self.asked, *(reply.request for reply in self.replies)]:
            self.table.view.request_failed(request, HostDidNotAnswer("the broker is away"), self.table.now)
        self.asked, self.replies = [], []
        for _ in range(2):
            self.all_hosts_tick(seconds / 2)
            self.view_ticks()
        broker.come_back()
        if hosts_first:
            self.hosts_come_back(some=some)
        self.our_connection_is_back()
        if not hosts_first:
            self.hosts_come_back(some=some)

    def hosts_come_back(self, *, some: bool) -> None:
        for host in list(self.table.hosts.values())[some:]:
            if self.lives(host):
                self.table.broker.mend(host, self.table.now)
