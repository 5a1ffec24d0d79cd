"""A host whose every body comes from golden files: what it says, and what it answers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from tests.contract.test_golden import VERB_OF_REPLY
from vmpulse_contract import topology
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb
from vmpulse_simulator.private_broker import PrivateBroker

FIRST_VERSION: Final = {
    path.stem: path.read_bytes() for path in sorted((Path(__file__).parents[1] / "contract" / "golden" / "1").iterdir())
}
BEGINNING: Final = ("roster_first", "frame_first", "change_details", "change_config", "change_info")
"""What it says first; its answers then are as of the last of these, and its next frame is for who knows it."""
FIRST_HALF: Final = (*BEGINNING, "frame_sixth")
SECOND_HALF: Final = ("roster", "change", "frame", "devices")
SECTION_OF: Final = {
    "change": Section.STATUS,
    "change_details": Section.GUEST_DETAILS,
    "change_config": Section.CONFIG,
    "change_info": Section.INFO,
}
FRAME_EXPIRATION: Final = 6.0
WORD_OF_VERB: Final = {verb: word for word, verb in VERB_OF_REPLY.items()}


def address_of(host: HostId, name: str) -> tuple[str, str]:
    """Exchange and routing key of a golden message."""
    match Kind(name.partition("_")[0]):
        case Kind.ROSTER:
            return topology.RUNTIME, topology.roster_key(host)
        case Kind.ROSTER_CHANGE:
            return topology.RUNTIME, topology.roster_change_key(host)
        case Kind.GOODBYE:
            return topology.RUNTIME, topology.goodbye_key(host)
        case Kind.CHANGE:
            return topology.CHANGES, topology.change_key(host, SECTION_OF[name])
        case Kind.DEVICES:
            key = topology.device_map_key if name == "devices" else topology.devices_key
            return topology.DEVICES, key(host)
        case _:
            return topology.RUNTIME, topology.frame_key(host)


class GoldenHost:
    """One host, its broker user's connection, and how far its life has come.

    ``messages``: bodies by the names of the golden files. ``asked``: what it was asked, by verb.
    """

    def __init__(
        self, host: HostId, messages: Mapping[str, bytes], connection: AbstractConnection, channel: AbstractChannel
    ) -> None:
        self.host = host
        self._connection = connection
        self.messages = messages
        self.asked: Counter[str] = Counter()
        self._said: set[str] = set()
        self._channel = channel

    async def open(self) -> None:
        """Hold the host's rpc queue, as its one live agent."""
        declared = topology.rpc_queue(self.host)
        queue = await self._channel.declare_queue(declared.name, durable=declared.durable, exclusive=declared.exclusive)
        for exchange, key in declared.bindings:
            await queue.bind(exchange, key)
        await queue.consume(self._answer, no_ack=True)

    async def end(self) -> None:
        """Give the rpc queue up; without a goodbye before, as if the agent were killed."""
        await self._connection.close()

    async def say(self, *names: str) -> None:
        """Say golden messages, in order."""
        for name in names:
            self._said.add(name)
            kind = Kind(name.partition("_")[0])
            properties: dict[str, Any] = {"message_id": "-", "expiration": FRAME_EXPIRATION}
            if kind is not Kind.FRAME:
                properties = self._properties(f"{name}.{len(self._said)}")
            await self.say_raw(*address_of(self.host, name), self.messages[name], type=kind, **properties)

    async def say_raw(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        """Say anything."""
        where = await self._channel.get_exchange(exchange, ensure=False)
        await where.publish(aio_pika.Message(body, user_id=self.host, **properties), key)

    def answer_to(self, verb: str) -> bytes:
        """What it answers now; where there is no golden answer, that it is not ready."""
        name = f"reply_{WORD_OF_VERB[Verb(verb)]}" + ("" if "roster" in self._said else "_first")
        return self.messages[name if self._said and name in self.messages else "reply_error"]

    async def _answer(self, request: AbstractIncomingMessage) -> None:
        verb = (request.routing_key or "").rpartition(".")[2]
        self.asked[verb] += 1
        properties = self._properties(request.correlation_id or "")
        key = topology.reply_key(self.host, request.reply_to or "")
        body = self.answer_to(verb)
        await self.say_raw(
            topology.REPLIES, key, body, type=Kind.REPLY, correlation_id=request.correlation_id, **properties
        )

    @staticmethod
    def _properties(message_id: str) -> dict[str, Any]:
        return {
            "content_type": topology.CONTENT_TYPE,
            "message_id": message_id,
            "app_id": topology.APP_ID,
            "timestamp": datetime.now(UTC),
        }


@contextlib.asynccontextmanager
async def golden_host(
    broker: PrivateBroker, host: HostId, messages: Mapping[str, bytes] = FIRST_VERSION
) -> AsyncIterator[GoldenHost]:
    """A golden host at work as its own user."""
    connection = await aio_pika.connect(broker.url(host))
    async with connection, connection.channel() as channel:
        golden = GoldenHost(host, messages, connection, channel)
        await golden.open()
        yield golden
