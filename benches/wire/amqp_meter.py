"""Where the bytes of AMQP connections go: what is said, by kind, and what AMQP puts around it.

It reads what a relay is shown, frame by frame (AMQP 0-9-1, section 4.2.3): a type, a channel, a length, the payload and
an end. A message is a method (publish or deliver, with exchange and routing key), a header (with its properties) and
its body. All that goes through is counted somewhere, so the parts add up to what the relay has counted.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from vmpulse_contract import topology
from vmpulse_contract.errors import MistypedMessage
from vmpulse_contract.topology import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEAD: Final = struct.Struct(">BHL")
AROUND: Final = HEAD.size + 1
"""Bytes of an AMQP frame beside its payload."""
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
PUBLISH: Final = (60, 40)
DELIVER: Final = (60, 60)
ACK: Final = (60, 80)
CONTENT_SIZE_AT: Final = 4
STREAM: Final = {topology.RUNTIME, topology.CHANGES, topology.DEVICES}
OTHER: Final = "other"


class Messages(Struct):
    """Messages of one kind, and where their bytes go; ``framing``: the heads and ends of their AMQP frames."""

    messages: int = 0
    bodies: int = 0
    methods: int = 0
    properties: int = 0
    framing: int = 0

    @property
    def bytes(self) -> int:
        """All together."""
        return self.bodies + self.methods + self.properties + self.framing


class Breakdown(Struct):
    """Where the bytes of connections go.

    - ``kinds``: messages by their kind.
    - ``acks``: acknowledgements of messages and of publishes; ``heartbeats``; both with their framing.
    - ``set_up``: what opens and closes connections and channels, declares and binds.
    """

    kinds: dict[str, Messages] = field(default_factory=dict)
    acks: int = 0
    heartbeats: int = 0
    set_up: int = 0

    @property
    def bytes(self) -> int:
        """All together."""
        return sum(kind.bytes for kind in self.kinds.values()) + self.acks + self.heartbeats + self.set_up

    @property
    def messages(self) -> int:
        """How many messages."""
        return sum(kind.messages for kind in self.kinds.values())

    def of(self, kind: str) -> Messages:
        """The messages of a kind."""
        return self.kinds.setdefault(kind, Messages())


class AmqpMeter:
    """Reads one direction of one connection.

    Args:
        breakdown: where the bytes are counted.
        bodies: is given each body with its kind, if anybody wants them.
    """

    def __init__(self, breakdown: Breakdown, bodies: Callable[[str, bytes], None] | None = None) -> None:
        self._breakdown = breakdown
        self._bodies = bodies
        self._rest = bytearray()
        self._open: dict[int, Content] = {}
        """The message that is under way, by channel."""

    def watch(self, data: bytes) -> None:
        """Read on."""
        rest = self._rest
        rest += data
        at = 0
        if rest.startswith(PROTOCOL_HEADER):
            at = len(PROTOCOL_HEADER)
            self._breakdown.set_up += at
        while len(rest) - at >= HEAD.size:
            kind, channel, size = HEAD.unpack_from(rest, at)
            end = at + AROUND + size
            if end > len(rest):
                break
            self._frame(kind, channel, bytes(rest[at + HEAD.size : end - 1]))
            at = end
        del rest[:at]

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == METHOD:
            self._method(channel, payload)
        elif kind == HEADER:
            self._header(channel, payload)
        elif kind == BODY:
            self._body(channel, payload)
        else:
            self._breakdown.heartbeats += AROUND + len(payload)

    def _method(self, channel: int, payload: bytes) -> None:
        method = struct.unpack_from(">HH", payload)
        if method == ACK:
            self._breakdown.acks += AROUND + len(payload)
        elif method in {PUBLISH, DELIVER}:
            exchange, key = _address(payload, deliver=method == DELIVER)
            content = self._open[channel] = Content(kind_of(exchange, key))
            counted = self._breakdown.of(content.kind)
            counted.messages += 1
            counted.methods += len(payload)
            counted.framing += AROUND
        else:
            self._breakdown.set_up += AROUND + len(payload)

    def _header(self, channel: int, payload: bytes) -> None:
        content = self._open[channel]
        (content.missing,) = struct.unpack_from(">Q", payload, CONTENT_SIZE_AT)
        counted = self._breakdown.of(content.kind)
        counted.properties += len(payload)
        counted.framing += AROUND

    def _body(self, channel: int, payload: bytes) -> None:
        content = self._open[channel]
        counted = self._breakdown.of(content.kind)
        counted.bodies += len(payload)
        counted.framing += AROUND
        if self._bodies is not None:
            content.body += payload
            if len(content.body) == content.missing:
                self._bodies(content.kind, content.body)


class Content(Struct):
    """A message under way. ``missing``: the size of its body."""

    kind: str
    missing: int = 0
    body: bytes = b""


def kind_of(exchange: str, key: str) -> str:
    """What kind of message goes to an exchange under a routing key."""
    if exchange in STREAM:
        try:
            return topology.parse_stream_key(exchange, key).kind or OTHER
        except MistypedMessage:
            return OTHER
    if exchange == topology.FLEET:
        return Kind.CANARY if key.startswith("canary.") else Kind.EVENT
    kinds = {topology.RPC: Kind.REQUEST, topology.REPLIES: Kind.REPLY, topology.DEAD: Kind.POISON}
    return kinds.get(exchange, OTHER)


def _address(payload: bytes, *, deliver: bool) -> tuple[str, str]:
    """Exchange and routing key. A delivery begins with its consumer's tag, its own tag and whether it came before."""
    at = 4
    at += 1 + payload[at] + 9 if deliver else 2
    exchange = payload[at + 1 : at + 1 + payload[at]]
    at += 1 + payload[at]
    return exchange.decode(), payload[at + 1 : at + 1 + payload[at]].decode()
