"""When a view is ready: it hears the stream, knows which hosts there are, and each of them stands as it does."""

from __future__ import annotations

import pytest

from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import HOST
from tests.consumers.view.test_memory import kept_table, restart
from vmpulse_consumers.view import HostState, View
from vmpulse_consumers.view.events import RelistEvent, VmAppeared
from vmpulse_consumers.view.memory import Kept
from vmpulse_consumers.view.restoring import restoring
from vmpulse_contract.stream import HostFacts

TICK_AND_SLACK_S = 4.0
LESS_THAN_A_TICK = "hosts have had less than a tick to be heard"


def said_of_fleet(table: Table) -> list[str]:
    """Why the view is not ready."""
    return table.view.not_ready(table.now)


def canaries(table: Table, seconds: int) -> None:
    """Our canary comes once a second."""
    for _ in range(seconds):
        table.now += 1.0
        table.view.canary(table.now)
        table.view.tick(table.now)


def slow_table(tick_ms: int) -> Table:
    """A table of one host with a tick of its own, which the view has met."""
    table = Table()
    table.host.session.facts = HostFacts(tick_ms=tick_ms)
    table.settle()
    assert table.view.hosts[HOST].facts.tick_ms == tick_ms
    return table


def test_ready_means_that_every_known_host_is_confirmed_or_known_to_be_away() -> None:
    """Readiness is a fact with reasons, not a sleep."""
    table = Table(hosts=2)
    table.deliver()
    canaries(table, 4)
    (reason,) = said_of_fleet(table)
    assert reason.startswith("2 hosts are not confirmed yet, among them host-0")
    table.answer()
    assert said_of_fleet(table) == []


def test_a_view_that_remembers_nobody_listens_for_a_tick() -> None:
    """It may have confirmed all that it has heard of: another host may just not have spoken yet."""
    table = Table(hosts=2)
    table.settle()
    table.now += TICK_AND_SLACK_S - 0.01
    assert said_of_fleet(table) == [LESS_THAN_A_TICK]
    table.now += 0.02
    assert said_of_fleet(table) == []


def test_an_empty_fleet_is_ready_as_well() -> None:
    """Where nobody is, nobody is waited for."""
    table = Table(hosts=0)
    canaries(table, 4)
    assert said_of_fleet(table) == []


def test_time_in_which_nobody_could_be_heard_is_no_listening() -> None:
    """Before the first canary, without the broker, and until a connection that was lost is back and proved."""
    table = Table(hosts=0)
    table.view = View(table.now)
    table.now += 60
    assert said_of_fleet(table) == ["the stream has not been heard yet", LESS_THAN_A_TICK]
    canaries(table, 1)
    table.now += 3
    table.view.reconnected(table.now)
    table.now += 5
    assert said_of_fleet(table) == [LESS_THAN_A_TICK]
    canaries(table, 1)
    table.now += 10
    table.view.tick(table.now)
    assert said_of_fleet(table) == ["the broker is lost", LESS_THAN_A_TICK]
    canaries(table, 4)
    assert said_of_fleet(table) == [LESS_THAN_A_TICK]
    canaries(table, 1)
    assert said_of_fleet(table) == []


@pytest.mark.parametrize("tick_ms, seconds", [(500, 4), (10_000, 11), (3_600_000, 16)])
def test_a_longer_tick_of_one_host_may_be_that_of_the_others(tick_ms: int, seconds: int) -> None:
    """They are waited for so long, but no longer than a host may be silent before it is LOST."""
    table = slow_table(tick_ms)
    canaries(table, seconds - 1)
    assert said_of_fleet(table) == [LESS_THAN_A_TICK]
    canaries(table, 1)
    assert LESS_THAN_A_TICK not in said_of_fleet(table)


def test_a_slow_host_that_comes_later_makes_no_view_unready() -> None:
    """Once the fleet is known it stays so, whatever ticks are heard of, and after trouble of the broker."""
    table = Table()
    table.settle()
    canaries(table, 4)
    table.host.begin(table.now, table.next_epoch()).facts = HostFacts(tick_ms=3_600_000)
    table.settle()
    assert (table.view.hosts[HOST].facts.tick_ms, said_of_fleet(table)) == (3_600_000, [])
    table.now += 10
    table.view.tick(table.now)
    assert said_of_fleet(table) == ["the broker is lost"]
    table.view.canary(table.now)
    assert said_of_fleet(table) == []


def test_a_view_that_remembers_its_fleet_is_ready_once_each_host_is_confirmed() -> None:
    """It needs no time to hear of them: the canary, and an answer of each."""
    table, shelf = kept_table(hosts=2)
    view = restart(table, shelf)
    assert said_of_fleet(table)[0] == "the stream has not been heard yet"
    view.canary(table.now)
    (reason,) = said_of_fleet(table)
    assert "2 hosts are not confirmed yet" in reason
    table.answer()
    assert {host.state for host in view.hosts.values()} == {HostState.LIVE}
    assert said_of_fleet(table) == []


def test_a_store_that_knows_nobody_is_as_good_as_none() -> None:
    """A view that was given an empty one listens as one that was given none."""
    table = Table(hosts=0)
    list(restoring(table.view, Kept(), table.now))
    table.view.canary(table.now)
    assert said_of_fleet(table) == [LESS_THAN_A_TICK]


def test_a_ready_view_tells_of_no_vm_before_each_has_its_first_values() -> None:
    """A view over its store is ready in no time; what it meets in its first two ticks is read, not told one by one."""
    table, shelf = kept_table(hosts=2)
    view = restart(table, shelf)
    view.canary(table.now)
    table.answer()
    view.tick(table.now)
    assert said_of_fleet(table) == []
    table.host.define_vm(vm_number(99))
    table.step()
    assert not [event for event in view.drain_events() if isinstance(event, (RelistEvent, VmAppeared))]
    table.step()
    assert [type(event) for event in view.drain_events() if isinstance(event, (RelistEvent, VmAppeared))] == [
        RelistEvent
    ]
