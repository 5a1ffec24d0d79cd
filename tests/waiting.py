"""Waiting in tests: for a condition, with a deadline, and never longer than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.01


async def eventually(condition: Callable[[], T | None], within_s: float = 8.0, what: str = "") -> T:
    """Wait until *condition* gives something true; gives that. Fails at the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(POLL_S)
    return found
