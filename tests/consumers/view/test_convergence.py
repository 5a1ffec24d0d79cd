"""The promises as properties: hosts, a broker, a view and its store, of which each fails in every way it can.

``make test`` tries some histories, ``make prove`` ten thousand and more. That they would find what they are to find is
test_mutants.py's affair.
"""

from __future__ import annotations

from collections import Counter
from math import isnan

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.consumers.view.view_rules import ViewRules
from vmpulse_consumers.http import census
from vmpulse_consumers.view.rows import fleet_row, vm_row
from vmpulse_contract.values import VmStatus

pytestmark = pytest.mark.timeout(120)

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
