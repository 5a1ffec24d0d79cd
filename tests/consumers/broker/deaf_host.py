"""A host that holds messages back and reads nothing, so that RabbitMQ cannot take leave of it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pamqp import body, commands, frame, header

from benches.flood.host import FRAME_BYTES, connection

UNREAD = 16
"""Messages of 1 MiB that come back to it: more than the buffers of a socket on loopback take."""
MIB = 1 << 20
SIP = 1 << 20
"""Enough that RabbitMQ sees it read, and much less than is kept for it."""


@contextmanager
def deaf_host(port: int, user: str, password: str, held_back: int) -> Iterator[socket.socket]:
    """Have the broker return messages that nobody reads, and then hold back so many, of 1 MiB each."""
    with connection(port, user, password) as opened:
        opened.sendall(_published(user, mandatory=True) * UNREAD)
        opened.sendall(frame.marshal(commands.Tx.Select(), 1))
        opened.sendall(_published(user, mandatory=False) * held_back)
        yield opened


class HoardingHost:
    """A host whose messages come back, and that reads none of them."""

    def __init__(self, opened: socket.socket, user: str, size: int) -> None:
        self._opened = opened
        self._message = _published(user, mandatory=True, size=size)
        self.cut_off = False

    def send(self, messages: int) -> None:
        """Send so many, or as many as are taken."""
        try:
            for _ in range(messages):
                self._opened.sendall(self._message)
        except OSError:
            self.cut_off = True

    def sip_until_cut_off(self, every_s: float) -> None:
        """Read a little at a time."""
        with contextlib.suppress(OSError):
            while self._opened.recv(SIP):
                time.sleep(every_s)
        self.cut_off = True


@contextmanager
def hoarding_host(port: int, user: str, password: str, size: int = MIB) -> Iterator[HoardingHost]:
    """Have the broker keep what it returns, messages of so many bytes."""
    with connection(port, user, password) as opened:
        yield HoardingHost(opened, user, size)


def _published(user: str, *, mandatory: bool, size: int = MIB) -> bytes:
    publish = commands.Basic.Publish(exchange="vmpulse.replies", routing_key=f"{user}.0a", mandatory=mandatory)
    parts: list[frame.FrameTypes] = [publish, header.ContentHeader(0, size, commands.Basic.Properties())]
    parts += [body.ContentBody(bytes(min(FRAME_BYTES, size - at))) for at in range(0, size, FRAME_BYTES)]
    return b"".join(frame.marshal(part, 1) for part in parts)
