"""Hosts that lose their power: nothing runs there, nothing comes there, and what ran begins anew with it."""

from __future__ import annotations

from tests.simulator.stand import TICK_S, Clock, small_fleet
from vmpulse_agent.hypervisor import Exit
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.dynamics import Dynamics, Rates

END = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)


async def test_without_power_every_life_ends_and_with_it_another_begins() -> None:
    """The VMs that were active are again, in other lives; nobody is told of the ends, for nobody saw them."""
    clock = Clock()
    (host,) = small_fleet(clock, hosts=1).hypervisors
    await host.open(lambda _: None)
    before = {look.vm: look.token for look in (await host.look()).domains}
    clock.now += TICK_S
    ran = host.lose_power()
    assert set(ran) == {vm for vm, token in before.items() if token}
    assert {look.token for look in (await host.look()).domains} == {0}
    clock.now += 60
    host.boot(ran)
    await host.open(lambda _: None)
    after = {look.vm: look.token for look in (await host.look()).domains}
    assert {vm for vm, token in after.items() if token} == set(ran)
    assert all(after[vm] != before[vm] for vm in ran)
    assert host.remembered() == []


async def test_nothing_migrates_to_a_host_without_power() -> None:
    """Migrations choose among the hosts that run."""
    clock = Clock()
    fleet = small_fleet(clock, hosts=3)
    dark = fleet.hypervisors[2]
    dark.lose_power()
    there = set(dark.domains)
    dynamics = Dynamics(fleet, lambda *_: False, clock.now, Rates(0, 0, 0, 200))
    clock.now += 60
    dynamics.advance(clock.now)
    dynamics.finish()
    assert dynamics.happened.migrations > 20
    assert set(dark.domains) == there


async def test_ends_that_an_agent_could_not_keep_are_not_expected_of_the_next() -> None:
    """Who is killed loses what it saw last; what it saw before, the next one still has to tell of."""
    clock = Clock()
    (host,) = small_fleet(clock, hosts=1).hypervisors
    await host.open(lambda _: None)
    await host.look()
    first, second, *_ = (vm for vm in host.domains if host.running(vm))
    for vm in (first, second):
        host.power_off(vm, END)
        clock.now += TICK_S
        await host.look()
    host.forget_ended(clock.now - 1)
    assert [ended.vm for ended in host.remembered()] == [first]
