"""Requests to hosts over a real broker: every answer, and every kind of none, at once where that is possible."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aio_pika
import aiormq
import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.conftest import ADMIN
from tests.real_broker import (
    Tap,
    address,
    agent_at_work,
    at_work,
    cable,
    simulated_host,
    tapped,
    unique,
)
from tests.waiting import eventually
from vmpulse_consumers import amqp_requests
from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.unasked import LATE_BURST
from vmpulse_contract import topology, verbs, wire
from vmpulse_contract.broker_url import BrokerUrl
from vmpulse_contract.errors import (
    BadRequest,
    HostDidNotAnswer,
    NotAllowed,
    UnknownHost,
    UnknownVerb,
    VerbError,
)
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import SectionReply, Verb
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

EVIL = "evil-host"


@contextlib.asynccontextmanager
async def asking(url: BrokerUrl) -> AsyncIterator[Requests]:
    """An asker with its connection up."""
    requests = Requests(url, "test requests")
    async with at_work(requests.run()):
        await asyncio.wait_for(requests.up.wait(), 8)
        yield requests


@contextlib.asynccontextmanager
async def live_host(broker: PrivateBroker) -> AsyncIterator[tuple[SimulatedHypervisor, Tap]]:
    """A host whose agent answers."""
    hypervisor = simulated_host(unique("asked"))
    async with tapped(broker) as tap, agent_at_work(hypervisor, address(broker)):
        await eventually(lambda: tap.of(hypervisor.host, Kind.FRAME))
        yield hypervisor, tap


async def refusal(tap: Tap, host: str, verb: str, body: bytes | None = None, user: str = ADMIN.name) -> VerbError:
    """The error that a host answers a request made by hand with."""
    reply = await tap.ask(host, verb, body=body, user=user)
    with pytest.raises(VerbError) as refused:
        verbs.read_reply(Verb.LIST, reply.body)
    return refused.value


async def test_unknown_host_is_an_error_at_once(broker: PrivateBroker) -> None:
    """A host without a live agent is known as such within a second, not at a deadline."""
    async with asking(address(broker)) as requests:
        started = time.monotonic()
        with pytest.raises(UnknownHost, match="check the name"):
            await requests.ask(HostId("nobody-there"), Verb.LIST)
        assert time.monotonic() - started < 1


async def test_every_verb_is_answered_and_unknown_vms_are_missing(broker: PrivateBroker) -> None:
    """A live host answers every verb; VM ids that it does not have come back in ``missing``."""
    stranger = VmId(b"?" * 16)
    async with live_host(broker) as (hypervisor, _), asking(address(broker)) as requests:
        for verb in Verb:
            assert (await requests.ask(hypervisor.host, verb)).as_of > 0
        known = next(iter(hypervisor.domains))
        reply = await requests.ask(hypervisor.host, Verb.GET_CONF_INFO, [known, stranger])
        assert isinstance(reply, SectionReply)
        assert (set(reply.vms), reply.missing, reply.remaining) == ({known}, (stranger,), ())


async def test_requests_that_are_none_are_answered_at_once(broker: PrivateBroker) -> None:
    """Unknown verbs, malformed requests and askers who are no engine user get the error that says so, without delay."""
    async with live_host(broker) as (hypervisor, tap):
        started = time.monotonic()
        host = hypervisor.host
        assert type(await refusal(tap, host, "getLost")) is UnknownVerb
        assert type(await refusal(tap, host, "")) is UnknownVerb
        assert type(await refusal(tap, host, Verb.LIST, body=b"\xc1")) is BadRequest
        assert type(await refusal(tap, host, Verb.LIST, body=wire.write({"version": 9}))) is BadRequest
        assert type(await refusal(tap, host, Verb.LIST, user="otherhost")) is NotAllowed
        assert time.monotonic() - started < 1


async def test_request_without_a_way_back_is_dropped(broker: PrivateBroker) -> None:
    """A request without a usable reply_to costs the agent nothing; the next one is answered."""
    async with live_host(broker) as (hypervisor, tap):
        body = wire.write(verbs.Request())
        for token in (None, "", "#", "a.b", "é" * 60, "x" * 65):
            await tap.say(topology.RPC, f"{hypervisor.host}.list", body, user_id=ADMIN.name, reply_to=token)
        reply = await tap.ask(hypervisor.host, Verb.LIST)
        verbs.read_reply(Verb.LIST, reply.body)
        assert (reply.user_id, reply.type, reply.correlation_id) == (hypervisor.host, Kind.REPLY, "c")


@contextlib.asynccontextmanager
async def silent_host(broker: PrivateBroker) -> AsyncIterator[tuple[HostId, asyncio.Queue[AbstractIncomingMessage]]]:
    """A host that holds its queue, takes requests and leaves the answering to the test."""
    host, came = HostId(unique("silent")), asyncio.Queue[AbstractIncomingMessage]()
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(topology.rpc_queue(host).name, exclusive=True)
        await queue.bind(topology.RPC, f"{host}.*")
        await queue.consume(came.put, no_ack=True)
        yield host, came


async def test_silent_host_is_given_up_at_the_deadline(broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that holds its queue and never answers costs its asker the deadline and no more."""
    monkeypatch.setattr(amqp_requests, "ANSWER_S", 0.5)
    async with asking(address(broker)) as requests, silent_host(broker) as (host, came):
        started = time.monotonic()
        with pytest.raises(HostDidNotAnswer, match="did not answer list"):
            await requests.ask(host, Verb.LIST)
        assert 0.5 <= time.monotonic() - started < 1.5
        assert (await came.get()).expiration == 5.0
        assert not requests._waiting


async def test_no_host_answers_for_another(broker: PrivateBroker) -> None:
    """An answer in another's name, by user or by routing key, is passed over; the right one still counts."""
    async with asking(address(broker)) as requests, silent_host(broker) as (host, came), tapped(broker) as tap:
        asked = asyncio.create_task(requests.ask(host, Verb.LIST))
        request = await came.get()
        answer = wire.write(verbs.ListReply(version=wire.VERSION, epoch=1, as_of=1, monotonic_ms=0))
        evil = wire.write(verbs.ListReply(version=wire.VERSION, epoch=666, as_of=1, monotonic_ms=0))
        correlation = request.correlation_id
        for user, name, body in ((EVIL, EVIL, evil), (EVIL, host, evil), (host, EVIL, evil), (None, host, evil)):
            key = f"{name}.{request.reply_to}"
            await tap.say(topology.REPLIES, key, body, user_id=user, correlation_id=correlation)
        key = f"{host}.{request.reply_to}"
        await tap.say(topology.REPLIES, key, answer, user_id=host, correlation_id="unasked")
        await tap.say(topology.REPLIES, key, answer, user_id=host, correlation_id=correlation)
        assert (await asyncio.wait_for(asked, 3)).epoch == 1


async def test_a_host_that_floods_with_replies_loses_the_address(broker: PrivateBroker) -> None:
    """Its replies come nowhere any more, it is not asked for a while, and others are asked and answered as before."""
    answer = wire.write(verbs.ListReply(version=wire.VERSION, epoch=1, as_of=1, monotonic_ms=0))
    async with (
        asking(address(broker)) as requests,
        silent_host(broker) as (host, came),
        live_host(broker) as (honest, tap),
    ):
        asked = asyncio.create_task(requests.ask(host, Verb.LIST))
        known = (await came.get()).reply_to
        for _ in range(3 * int(LATE_BURST)):  # more than it gains meanwhile
            await tap.say(topology.REPLIES, f"{host}.{known}", answer, user_id=host, correlation_id="unasked")
        with pytest.raises(HostDidNotAnswer):
            await asyncio.wait_for(asked, 3)
        await eventually(lambda: requests.up.is_set() and requests._token != known)
        with pytest.raises(HostDidNotAnswer, match=f"{host} is not asked for 60 s: it sent many replies unasked"):
            await requests.ask(host, Verb.LIST)
        assert (await requests.ask(honest.host, Verb.LIST)).as_of > 0
        assert not await exists(broker, topology.reply_queue(known or "").name)


async def exists(broker: PrivateBroker, queue: str) -> bool:
    """Whether the broker has a queue, be it somebody's own."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        try:
            await channel.get_queue(queue)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        except aiormq.exceptions.ChannelLockedResource:
            return True
    return True


async def test_lost_connection_ends_what_is_under_way(broker: PrivateBroker) -> None:
    """Requests under way end with the connection, at once; after it is back, hosts are asked as before."""
    async with (
        cable(broker) as way,
        asking(address(broker, way.port)) as requests,
        silent_host(broker) as (host, came),
    ):
        waiting = asyncio.create_task(requests.ask(host, Verb.LIST))
        await came.get()
        way.hold()
        unsent = asyncio.create_task(requests.ask(host, Verb.LIST))
        await asyncio.sleep(0)
        way.cut()
        way.release()
        for request in (waiting, unsent):
            with pytest.raises(HostDidNotAnswer):
                await asyncio.wait_for(request, 3)
        await asyncio.wait_for(requests.up.wait(), 8)
        with pytest.raises(UnknownHost):
            await requests.ask(HostId("nobody-there"), Verb.LIST)


async def test_asking_without_a_connection_fails_at_once(broker: PrivateBroker) -> None:
    """Without a connection a question is not kept for later: the asker hears at once that it was not put."""
    requests = Requests(address(broker), "never up")
    with pytest.raises(HostDidNotAnswer, match="no connection"):
        await requests.ask(HostId("any"), Verb.LIST)
