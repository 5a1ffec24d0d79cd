"""Ending in good order when the user or the system says so."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def run_until_told(
    program: Coroutine[None, None, int],
    *,
    code: int = 0,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a program; the first Ctrl-C or SIGTERM cancels it: its exit code is then *code*. A second is not caught."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_cancelled_when_told(program, code))


async def _cancelled_when_told(program: Coroutine[None, None, int], code: int) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(program)
    told = False

    def end() -> None:
        nonlocal told
        told = True
        for number in ENDING:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in ENDING:
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            return code
        raise
