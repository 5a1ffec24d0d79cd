"""Additions of a later minor version are passed over: by today's view from a host, and by today's agent from a view."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from tests.contract.golden_messages import DEVICE_COLUMNS, DEVICES, EPOCH, A, B
from tests.contract.test_golden import MESSAGES, VERB_OF_REPLY
from tests.real_broker import tapped
from tests.upgrade.conftest import OTHER_VERSION, TODAYS
from tests.upgrade.golden_host import FIRST_VERSION, SECOND_HALF, golden_host
from tests.upgrade.picture import (
    AFTER_FIRST_HALF,
    AFTER_SECOND_HALF,
    WITHIN_S,
    Said,
    begin,
    complete,
    ready,
    said_of,
    todays_host,
    told,
    view_at_work,
)
from tests.upgrade.rewriting import LATER, newer, packed, unpacked
from tests.waiting import eventually
from vmpulse_consumers.view.states import HostState
from vmpulse_consumers.view.view import LATER_KIND
from vmpulse_contract import device_door, devices, topology, verbs
from vmpulse_contract.errors import UnknownVerb, VerbError
from vmpulse_contract.sections import WatchdogEvent
from vmpulse_contract.values import BootDevice, SessionState, WatchdogAction
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60), pytest.mark.usefixtures("hurry")]

NEWER: Final = newer(FIRST_VERSION)
KINDS_TO_COME: Final = (
    (topology.RUNTIME, "h001.forecast"),
    (topology.CHANGES, "h001.snapshots"),
    (topology.DEVICES, "h001.gpus"),
)


def _b_of_newer() -> Said:
    """B after the first half: what only a newer version has a word for reads as Unknown, all else as it was."""
    was = AFTER_FIRST_HALF[B]
    assert was.sections.info is not None
    assert was.sections.status is not None
    fired = WatchdogEvent(time=1_700_000_111, action=WatchdogAction.UNKNOWN)
    status = replace(was.sections.status, session=SessionState.UNKNOWN, watchdog_event=fired)
    info = replace(was.sections.info, boot=BootDevice.UNKNOWN)
    return was._replace(status="Unknown", sections=replace(was.sections, info=info, status=status))


@pytest.mark.parametrize("name", FIRST_VERSION)
def test_every_message_with_additions_is_read(name: str) -> None:
    """Whatever is added to a message within its version, it is read; and it was changed at all."""
    assert NEWER[name] != FIRST_VERSION[name]
    MESSAGES[name].read(NEWER[name])


def test_device_statistics_with_additions_are_what_they_were() -> None:
    """Fields and columns that are known keep their values beside those that are not."""
    assert devices.read_devices(NEWER["devices"]) == DEVICES
    assert device_door.read_columns(NEWER["devices_columns"]) == DEVICE_COLUMNS


async def test_a_host_of_a_later_minor_version_is_seen(guarded: PrivateBroker) -> None:
    """All that is known is taken, kinds to come are counted, nothing is refused, and the other host goes on."""
    async with (
        view_at_work(guarded) as view,
        todays_host(guarded) as other,
        golden_host(guarded, OTHER_VERSION, NEWER) as golden,
    ):
        await begin(golden, view, {A: AFTER_FIRST_HALF[A], B: _b_of_newer()})
        await eventually(lambda: complete(view, other), WITHIN_S)
        since = await ready(view)
        for exchange, key in KINDS_TO_COME:
            await golden.say_raw(exchange, key, packed([1, LATER]))
        await golden.say(*SECOND_HALF)
        host = view.view.hosts[OTHER_VERSION]
        await eventually(lambda: said_of(view, OTHER_VERSION) == AFTER_SECOND_HALF, WITHIN_S)
        await eventually(lambda: host.devices.told()[0] == DEVICES.number, WITHIN_S)
        await golden.say("goodbye")
        await eventually(lambda: host.state is HostState.STOPPED, WITHIN_S)
        (down,) = told(view, since, [A, B])
        assert (down["data"]["status"], down["data"]["exitReason"]) == ("Down", "unknown")
        assert view.view.counts.messages[LATER_KIND] == len(KINDS_TO_COME)
        assert view.view.counts.rejected == {}
        assert (complete(view, other), told(view, since, other.domains)) == (True, [])


async def test_its_answers_are_read(guarded: PrivateBroker) -> None:
    """Every answer with additions is read, and an error with a code to come is still one that says why."""
    async with view_at_work(guarded) as view, golden_host(guarded, OTHER_VERSION, NEWER) as golden:
        await eventually(view.requests.up.is_set, WITHIN_S)
        with pytest.raises(VerbError, match="has not had its first look"):
            await view.requests.ask(OTHER_VERSION, Verb.LIST)
        await golden.say(*SECOND_HALF)
        for word, verb in VERB_OF_REPLY.items():
            if f"reply_{word}" in NEWER:
                reply = await view.requests.ask(OTHER_VERSION, verb, (A,))
                assert (reply.epoch, reply.as_of, reply.error) == (EPOCH, 9, None)


async def test_an_agent_answers_a_newer_view(guarded: PrivateBroker) -> None:
    """A request with additions is answered, and a verb to come is refused by its name."""
    request = NEWER["request"]
    assert "later" in unpacked(request)
    async with tapped(guarded) as tap, todays_host(guarded) as other:
        await eventually(lambda: tap.of(TODAYS), WITHIN_S)
        answer = await tap.ask(TODAYS, Verb.GET_CONF_INFO, body=request)
        reply = verbs.read_reply(Verb.GET_CONF_INFO, answer.body)
        assert isinstance(reply, verbs.SectionReply)
        assert (reply.missing, reply.vms) == ((A,), {})
        answer = await tap.ask(TODAYS, Verb.LIST, body=request)
        listed = verbs.read_reply(Verb.LIST, answer.body)
        assert isinstance(listed, verbs.ListReply)
        assert listed.vms.keys() == other.domains.keys()
        answer = await tap.ask(TODAYS, "getForecast", body=request)
        with pytest.raises(UnknownVerb, match="'getForecast' is no verb; allowed: list, "):
            verbs.read_reply(Verb.LIST, answer.body)
