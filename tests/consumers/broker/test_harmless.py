"""What a host may do although it need not, since RabbitMQ has no narrower rights: no way makes words another's.

Each way ends in the view's queue, where a message of its own, or one that it was told, stands under another host's key.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aio_pika
import pytest

from tests.consumers.broker.attempts import OWN, Channels, led_on, own_exchange, own_queue, publish, taken_over
from tests.contract.golden_messages import A as ITS_VM
from tests.upgrade.golden_host import FIRST_VERSION, GoldenHost, golden_host
from tests.upgrade.picture import AFTER_FIRST_HALF, WITHIN_S, begin, row_of, view_at_work
from tests.waiting import eventually
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import topology
from vmpulse_contract.identity import HostId
from vmpulse_contract.rights import CLI, WAREHOUSE
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

OTHER: Final = HostId("h002")
GOODBYE: Final = topology.goodbye_key(OTHER)
BODY: Final = FIRST_VERSION["goodbye"]
"""Believed, it would stop the other host."""


async def by_its_exchange(to: Channels, user_id: str | None) -> None:
    """Publish to an exchange of its own, whose keys nobody looks at, and have that one pass it on to the stream."""
    await to.host.exchange_declare(OWN, exchange_type="fanout")
    await led_on(OWN, topology.RUNTIME, "")(to.host)
    await publish(OWN, GOODBYE, user_id, BODY)(to.host)


async def by_an_alternate(to: Channels, user_id: str | None) -> None:
    """Publish to an exchange of its own that knows no way, and has the stream for that case."""
    await own_exchange(topology.RUNTIME)(to.host)
    await publish(OWN, GOODBYE, user_id, BODY)(to.host)


async def dying(to: Channels) -> None:
    """Have whatever comes into its queue die at once, and come into the stream under another's key."""
    letters = {"x_dead_letter_exchange": topology.RUNTIME, "x_dead_letter_routing_key": GOODBYE}
    await own_queue(x_message_ttl=0, **letters)(to.host)


async def by_dead_letters(to: Channels, user_id: str | None) -> None:
    """Publish to its queue, through an exchange of its own, what dies there."""
    await dying(to)
    await to.host.exchange_declare(OWN, exchange_type="fanout")
    await to.host.queue_bind(OWN, OWN, "")
    await publish(OWN, "", user_id, BODY)(to.host)


async def by_dead_requests(to: Channels, _: str | None) -> None:
    """Have requests of the engine die."""
    await dying(to)
    await to.host.queue_bind(OWN, topology.RPC, "h001.*")
    await publish(topology.RPC, "h001.list", CLI, BODY)(to.asker)


async def by_requests_led_on(to: Channels, _: str | None) -> None:
    """Have the exchange of requests pass its own on to the stream."""
    await led_on(topology.RPC, topology.RUNTIME, "h001.*")(to.host)
    await publish(topology.RPC, "h001.list", CLI, BODY)(to.asker)


WAYS: Final[dict[str, Callable[[Channels, str | None], Awaitable[None]]]] = {
    "an exchange of its own": by_its_exchange,
    "an exchange without a way": by_an_alternate,
    "dead letters": by_dead_letters,
    "requests that die": by_dead_requests,
    "requests that are led on": by_requests_led_on,
}


@contextlib.asynccontextmanager
async def seen(broker: PrivateBroker) -> AsyncIterator[tuple[ViewService, GoldenHost]]:
    """A view, and another host that it has all of."""
    async with view_at_work(broker) as view, golden_host(broker, OTHER) as other:
        await begin(other, view)
        yield view, other
        # What is not acknowledged would be the first that the next view hears.
        await eventually(lambda: not view.stream._unacked, WITHIN_S, "all was acknowledged")


def state(view: ViewService) -> HostState:
    """What the view says of the other host."""
    return view.view.hosts[OTHER].state


@pytest.mark.parametrize("user_id", ["h001", None], ids=["as itself", "as nobody"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_way_makes_a_hosts_words_anothers(
    guarded_broker: PrivateBroker, way: str, user_id: str | None
) -> None:
    """The broker delivers it with the other's key, or exchange; the view refuses it, and the other stays as it was."""
    async with seen(guarded_broker) as (view, other), taken_over(guarded_broker) as channels:
        refused, before = view.view.counts.rejected.total(), row_of(view, ITS_VM)
        await WAYS[way](channels, user_id)
        await eventually(lambda: view.view.counts.rejected.total() == refused + 1, WITHIN_S, "it was refused")
        after = row_of(view, ITS_VM)
        assert before is not None
        assert after is not None
        assert (after.host, after.status, after.sections) == (before.host, before.status, before.sections)
        assert {vm for vm in AFTER_FIRST_HALF if row_of(view, vm)} == AFTER_FIRST_HALF.keys()
        assert state(view) is not HostState.STOPPED
        # The same words of the host itself are believed: it was who said them that made the difference.
        await other.say("goodbye")
        await eventually(lambda: state(view) is HostState.STOPPED, WITHIN_S, "the host has said goodbye")


@pytest.mark.parametrize("user_id", ["h001", None], ids=["as itself", "as nobody"])
@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_copies_keep_the_senders_own_key(guarded_broker: PrivateBroker, header: str, user_id: str | None) -> None:
    """One who binds another host's keys alone gets what it sends to these, with its own key and never their user_id."""
    async with taken_over(guarded_broker) as channels, await aio_pika.connect(guarded_broker.url(WAREHOUSE)) as reading:
        channel = await reading.channel()
        queue = await channel.declare_queue("vmpulse.warehouse.copies", auto_delete=True)
        await queue.bind(topology.RUNTIME, f"{OTHER}.#")
        await publish(topology.RUNTIME, "h001.goodbye", user_id, BODY, headers={header: [GOODBYE]})(channels.host)
        async with queue.iterator(timeout=WITHIN_S) as copies:
            copy = await anext(copies)
            await copy.ack()
        assert (copy.exchange, copy.routing_key, copy.user_id) == (topology.RUNTIME, "h001.goodbye", user_id)
