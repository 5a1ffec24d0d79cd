"""A flood of replies under another host's key, by what a host's rights leave open: the other is asked as before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.consumers.broker.attempts import OWN, Channels, led_on, own_queue, publish, taken_over
from tests.real_broker import at_work
from tests.waiting import eventually
from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.unasked import LATE_BURST
from vmpulse_contract import topology
from vmpulse_contract.broker_url import parse
from vmpulse_contract.errors import UnknownHost
from vmpulse_contract.identity import HostId
from vmpulse_contract.rights import VIEW
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

OTHER = HostId("h002")
MANY = 3 * int(LATE_BURST)


async def by_its_exchange(to: Channels, token: str) -> None:
    """An exchange of its own, whose keys nobody looks at, passes all on to the replies."""
    await to.host.exchange_declare(OWN, exchange_type="fanout")
    await led_on(OWN, topology.REPLIES, "")(to.host)
    await asyncio.gather(*(publish(OWN, f"{OTHER}.{token}", "h001")(to.host) for _ in range(MANY)))


async def by_dead_letters(to: Channels, token: str) -> None:
    """What it puts into its own queue dies at once, and comes to the replies under the key that it wants."""
    letters = {"x_dead_letter_exchange": topology.REPLIES, "x_dead_letter_routing_key": f"{OTHER}.{token}"}
    await own_queue(x_message_ttl=0, **letters)(to.host)
    await to.host.exchange_declare(OWN, exchange_type="fanout")
    await to.host.queue_bind(OWN, OWN, "")
    await asyncio.gather(*(publish(OWN, "")(to.host) for _ in range(MANY)))


@pytest.mark.parametrize("way", [by_its_exchange, by_dead_letters])
async def test_no_host_has_another_muted(
    guarded_broker: PrivateBroker, way: Callable[[Channels, str], Awaitable[None]]
) -> None:
    """The address becomes another, and the host whose name was used is asked on it; nobody was proved to flood."""
    requests = Requests(parse("broker_url", guarded_broker.url(VIEW)), "test requests")
    async with taken_over(guarded_broker) as channels, at_work(requests.run()):
        await asyncio.wait_for(requests.up.wait(), 8)
        known = requests._token
        await way(channels, known)
        await eventually(lambda: requests.up.is_set() and requests._token != known)
        with pytest.raises(UnknownHost, match="no live agent answers for host h002"):
            await requests.ask(OTHER, Verb.LIST)
