"""How agents in other processes reach their hypervisors, which outlive them: messages and frames on a Unix socket.

It is what libvirt's socket is to a real agent. Both ends are ours and of one version, so nothing is bounded or checked
beyond its type. Clocks need no care either: on one machine all processes have the same monotonic clock.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from vmpulse_agent.hypervisor import (
    DeviceSample,
    HypervisorEvent,
    HypervisorFacts,
    LifecycleEvent,
    Look,
    SectionReading,
    SectionsStale,
)
from vmpulse_contract.sections import Section
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    import asyncio

LENGTH: Final = struct.Struct("!I")
RESULTS: Final[dict[str, Any]] = {
    "facts": HypervisorFacts,
    "look": Look,
    "read": SectionReading,
    "device_sample": DeviceSample,
    "host_stats": HostStats,
}
"""What each call gives, by the method of `vmpulse_agent.hypervisor.Hypervisor` that it stands for."""
EVENTS: Final[dict[str, Any]] = {kind.__name__: kind for kind in (LifecycleEvent, SectionsStale)}


class Hello(Struct, frozen=True, tag=True, array_like=True):
    """The first word of an agent: whose it is, and its epoch."""

    host: str
    epoch: int


class Call(Struct, frozen=True, tag=True, array_like=True):
    """A call of one method of the port; the arguments are those that the method has."""

    number: int
    method: str
    states_only: bool = False
    vm: bytes = b""
    wanted: frozenset[Section] = frozenset()


class Answer(Struct, frozen=True, tag=True, array_like=True):
    """What a call gave, packed, or why it gave nothing."""

    number: int
    result: bytes = b""
    error: str | None = None


class Event(Struct, frozen=True, tag=True, array_like=True):
    """Something that the hypervisor announces: a key of EVENTS, and the event packed."""

    kind: str
    content: bytes


FromAgent: TypeAlias = Hello | Call
FromHypervisor: TypeAlias = Answer | Event


def announced(event: HypervisorEvent) -> Event:
    """Pack an event."""
    return Event(type(event).__name__, msgspec.msgpack.encode(event))


def event_of(message: Event) -> HypervisorEvent:
    """Unpack an event."""
    event: HypervisorEvent = msgspec.msgpack.decode(message.content, type=EVENTS[message.kind])
    return event


def send(writer: asyncio.StreamWriter, message: FromAgent | FromHypervisor) -> None:
    """Send one message; what the peer does not take yet is kept for it."""
    body = msgspec.msgpack.encode(message)
    writer.write(LENGTH.pack(len(body)) + body)


async def receive(reader: asyncio.StreamReader) -> bytes:
    """Receive one message, packed. Raises OSError or asyncio.IncompleteReadError at the end of the connection."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(length)
