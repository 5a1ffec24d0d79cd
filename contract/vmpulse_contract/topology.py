"""Exchanges, queues, routing keys and lifetimes: plain values, in this file only.

Topic exchanges throughout, because RabbitMQ's topic permissions hold for publishing and for binding alike. There are
several because their readers differ: an autoscaler wants runtime only, an inventory changes, the warehouse devices.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_contract.errors import BadName, MistypedMessage
from vmpulse_contract.fleet import EventType
from vmpulse_contract.identity import HostId, host_id
from vmpulse_contract.sections import SECTION_BY_LABEL, Section

if TYPE_CHECKING:
    from vmpulse_contract.verbs import Verb

RUNTIME: Final = "vmpulse.runtime"
CHANGES: Final = "vmpulse.changes"
DEVICES: Final = "vmpulse.devices"
RPC: Final = "vmpulse.rpc"
REPLIES: Final = "vmpulse.replies"
FLEET: Final = "vmpulse.fleet"
DEAD: Final = "vmpulse.dead"
EXCHANGES: Final = (RUNTIME, CHANGES, DEVICES, RPC, REPLIES, FLEET, DEAD)
"""All durable topic exchanges."""

HEARTBEAT_S: Final = 5
"""AMQP heartbeat of agents: a dead connection frees its exclusive rpc queue after two of them."""
FRAME_EXPIRATION_TICKS: Final = 2
"""After so many ticks a frame has been superseded, so the broker may drop it."""
CANARY_EXPIRATION_MS: Final = 6000
REQUEST_EXPIRATION_MS: Final = 5000
"""Nobody waits longer for an answer, so no agent should work on an older request."""
WORKER_QUEUE_LENGTH: Final = 100_000
DEVICES_EXPIRATION_MS: Final = 300_000
"""A reader of device statistics may be away for so long; hosts say theirs anew by then, unless told otherwise."""
DEAD_QUEUE_LENGTH: Final = 10_000
DEAD_QUEUE_BYTES: Final = 64 << 20
BURIED_BODY_BYTES: Final = 64 << 10
"""So much of a refused body is kept: enough to see what it was, and a flood of large ones fills no disk."""


class Kind(StrEnum):
    """Kinds of messages; also the AMQP ``type`` property."""

    FRAME = "frame"
    ROSTER = "roster"
    ROSTER_CHANGE = "rosterChange"
    GOODBYE = "goodbye"
    CHANGE = "change"
    DEVICES = "devices"
    CANARY = "canary"
    REQUEST = "request"
    REPLY = "reply"
    POISON = "poison"
    EVENT = "event"


CONTENT_TYPE: Final = "application/msgpack"
APP_ID: Final = "vmpulse"


class Queue(NamedTuple):
    """A queue to declare and the keys that bind it: (exchange, routing key)."""

    name: str
    durable: bool
    exclusive: bool
    arguments: dict[str, int | str | bool]
    bindings: tuple[tuple[str, str], ...]


def view_queue(view: str) -> Queue:
    """The stream of the whole fleet, for one view.

    Single active consumer from the start: a second view of the same name waits as a stand-by. Bounded, oldest first
    out, because state and not history is the truth: what is lost here the digests bring to light. No dead-letter
    exchange: expired frames would flood it. At 80 bytes of properties and 250 of body a million messages are about
    0.3 GiB.
    """
    return Queue(
        name=f"vmpulse.view.{view}",
        durable=True,
        exclusive=False,
        arguments={
            "x-single-active-consumer": True,
            "x-max-length": 200_000,
            "x-max-length-bytes": 256 << 20,
            "x-overflow": "drop-head",
            "x-message-ttl": 60_000,
            "x-expires": 3_600_000,
        },
        bindings=((RUNTIME, "#"), (CHANGES, "#"), (DEVICES, "#"), (FLEET, canary_key(view, "*"))),
    )


def capture_queue(view: str) -> Queue:
    """The same stream for somebody who captures it, under a name of its own. Exclusive: it ends with its reader."""
    kept = ("x-max-length", "x-max-length-bytes", "x-overflow", "x-message-ttl")
    shared = view_queue(view)
    arguments = {name: value for name, value in shared.arguments.items() if name in kept}
    return shared._replace(name=f"vmpulse.capture.{view}", durable=False, exclusive=True, arguments=arguments)


def rpc_queue(host: HostId) -> Queue:
    """Requests to one host. Exclusive: whoever holds it is the live agent of the host."""
    return Queue(f"vmpulse.rpc.{host}", durable=False, exclusive=True, arguments={}, bindings=((RPC, f"{host}.*"),))


def reply_queue(token: str) -> Queue:
    """Replies to one asker; the token is its own and random."""
    return Queue(
        f"vmpulse.replies.{token}", durable=False, exclusive=True, arguments={}, bindings=((REPLIES, f"*.{token}"),)
    )


def worker_queue(name: str, *keys: str) -> Queue:
    """Fleet events for one engine worker, or for several that share the work; they wait an hour for one that is away.

    *keys* are binding keys, see ``event_key``. Bounded, oldest first out: a worker that finds its queue new, or as long
    as it may be, reads everything anew.
    """
    return Queue(
        name=f"vmpulse.worker.{name}",
        durable=True,
        exclusive=False,
        arguments={"x-max-length": WORKER_QUEUE_LENGTH, "x-overflow": "drop-head", "x-expires": 3_600_000},
        bindings=tuple((FLEET, key) for key in keys),
    )


def dead_queue() -> Queue:
    """Messages that no reader could use, with the reason in their headers; bounded."""
    return Queue(
        "vmpulse.dead",
        durable=True,
        exclusive=False,
        arguments={
            "x-max-length": DEAD_QUEUE_LENGTH,
            "x-max-length-bytes": DEAD_QUEUE_BYTES,
            "x-overflow": "drop-head",
        },
        bindings=((DEAD, "#"),),
    )


def frame_key(host: HostId) -> str:
    """Routing key of a host's frames on RUNTIME."""
    return host


def roster_key(host: HostId) -> str:
    """Routing key of a host's rosters on RUNTIME."""
    return f"{host}.roster"


def roster_change_key(host: HostId) -> str:
    """Routing key on RUNTIME of what has changed of a host's roster."""
    return f"{host}.rosterChange"


def goodbye_key(host: HostId) -> str:
    """Routing key of a host's goodbye on RUNTIME."""
    return f"{host}.goodbye"


def change_key(host: HostId, section: Section) -> str:
    """Routing key of a change event on CHANGES."""
    return f"{host}.{section.label}"


def devices_key(host: HostId) -> str:
    """Routing key of a host's device statistics on DEVICES, by columns."""
    return f"{host}{_COLUMNS}"


def device_map_key(host: HostId) -> str:
    """Routing key of device statistics that are a map, as agents said them before."""
    return host


def request_key(host: HostId, verb: Verb) -> str:
    """Routing key of a request on RPC."""
    return f"{host}.{verb.value}"


def reply_key(host: HostId, token: str) -> str:
    """Routing key of a reply on REPLIES."""
    return f"{host}.{token}"


def canary_key(view: str, instance: str) -> str:
    """Routing key of a view's canary on FLEET."""
    return f"canary.{view}.{instance}"


def event_key(view: str, kind: EventType, *subject: str) -> str:
    """Routing key of a fleet event on FLEET: ``<type>.<view>``, then the host, then the VM, as far as it is about one.

    So ``vm.*.main.#`` binds all that becomes of VMs, and ``host.lost.main.h001`` one host's loss.
    """
    return ".".join((kind, view, *subject))


class StreamKey(NamedTuple):
    """What the exchange and routing key of a message that a host publishes unasked say.

    ``kind`` None: one that this version does not know; whoever reads passes it over. ``columns``: device statistics by
    columns, and not as a map.
    """

    host: HostId
    kind: Kind | None
    section: Section | None
    columns: bool = False


_RUNTIME_KINDS: Final = {
    "": Kind.FRAME,
    ".roster": Kind.ROSTER,
    ".rosterChange": Kind.ROSTER_CHANGE,
    ".goodbye": Kind.GOODBYE,
}
_SECTIONS: Final = {f".{label}": section for label, section in SECTION_BY_LABEL.items()}
_COLUMNS: Final = ".columns"
_KNOWN: Final = {*_RUNTIME_KINDS, *_SECTIONS, _COLUMNS}
_STREAM: Final = {RUNTIME, CHANGES, DEVICES}
_LATER: Final = re.compile(r"\.[a-z][A-Za-z0-9]{0,31}")
"""The second word of a kind to come looks like those that there are. Anything else is somebody's fault."""


def parse_stream_key(exchange: str, routing_key: str) -> StreamKey:
    """Read the address of what a host publishes unasked. Raises MistypedMessage for one that no agent can have."""
    first = routing_key.partition(".")[0]
    rest = routing_key[len(first) :]
    try:
        host = host_id(first)
    except BadName as error:
        raise MistypedMessage(str(error)) from error
    if exchange == RUNTIME and rest in _RUNTIME_KINDS:
        return StreamKey(host, _RUNTIME_KINDS[rest], None)
    if exchange == CHANGES and rest in _SECTIONS:
        return StreamKey(host, Kind.CHANGE, _SECTIONS[rest])
    if exchange == DEVICES and rest in {"", _COLUMNS}:
        return StreamKey(host, Kind.DEVICES, None, columns=bool(rest))
    if exchange in _STREAM and rest not in _KNOWN and _LATER.fullmatch(rest):
        return StreamKey(host, None, None)
    msg = f"no agent publishes to {exchange} with routing key {routing_key!r:.100}"
    raise MistypedMessage(msg)
