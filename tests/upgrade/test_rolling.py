"""A host's agent is upgraded while the view goes on, is restarted or is away: nothing wrong is seen of its VMs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.golden_messages import A, B
from tests.upgrade.conftest import OTHER_VERSION
from tests.upgrade.golden_domains import golden_hypervisor
from tests.upgrade.golden_host import SECOND_HALF, golden_host
from tests.upgrade.picture import (
    AFTER_SECOND_HALF,
    WITHIN_S,
    begin,
    complete,
    known,
    ready,
    row_of,
    said_of,
    summary,
    todays_agent,
    todays_host,
    told,
    view_at_work,
)
from tests.waiting import eventually
from vmpulse_agent.host_agent import HostAgent
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.states import HostState
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60), pytest.mark.usefixtures("hurry")]


async def taken_over(view: ViewService, agent: HostAgent, hypervisor: SimulatedHypervisor) -> None:
    """Wait until today's agent is believed, and all that it says is seen."""
    host = view.view.hosts[OTHER_VERSION]
    await eventually(lambda: host.epoch == agent.session.epoch, WITHIN_S, "the new epoch is confirmed")
    await eventually(lambda: complete(view, hypervisor) and host.state is HostState.LIVE, WITHIN_S)


def assert_never_lost(view: ViewService) -> None:
    """Silence was never long enough to say that nobody knows what a host's VMs do."""
    assert not {"host.lost", "host.gone", "broker.lost", "vm.gone", "vm.migrated"} & view.teller.told.keys()


def assert_undisturbed(view: ViewService, other: SimulatedHypervisor, since: int) -> None:
    """Nothing was told of the other host's VMs, and nothing was refused of anybody."""
    assert complete(view, other)
    assert told(view, since, other.domains) == []
    assert view.view.counts.rejected == {}


async def test_an_upgrade_with_the_view_restarted_midway(guarded: PrivateBroker, tmp_path: Path) -> None:
    """A new view goes on from the store, sees the old agent out and the new one in: each change is told once."""
    store, hypervisor = tmp_path / "view.db", golden_hypervisor(OTHER_VERSION, b_runs=False)
    async with todays_host(guarded) as other, golden_host(guarded, OTHER_VERSION) as golden:
        async with view_at_work(guarded, store) as first:
            await begin(golden, first)
            await eventually(lambda: complete(first, other) and not first.view.memory, WITHIN_S)
        asked = golden.asked.copy()
        async with view_at_work(guarded, store) as view:
            await eventually(lambda: known(view, OTHER_VERSION) and complete(view, other), WITHIN_S)
            since = await ready(view)
            await golden.say(*SECOND_HALF)
            await eventually(lambda: said_of(view, OTHER_VERSION) == AFTER_SECOND_HALF, WITHIN_S)
            assert {*(golden.asked - asked)} == {Verb.GET_ROSTER}, "sections are remembered"
            await golden.say("goodbye")
            await eventually(lambda: view.view.hosts[OTHER_VERSION].state is HostState.STOPPED, WITHIN_S)
            await golden.end()
            async with todays_agent(guarded, hypervisor) as agent:
                await taken_over(view, agent, hypervisor)
                assert_never_lost(view)
                assert summary(told(view, since, [A])) == [("vm.section", "config")]
                status, *news = summary(told(view, since, [B]))
                assert status == ("vm.status", "Down")
                assert sorted(news) == [("vm.section", "config"), ("vm.section", "info")]
                assert_undisturbed(view, other, since)


async def test_an_agent_replaced_without_a_goodbye(guarded: PrivateBroker) -> None:
    """Equal content has equal bytes in both versions: nothing is told but what is new, and nothing is fetched."""
    hypervisor = golden_hypervisor(OTHER_VERSION, b_runs=True)
    async with (
        todays_host(guarded) as other,
        view_at_work(guarded) as view,
        golden_host(guarded, OTHER_VERSION) as golden,
    ):
        await begin(golden, view)
        await eventually(lambda: complete(view, other), WITHIN_S)
        since, repairs = await ready(view), view.view.counts.repairs
        await golden.end()
        async with todays_agent(guarded, hypervisor) as agent:
            await taken_over(view, agent, hypervisor)
            assert summary(told(view, since, [A, B])) == [("vm.section", "config")]
            assert view.view.counts.repairs == repairs
            assert_never_lost(view)
            assert_undisturbed(view, other, since)


async def test_an_upgrade_while_the_view_is_away(guarded: PrivateBroker, tmp_path: Path) -> None:
    """The view's next start shows the VMs as it knew them, and finds the new agent without fetching a section."""
    store, hypervisor = tmp_path / "view.db", golden_hypervisor(OTHER_VERSION, b_runs=True)
    async with todays_host(guarded) as other:
        async with view_at_work(guarded, store) as first, golden_host(guarded, OTHER_VERSION) as golden:
            await begin(golden, first)
            await eventually(lambda: complete(first, other) and not first.view.memory, WITHIN_S)
        async with todays_agent(guarded, hypervisor) as agent, view_at_work(guarded, store) as view:
            rows = [row_of(view, vm) for vm in (A, B)]
            assert [row and (row.host, row.status) for row in rows] == [(OTHER_VERSION, "Up")] * 2
            await taken_over(view, agent, hypervisor)
            assert view.view.counts.repairs == 0
            since = await ready(view)
            assert_never_lost(view)
            assert_undisturbed(view, other, since)
