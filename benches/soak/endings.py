"""Processes that are told to end while everything else goes on, timed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from benches.soak.report import Ending
from vmpulse_simulator.errors import ViewUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from vmpulse_simulator.child_process import ChildProcess
    from vmpulse_simulator.view_api import ViewApi

STOPPED: Final = "stopped"
HEARD_S: Final = 2.0
"""A goodbye that was said before the end is applied by then, however busy the view is."""
POLL_S: Final = 0.1


async def ended(name: str, child: ChildProcess, drained: Callable[[], Awaitable[bool]] | None = None) -> Ending:
    """Send SIGTERM, and time the end; whoever takes far too long is killed, and has then the exit code -9.

    Args:
        name: what it is called.
        child: the process.
        drained: tells afterwards whether its last words were heard; None: nobody could tell.
    """
    began = time.monotonic()
    await child.end()
    seconds = round(time.monotonic() - began, 3)
    return Ending(name, seconds, await child.wait(), None if drained is None else await drained())


async def said_goodbye(api: ViewApi, hosts: Collection[str]) -> bool:
    """Tell whether the view comes to know soon that these hosts have stopped, which only a goodbye can say."""
    deadline = time.monotonic() + HEARD_S
    while True:
        if {STOPPED} == {await _state(api, host) for host in hosts}:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)


async def _state(api: ViewApi, host: str) -> object:
    try:
        return (await api.host(host)).get("state")
    except ViewUnreachable:
        return None


def worst(name: str, endings: Sequence[Ending]) -> Ending:
    """Give the worst of several, one at least, in each respect."""
    return Ending(
        name,
        max(ending.seconds for ending in endings),
        max((ending.code for ending in endings), key=abs),
        all(ending.drained is not False for ending in endings),
    )
