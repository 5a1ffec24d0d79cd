"""A host of the first contract version, byte by byte from the golden files, before today's view on a real broker."""

from __future__ import annotations

import pytest

from tests.contract import golden_life as life
from tests.contract.golden_messages import DEVICE_COLUMNS, DEVICES, TOKEN_A, TOKEN_B, TOKEN_C, A, B, C
from tests.contract.test_golden import MESSAGES, VERB_OF_REPLY
from tests.upgrade.conftest import OTHER_VERSION
from tests.upgrade.golden_host import FIRST_HALF, SECOND_HALF, golden_host
from tests.upgrade.picture import (
    AFTER_SECOND_HALF,
    WITHIN_S,
    begin,
    complete,
    ready,
    row_of,
    said_of,
    summary,
    todays_host,
    told,
    view_at_work,
)
from tests.waiting import eventually
from vmpulse_consumers.http.vm_devices import vm_devices
from vmpulse_consumers.view.rows import host_row
from vmpulse_consumers.view.states import HostState
from vmpulse_consumers.view.view import LATER_KIND
from vmpulse_contract.errors import NotReady
from vmpulse_contract.sections import Section
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60), pytest.mark.usefixtures("hurry")]


async def test_its_whole_life_is_seen(guarded: PrivateBroker) -> None:
    """Beside a host of today its VMs, sections, devices and own statistics are right, from its start to its goodbye."""
    async with (
        view_at_work(guarded) as view,
        todays_host(guarded) as other,
        golden_host(guarded, OTHER_VERSION) as golden,
    ):
        await begin(golden, view)
        await eventually(lambda: complete(view, other), WITHIN_S)
        since, hosts = await ready(view), view.view.hosts
        row = row_of(view, B)
        assert row is not None
        assert row.hashes == {section.label: f"{record.hash:016x}" for section, record in life.RECORDS_B.items()}
        assert hosts[OTHER_VERSION].facts == life.FACTS
        assert [*hosts[OTHER_VERSION].tokens] == [TOKEN_A, TOKEN_B]

        await golden.say(*SECOND_HALF)
        await eventually(lambda: said_of(view, OTHER_VERSION) == AFTER_SECOND_HALF, WITHIN_S)
        await eventually(lambda: hosts[OTHER_VERSION].devices.told()[0] == DEVICES.number, WITHIN_S)
        assert vm_devices(view.view.vms[A], view.clock()).device_stats == DEVICES.vms[A].stats
        await golden.say("devices_columns")
        await eventually(lambda: hosts[OTHER_VERSION].devices.told()[0] == DEVICE_COLUMNS.number, WITHIN_S)
        assert vm_devices(view.view.vms[A], view.clock()).device_stats == DEVICE_COLUMNS.vms[A].stats
        stats = host_row(view.view, hosts[OTHER_VERSION], view.clock()).stats
        assert stats is not None
        assert (stats.cpu_user, stats.cpu_load, stats.mem_used, stats.vm_active) == (50.3, 64.31, 150_000, 1)

        await golden.say("goodbye")
        await eventually(lambda: hosts[OTHER_VERSION].state is HostState.STOPPED, WITHIN_S)
        (stopped,) = told(view, since, [A, B])
        assert summary([stopped]) == [("vm.status", "Down")]
        assert stopped["data"]["exitReason"] == "user_shutdown"
        assert complete(view, other)
        assert (view.view.counts.rejected, view.view.counts.messages[LATER_KIND]) == ({}, 0)


async def test_what_has_changed_of_its_roster_is_seen(guarded: PrivateBroker) -> None:
    """By its difference one VM has migrated away and another is there; the answer it gave before undoes nothing."""
    async with view_at_work(guarded) as view, golden_host(guarded, OTHER_VERSION) as golden:
        await begin(golden, view)
        await golden.say(*SECOND_HALF)
        await eventually(lambda: said_of(view, OTHER_VERSION) == AFTER_SECOND_HALF, WITHIN_S)
        await golden.say("rosterChange")
        host = view.view.hosts[OTHER_VERSION]
        await eventually(lambda: host.vms == [B, C], WITHIN_S)
        assert [*host.tokens] == [0, TOKEN_C]
        assert list(view.view.transits) == [A]


@pytest.mark.parametrize("half", [FIRST_HALF, SECOND_HALF])
async def test_its_answers_are_read(guarded: PrivateBroker, half: tuple[str, ...]) -> None:
    """Every verb that the first version knows is answered by it and read today, its refusals too."""
    ending = "_first" if half is FIRST_HALF else ""
    async with view_at_work(guarded) as view, golden_host(guarded, OTHER_VERSION) as golden:
        await eventually(view.requests.up.is_set, WITHIN_S)
        with pytest.raises(NotReady, match="has not had its first look"):
            await view.requests.ask(OTHER_VERSION, Verb.LIST)
        await golden.say(*half)
        answered = {word: f"reply_{word}{ending}" for word in VERB_OF_REPLY if f"reply_{word}{ending}" in MESSAGES}
        for word, name in answered.items():
            assert await view.requests.ask(OTHER_VERSION, VERB_OF_REPLY[word], (A,)) == MESSAGES[name].message
        assert len(answered) >= len(Section)
