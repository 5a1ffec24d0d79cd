"""A service manager as a service sees it: the socket that it is told through."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import eventually


class ServiceManager:
    """Hears what a service says, with the time of each message.

    Args:
        address: where, as NOTIFY_SOCKET has it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[tuple[float, list[str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def lines(self, name: str) -> list[str]:
        """The values said of one name, in order."""
        said = [line.partition("=") for _, lines in self.heard for line in lines]
        return [value for key, _, value in said if key == name]

    async def hears(self, name: str, times: int = 1, within_s: float = 12) -> list[str]:
        """Wait until a name was said so many times; gives the values."""
        await eventually(lambda: len(self.lines(name)) >= times, within_s, f"{times} times {name}")
        return self.lines(name)

    def close(self) -> None:
        """Hear no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _hear(self) -> None:
        self.heard.append((time.monotonic(), self._socket.recv(4096).decode().split("\n")))


@contextlib.contextmanager
def listening(folder: Path | None = None) -> Iterator[ServiceManager]:
    """A service manager with a socket in a folder, or in the abstract namespace."""
    manager = ServiceManager(f"@vmpulse-test-{secrets.token_hex(8)}" if folder is None else str(folder / "notify"))
    try:
        yield manager
    finally:
        manager.close()
