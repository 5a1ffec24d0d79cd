"""What a reply without an end of its own has to know of its connection, and ASGI does not tell."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from litestar.types import Scope

STATE_KEY: Final = "vmpulse_connection"


class Connection:
    """A connection, as the server hands it to the app."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.closing = asyncio.Event()
        """Set when the server stops."""
        self._transport = transport

    def narrow(self, size: int) -> None:
        """Let the kernel keep about *size* unread bytes for the client, and not the megabytes that it may."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def cut(self) -> None:
        """End the connection at once; what was written and not read is lost. Closing it would wait for the client."""
        self._transport.abort()


def connection_of(scope: Scope) -> Connection:
    """The connection that a request came by. Raises KeyError under another server than ``http.server``."""
    connection = scope["state"][STATE_KEY]
    assert isinstance(connection, Connection)  # noqa: S101 - the server puts it there
    return connection
