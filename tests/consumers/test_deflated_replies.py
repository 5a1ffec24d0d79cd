"""Replies that come deflated to whoever takes that, over a real broker: agents and askers of before and of today."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.consumers.test_amqp_requests import asking, live_host, silent_host
from tests.consumers.test_amqp_stream import graveyard
from tests.real_broker import Tap, address, tapped
from tests.waiting import eventually
from vmpulse_contract import topology, verbs, wire
from vmpulse_contract.errors import BadRequest, MalformedMessage, MessageError, MessageTooBig
from vmpulse_contract.identity import HostId
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

ASKED: Final = wire.write(verbs.Request(deflate=True))
NAMES: Final = wire.write(
    verbs.ListReply(
        version=wire.VERSION,
        epoch=1,
        as_of=1,
        monotonic_ms=0,
        vms={vm.to_bytes(16, "big"): verbs.ListRecord(status=VmStatus.UP, vm_name="one of many") for vm in range(40)},
    )
)


async def test_a_reply_is_deflated_only_for_who_asked(broker: PrivateBroker) -> None:
    """Who does not say that it takes deflated replies gets them as ever; both replies say the same."""
    async with live_host(broker) as (hypervisor, tap):
        plain = await tap.ask(hypervisor.host, Verb.GET_CONFIG)
        packed = await tap.ask(hypervisor.host, Verb.GET_CONFIG, body=ASKED)
    assert (plain.content_encoding, packed.content_encoding) == (None, "deflate")
    assert len(packed.body) < len(plain.body) // 2
    told, inflated = (verbs.read_reply(Verb.GET_CONFIG, raw) for raw in (plain.body, zlib.decompress(packed.body)))
    assert isinstance(told, verbs.SectionReply)
    assert isinstance(inflated, verbs.SectionReply)
    assert told.vms == inflated.vms


async def test_an_error_comes_as_it_is(broker: PrivateBroker) -> None:
    """Whether replies may be deflated is told by a boolean; anything else is a bad request, said in plain bytes."""
    async with live_host(broker) as (hypervisor, tap):
        wrong = await tap.ask(hypervisor.host, Verb.LIST, body=wire.write({"version": 1, "vmIDs": [], "deflate": 1}))
    assert wrong.content_encoding is None
    with pytest.raises(BadRequest, match="deflate"):
        verbs.read_reply(Verb.LIST, wrong.body)


async def _answered(broker: PrivateBroker, body: bytes, encoding: str | None) -> verbs.AnyReply:
    """What an asker of today makes of a reply."""
    async with asking(address(broker)) as requests, silent_host(broker) as (host, came), tapped(broker) as tap:
        asked = asyncio.create_task(requests.ask(host, Verb.LIST))
        request = await came.get()
        assert verbs.read_request(request.body).deflate is True
        await _reply(tap, host, request, body, encoding)
        return await asyncio.wait_for(asked, 3)


async def _reply(tap: Tap, host: HostId, request: AbstractIncomingMessage, body: bytes, encoding: str | None) -> None:
    key = topology.reply_key(host, request.reply_to or "")
    correlation = request.correlation_id
    await tap.say(topology.REPLIES, key, body, user_id=host, correlation_id=correlation, content_encoding=encoding)


@pytest.mark.parametrize("body, encoding", [(NAMES, None), (zlib.compress(NAMES), "deflate")])
async def test_replies_of_agents_of_before_and_of_today_are_read(
    broker: PrivateBroker, body: bytes, encoding: str | None
) -> None:
    """An agent that knows nothing of deflated replies answers as ever, and is understood like one that does."""
    assert await _answered(broker, body, encoding) == verbs.read_reply(Verb.LIST, NAMES)


@pytest.mark.parametrize(
    "body, encoding, refusal",
    [
        (zlib.compress(bytes(1 << 28), 9), "deflate", MessageTooBig),
        (NAMES, "deflate", MalformedMessage),
        (zlib.compress(NAMES)[:-1], "deflate", MalformedMessage),
        (zlib.compress(NAMES) + b"!", "deflate", MalformedMessage),
        (zlib.compress(NAMES), "gzip", MalformedMessage),
        (zlib.compress(NAMES), None, MalformedMessage),
    ],
)
async def test_what_does_not_inflate_is_refused_and_buried(
    broker: PrivateBroker, body: bytes, encoding: str | None, refusal: type[MessageError]
) -> None:
    """A bomb, garbage, a stream that is cut off and an unknown encoding are a typed error each, and are kept."""
    async with graveyard(broker) as buried:
        with pytest.raises(refusal):
            await _answered(broker, body, encoding)
        await eventually(lambda: buried)
    assert [(one.content_encoding, one.headers["x-vmpulse-reason"]) for one in buried] == [(encoding, refusal.reason)]
