"""The socket that the HTTP API listens on: opened first, so that an address that is not ours ends the start at once."""

from __future__ import annotations

import socket
from typing import Final

from vmpulse_consumers.errors import PortTaken

REMEDY: Final = "stop the program that listens there, or choose another address"
PORT_MAXIMUM: Final = 65535


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one. Raises PortTaken with what to do."""
    if not 0 <= port <= PORT_MAXIMUM:
        raise _not_ours(host, port, ValueError(f"ports are 0 to {PORT_MAXIMUM}"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _not_ours(host, port, error) from error
    try:
        # A restart must not wait for old connections to fade; two listeners on one port remain impossible.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _not_ours(host, port, error) from error
    listener.setblocking(False)
    return listener


def _not_ours(host: str, port: int, error: Exception) -> PortTaken:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    shown = f"[{host}]" if ":" in host else host
    return PortTaken(f"cannot listen on http address {shown}:{port}: {reason}; {REMEDY}")
