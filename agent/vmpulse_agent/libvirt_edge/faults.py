"""Errors in this program that some domain's data has met: they cost what was asked, and never the agent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from vmpulse_agent.errors import HypervisorFault

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

SHOWN_CHARS: Final = 200


class Faults:
    """Tells of each fault once, with its traceback: what is met at every look would fill the log. Any thread may tell.

    A fault is known by its kind and by the line that raised it, so there are only as many as the program has lines.
    """

    def __init__(self) -> None:
        self._told: set[tuple[str, str, int]] = set()

    def tell(self, what: str, error: Exception) -> None:
        """Log it if it is new."""
        place = (type(error).__name__, *_raised_at(error.__traceback__))
        if place not in self._told:
            self._told.add(place)
            log.error("%s: an error in this program, told once: %s", what, _shown(error), exc_info=error)

    def made(self, what: str, error: Exception) -> HypervisorFault:
        """Log it if it is new, and give what may be raised instead."""
        self.tell(what, error)
        return HypervisorFault(f"{what}: an error in this program: {_shown(error)}")


def _raised_at(trace: TracebackType | None) -> tuple[str, int]:
    """File and line; no file is read for it."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def _shown(error: Exception) -> str:
    """One short line, whatever the data was."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN_CHARS]
