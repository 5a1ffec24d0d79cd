"""What ``check`` says: findings, one a line, with what to do about those that are not well."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_agent.errors import AgentError, HypervisorTimeout
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_edges.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Coroutine

ITEM_S: Final = 15.0
"""No question is waited for longer."""
WHAT_WIDTH: Final = 14
HANGS: Final = "see whether it hangs, and look at its log"
FAILS: Final = "look at its log"


class Level(StrEnum):
    """How bad a finding is. WRONG is a setting that is none, which ends the program with its own exit code."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    WRONG = "WRONG"


class Finding(NamedTuple):
    """One thing that was looked at. ``mend`` says what to do."""

    level: Level
    what: str
    detail: str
    mend: str = ""

    def __str__(self) -> str:
        shown = Level.FAIL if self.level is Level.WRONG else self.level
        line = f"{shown:<4}  {self.what:<{WHAT_WIDTH}}  {_one_line(self.detail)}"
        return f"{line}\n{'':<{WHAT_WIDTH + 8}}-> {_one_line(self.mend)}" if self.mend else line


def ok(what: str, detail: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what, detail)


def warn(what: str, detail: str, mend: str) -> Finding:
    """The agent works; something is not as one would want it."""
    return Finding(Level.WARN, what, detail, mend)


def fail(what: str, detail: str, mend: str) -> Finding:
    """The agent cannot work like this."""
    return Finding(Level.FAIL, what, detail, mend)


def wrong(what: str, error: Exception) -> Finding:
    """A setting is none; its error says what is allowed."""
    return Finding(Level.WRONG, what, str(error))


def failed(what: str, error: Exception) -> Finding:
    """Something failed whose error says how to mend it, after the last semicolon.

    What libvirt itself says has no remedy with it.
    """
    detail, _, mend = str(error).rpartition("; ")
    if not detail:
        return fail(what, mend, HANGS if isinstance(error, HypervisorTimeout) else FAILS)
    return fail(what, detail, mend)


async def bounded(what: str, work: Coroutine[None, None, list[Finding]]) -> list[Finding]:
    """Do one part of the check; whatever goes wrong in it is a finding, and so is no answer."""
    try:
        async with asyncio.timeout(ITEM_S):
            return await work
    except TimeoutError:
        return [fail(what, f"no answer within {ITEM_S:g} s", HANGS)]
    except (SettingsError, BadName) as error:
        return [wrong(what, error)]
    except (AgentError, EdgeError) as error:
        return [failed(what, error)]
    except Exception as error:  # noqa: BLE001 - a check that ends early says less than one that names its own fault
        return [fail(what, f"could not be looked at: {type(error).__name__}: {error}", "report this")]


def exit_code(findings: list[Finding]) -> int:
    """0 with nothing worse than warnings, 2 if a setting is wrong, else 1."""
    levels = {finding.level for finding in findings}
    if Level.WRONG in levels:
        return 2
    return 1 if Level.FAIL in levels else 0


def _one_line(text: str) -> str:
    return " ".join("".join(filter(lambda one: one.isprintable() or one.isspace(), text)).split())
