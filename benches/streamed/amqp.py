"""The little of AMQP 0-9-1 that a load needs: messages as bytes, and one connection that reads what comes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from pamqp import body, commands, frame, header

from benches.flood.host import FRAME_BYTES, connection, pass_over_a_frame
from vmpulse_agent.amqp_link import properties
from vmpulse_contract import topology
from vmpulse_contract.topology import EXCHANGES, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

CHANNEL: Final = 1
READ_BYTES: Final = 1 << 18
ALL_REQUESTS: Final = Queue("vmpulse.rpc.bench", False, True, {}, ((topology.RPC, "#"),))
"""One queue for the requests to all hosts, where each agent has its own."""


def message(host: HostId, outgoing: Outgoing) -> bytes:
    """Give a message of a host as it is on the wire, with the properties that its agent would give it."""
    return publish(outgoing.exchange, outgoing.routing_key, properties(host, outgoing), outgoing.body)


def publish(exchange: str, key: str, its: commands.Basic.Properties, content: bytes) -> bytes:
    """Give a message as it is on the wire."""
    parts: list[frame.FrameTypes] = [
        commands.Basic.Publish(exchange=exchange, routing_key=key),
        header.ContentHeader(0, len(content), its),
    ]
    parts += [body.ContentBody(content[at : at + FRAME_BYTES]) for at in range(0, len(content), FRAME_BYTES)]
    return b"".join(frame.marshal(part, CHANNEL) for part in parts)


class Published(NamedTuple):
    """A message as a reader is given it."""

    exchange: str
    key: str
    user: str | None
    kind: str | None
    body: bytes


def published(raw: bytes) -> Iterator[Published]:
    """Read messages that ``publish`` has written."""
    while raw:
        parts = []
        for _ in range(2):
            size, _, part = frame.unmarshal(raw)
            raw = raw[size:]
            parts.append(part)
        method, head = parts
        assert isinstance(method, commands.Basic.Publish)
        assert isinstance(head, header.ContentHeader)
        content = b""
        while len(content) < head.body_size:
            size, _, part = frame.unmarshal(raw)
            raw = raw[size:]
            assert isinstance(part, body.ContentBody)
            content += part.value
        its = head.properties
        yield Published(method.exchange, method.routing_key, its.user_id, its.message_type, content)


def open_channel(url: BrokerUrl) -> socket.socket:
    """Open a connection with one channel, without confirms. Raises OSError."""
    return connection(url.port, url.user, url.password)


def hang_up(opened: socket.socket) -> None:
    """End a connection, so that a thread that reads or writes it goes on; closing alone would leave it waiting."""
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


def declare(opened: socket.socket, exchanges: tuple[str, ...] = EXCHANGES) -> None:
    """Declare exchanges as the view would."""
    for name in exchanges:
        _call(opened, commands.Exchange.Declare(exchange=name, exchange_type="topic", durable=True))


def consume(opened: socket.socket, queue: Queue) -> None:
    """Declare and bind a queue, and have its messages sent, without acknowledging them."""
    _call(
        opened,
        commands.Queue.Declare(
            queue=queue.name, durable=queue.durable, exclusive=queue.exclusive, arguments=dict(queue.arguments)
        ),
    )
    for exchange, key in queue.bindings:
        _call(opened, commands.Queue.Bind(queue=queue.name, exchange=exchange, routing_key=key))
    _call(opened, commands.Basic.Consume(queue=queue.name, no_ack=True))


def _call(opened: socket.socket, method: frame.FrameTypes) -> None:
    opened.sendall(frame.marshal(method, CHANNEL))
    pass_over_a_frame(opened)


class Delivery:
    """One message as it came."""

    def __init__(self, method: commands.Basic.Deliver) -> None:
        self.key = method.routing_key or ""
        self.properties = commands.Basic.Properties()
        self.size = 0
        self.body = b""


def deliveries(opened: socket.socket) -> Iterator[Delivery]:
    """Give what comes, until the other side hangs up or the socket is shut down. Raises OSError."""
    waiting, current = b"", None
    while read := opened.recv(READ_BYTES):
        waiting += read
        while (taken := _first(waiting)) is not None:
            size, part = taken
            waiting = waiting[size:]
            if isinstance(part, commands.Basic.Deliver):
                current = Delivery(part)
            elif current is not None and isinstance(part, header.ContentHeader):
                current.properties, current.size = part.properties, part.body_size
            elif current is not None and isinstance(part, body.ContentBody):
                current.body += part.value
            if current is not None and current.size and len(current.body) == current.size:
                yield current
                current = None


def _first(waiting: bytes) -> tuple[int, frame.FrameTypes] | None:
    """Give the first frame and its size, if it is whole."""
    if len(waiting) < 8 or len(waiting) < 8 + int.from_bytes(waiting[3:7]):  # noqa: PLR2004 - a frame's own bytes
        return None
    size, _, part = frame.unmarshal(waiting)
    return size, part
