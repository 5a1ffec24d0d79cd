"""The promises as properties: hosts, a broker, a view and its store, of which each fails in every way it can.

``make test`` tries some histories, ``make prove`` ten thousand and more. That they would find what they are to find is
test_mutants.py's affair.
"""

from __future__ import annotations

from collections import Counter
from math import isnan

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.consumers.view.view_rules import ViewRules
from tests.consumers.view.world import TICK_S
from vmpulse_consumers.http import census
from vmpulse_consumers.view import HostState
from vmpulse_consumers.view.asking import RETRY_S
from vmpulse_consumers.view.host import REMEASURE_SLOW_S
from vmpulse_consumers.view.rows import fleet_row, vm_row
from vmpulse_consumers.view.view import FORGOTTEN_S, RETIRED_ASKS_S
from vmpulse_contract.values import VmStatus

EXAMPLES = 150
"""Of the normal profile; each deliberate bug has to be caught within so many."""
STEPS = 40


class Fleet(ViewRules):
    """Whatever happens between, the view ends up equal to the truth once faults stop."""

    @initialize(met=st.sampled_from([True, True, True, False]))
    def begin(self, met: bool) -> None:  # noqa: FBT001 - a drawn value
        self.table.watch = self.watched
        if met:
            self.table.settle()
            self.step()

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

    def teardown(self) -> None:
        self.table.watch = self.watched
        self.faults_stop()
        self.each_host_is_asked_one_thing_at_a_time()
        self.all_readers_say_the_same()


TestConvergence = Fleet.TestCase
TestConvergence.settings = settings(
    # More only where a profile asks for more.
    max_examples=max(EXAMPLES, settings().max_examples),
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
