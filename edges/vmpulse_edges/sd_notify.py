"""What a service tells systemd: READY, STATUS, WATCHDOG, STOPPING; see sd_notify(3). Nothing where nobody listens.

The socket is named by NOTIFY_SOCKET, in the file system or, with a leading "@", in the abstract namespace. Nothing here
waits or fails: a service that cannot speak of its health is no less healthy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

log = logging.getLogger(__name__)

STATUS_S: Final = 5.0
"""How often the status line is made anew; it is sent when it differs."""
READY_POLL_S: Final = 0.1
"""How soon readiness is noticed."""


class Notifier:
    """The way to the service manager.

    Args:
        address: its socket, as NOTIFY_SOCKET has it; empty: there is none, and nothing is said.
        watchdog_s: within so many seconds it wants a sign of life, again and again; None: it does not.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        # A leading "@" stands for the zero byte of an abstract name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None

    @property
    def heard(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def say(self, *lines: str) -> None:
        """Send assignments such as ``READY=1`` in one message."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as way:
                way.connect(self._address)
                way.send("\n".join(lines).encode())
        except OSError as error:
            log.debug("the service manager was not told: %s", error)


def from_environment(environment: Mapping[str, str], pid: int | None = None) -> Notifier:
    """Give the notifier that the environment asks for; a watchdog that is meant for another process is none of ours."""
    address, limit = environment.get("NOTIFY_SOCKET", ""), environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "") in {"", str(os.getpid() if pid is None else pid)}
    return Notifier(address, int(limit) / 1e6 if limit.isdigit() and int(limit) and meant else None)


async def keep_told(
    notifier: Notifier, *, ready: Callable[[], bool], advancing: Callable[[], bool], status: Callable[[], str]
) -> None:
    """Tell the service manager how things stand, until cancelled; then that we are stopping.

    Args:
        notifier: the way to it.
        ready: whether the service has started; once it has, that is said.
        advancing: whether the work goes on; only then the watchdog is fed, so that a stuck service is restarted.
        status: one line for people.
    """
    if not notifier.heard:
        return
    try:
        await _until_ready(notifier, ready, status)
        notifier.say("READY=1", f"STATUS={_line(status())}")
        await _go_on(notifier, advancing, status)
    finally:
        notifier.say("STOPPING=1", "STATUS=stopping")


async def _until_ready(notifier: Notifier, ready: Callable[[], bool], status: Callable[[], str]) -> None:
    """Wait, and say how things stand when that takes long: nobody else tells what the start waits for."""
    clock = asyncio.get_running_loop().time
    tell_at = clock() + STATUS_S
    while not ready():
        if clock() >= tell_at:
            notifier.say(f"STATUS={_line(status())}")
            tell_at = clock() + STATUS_S
        await asyncio.sleep(READY_POLL_S)


async def _go_on(notifier: Notifier, advancing: Callable[[], bool], status: Callable[[], str]) -> None:
    pause = min(STATUS_S, notifier.watchdog_s / 2) if notifier.watchdog_s else STATUS_S
    said = ""
    while True:
        lines = ["WATCHDOG=1"] if notifier.watchdog_s and advancing() else []
        now = _line(status())
        if now != said:
            lines.append(f"STATUS={now}")
            said = now
        if lines:
            notifier.say(*lines)
        await asyncio.sleep(pause)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
