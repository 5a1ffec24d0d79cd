"""A host of the next contract version, which today's view does not speak; and a view of it before today's agent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import aio_pika
import pytest

from tests.contract import golden_life as life
from tests.contract.golden_messages import A, B
from tests.real_broker import tapped
from tests.upgrade.conftest import OTHER_VERSION, TODAYS
from tests.upgrade.golden_host import (
    BEGINNING,
    FIRST_HALF,
    FIRST_VERSION,
    SECOND_HALF,
    WORD_OF_VERB,
    address_of,
    golden_host,
)
from tests.upgrade.picture import (
    SECTIONS_A,
    SECTIONS_B,
    WITHIN_S,
    begin,
    complete,
    ready,
    row_of,
    summary,
    todays_host,
    told,
    view_at_work,
)
from tests.upgrade.rewriting import next_version
from tests.waiting import eventually
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view import View
from vmpulse_consumers.view.events import HostEvent
from vmpulse_consumers.view.rows import vm_row
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import topology, verbs
from vmpulse_contract.errors import BadRequest, UnknownVersion
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60), pytest.mark.usefixtures("hurry")]

NEXT: Final = {name: next_version(raw) for name, raw in FIRST_VERSION.items()}
SAYS: Final = "host h001 speaks contract version 2, this view 1: upgrade the view"
ALL: Final = (*FIRST_HALF, *SECOND_HALF)


async def _buried(broker: PrivateBroker) -> list[tuple[object, object]]:
    """Of the messages in vmpulse.dead who said them and why they are there."""
    async with await aio_pika.connect(broker.url()) as connection:
        queue = await (await connection.channel()).get_queue(topology.dead_queue().name)
        found: list[tuple[object, object]] = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append((message.headers["x-vmpulse-user"], message.headers["x-vmpulse-reason"]))
        return found


class TooEarly(NamedTuple):
    """A host whose agent is of the next version now, after one of the first has said goodbye, and one of today."""

    view: ViewService
    other: SimulatedHypervisor
    since: int
    """The number of the last event before the goodbye."""

    def told(self) -> list[tuple[str, ...]]:
        """What was told of the host's VMs since."""
        return summary(told(self.view, self.since, [A, B]))

    def rows(self) -> list[object]:
        """What is said of the host's VMs."""
        return [row and (row.host, row.status, row.sections) for row in (row_of(self.view, vm) for vm in (A, B))]


@contextlib.asynccontextmanager
async def upgraded_too_early(broker: PrivateBroker) -> AsyncIterator[TooEarly]:
    """The agent of the next version has said all that it has to say."""
    async with view_at_work(broker) as view, todays_host(broker) as other:
        async with golden_host(broker, OTHER_VERSION) as golden:
            await begin(golden, view)
            await eventually(lambda: complete(view, other), WITHIN_S)
            since = await ready(view)
            await golden.say("goodbye")
            await eventually(lambda: view.view.hosts[OTHER_VERSION].state is HostState.STOPPED, WITHIN_S)
        async with golden_host(broker, OTHER_VERSION, NEXT) as golden:
            await golden.say(*ALL)
            await eventually(lambda: view.view.counts.rejected == {"version": len(ALL)}, WITHIN_S)
            yield TooEarly(view, other, since)


async def test_it_is_refused_with_a_word_on_what_to_do(
    guarded: PrivateBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Each message is counted and buried; the log names host, versions and remedy, and stays short."""
    caplog.set_level(logging.WARNING, "vmpulse_consumers.service")
    async with upgraded_too_early(guarded) as (view, _, _):
        lines = [line for line in caplog.messages if "rejected" in line]
        assert lines[0] == f"rejected a message with routing key 'h001.roster': version: {SAYS}"
        assert len(lines) == 5, "five lines of each sender, then one in ten seconds"
        with pytest.raises(UnknownVersion) as caught:
            await view.requests.ask(OTHER_VERSION, Verb.LIST)
        assert str(caught.value) == "contract version 2 is not spoken here, only 1: upgrade this side"
        await eventually(lambda: not view._burials, WITHIN_S)
    assert await _buried(guarded) == [(OTHER_VERSION, "version")] * (len(ALL) + 1)


async def test_its_vms_keep_their_last_truth(guarded: PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the goodbye they stand for as long as any stopped host's, then are Unknown; the other host goes on."""
    async with upgraded_too_early(guarded) as early:
        last = [(OTHER_VERSION, "Up", SECTIONS_A), (OTHER_VERSION, "Up", SECTIONS_B)]
        assert (early.rows(), early.told()) == (last, [])
        monkeypatch.setattr("vmpulse_consumers.view.host.LOST_S", 0.1)
        await eventually(lambda: early.told() == [("vm.status", "Unknown")] * 2, WITHIN_S)
        assert early.rows() == [(host, "Unknown", sections) for host, _, sections in last]
        assert complete(early.view, early.other)
        assert told(early.view, early.since, early.other.domains) == []


def _with_the_first_half(now: float) -> View:
    """A view that has heard and asked what there is to know of the first half of a host's life."""
    view = View(now)
    view.canary(now)
    for name in BEGINNING:
        view.receive(*address_of(OTHER_VERSION, name), OTHER_VERSION, FIRST_VERSION[name], now)
    while requests := view.drain_requests(now):
        for request in requests:
            raw = FIRST_VERSION[f"reply_{WORD_OF_VERB[request.verb]}_first"]
            view.replied(request, verbs.read_reply(request.verb, raw), now)
    view.receive(*address_of(OTHER_VERSION, "frame_sixth"), OTHER_VERSION, FIRST_VERSION["frame_sixth"], now)
    return view


def _refused(view: View, name: str, now: float) -> None:
    """The agent of the next version says something, and answers what it is asked."""
    with pytest.raises(UnknownVersion):
        view.receive(*address_of(OTHER_VERSION, name), OTHER_VERSION, NEXT[name], now)
    for request in view.drain_requests(now):
        with pytest.raises(UnknownVersion) as refused:
            verbs.read_reply(request.verb, NEXT["reply_error"])
        view.request_failed(request, refused.value, now)


def test_without_a_goodbye_it_counts_as_silent() -> None:
    """Its host is late, and lost after five of its ticks, as any that is silent; what it says makes nothing young."""
    began, said = 1000.0, []
    view = _with_the_first_half(began)
    for second in range(1, 41):
        now = began + second
        view.canary(now)
        view.tick(now)
        _refused(view, ALL[second % len(ALL)], now)
        said.append([vm_row(view, now, view.vms[vm]).status for vm in (A, B)])
    states = [event.state for event in view.drain_events() if isinstance(event, HostEvent)]
    assert states == [HostState.SYNCING, HostState.LIVE, HostState.LATE, HostState.LOST]
    heard_s = 5 * life.FACTS.tick_ms // 1000
    assert said == [["Up", "Up"]] * heard_s + [["Unknown", "Unknown"]] * (40 - heard_s)
    assert view.counts.rejected == {"version": 40}


async def test_a_view_that_was_upgraded_too_early(guarded: PrivateBroker) -> None:
    """A request of the next version is answered, in the agent's own, with an error that says which side is behind."""
    async with tapped(guarded) as tap, todays_host(guarded):
        await eventually(lambda: tap.of(TODAYS), WITHIN_S)
        for verb in (Verb.GET_ROSTER, Verb.GET_CONFIG):
            answer = await tap.ask(TODAYS, verb, body=NEXT["request"])
            with pytest.raises(BadRequest) as caught:
                verbs.read_reply(verb, answer.body)
            assert str(caught.value) == (
                "this agent speaks contract version 1, the request 2: upgrade the agent, or ask in its version"
            )
