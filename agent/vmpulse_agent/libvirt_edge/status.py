"""Status and pause code of a domain: a table of state, reason and evidence, in the order in which it is tried.

A domain that runs is Up unless there is evidence otherwise, and no evidence fades by mere time. Powering up is never
said: libvirt has no evidence for it. docs/status.md is made from these tables.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.libvirt_edge.evidence import Evidence, Role
from vmpulse_contract.values import PauseCode, VmStatus


class Rule(NamedTuple):
    """One row. Names are libvirt's, less ``VIR_DOMAIN_`` and the state's name; none: whatever it is.

    ``rebooting``: a reboot has begun (Evidence.rebooting). ``why`` is for the page.
    """

    states: tuple[str, ...]
    reasons: tuple[str, ...]
    role: Role | None
    rebooting: bool
    status: VmStatus
    why: str


def _rule(
    states: str,
    status: VmStatus,
    why: str = "",
    *,
    reasons: str = "",
    role: Role | None = None,
    rebooting: bool = False,
) -> Rule:
    return Rule(tuple(states.split()), tuple(reasons.split()), role, rebooting, status, why)


_RUNNING: Final = "RUNNING BLOCKED"
RULES: Final = (
    _rule(_RUNNING, VmStatus.MIGRATION_SOURCE, role=Role.SOURCE),
    _rule(_RUNNING, VmStatus.MIGRATION_DESTINATION, role=Role.DESTINATION),
    _rule(_RUNNING, VmStatus.SAVING_STATE, role=Role.SAVING),
    _rule(_RUNNING, VmStatus.REBOOT_IN_PROGRESS, rebooting=True),
    _rule(_RUNNING, VmStatus.UP, "also where no agent has come yet: that is no evidence of anything"),
    _rule("PAUSED", VmStatus.SAVING_STATE, reasons="SAVE"),
    _rule("PAUSED", VmStatus.SAVING_STATE, "it was paused before, and keeps that reason", role=Role.SAVING),
    _rule(
        "PAUSED",
        VmStatus.MIGRATION_SOURCE,
        "between the end of the transfer and its own",
        reasons="MIGRATION",
        role=Role.SOURCE,
    ),
    _rule("PAUSED", VmStatus.RESTORING_STATE, "loaded, and not let run yet", reasons="MIGRATION", role=Role.RESTORING),
    _rule(
        "PAUSED",
        VmStatus.PAUSED,
        "restored to be paused: libvirt leaves this reason",
        reasons="MIGRATION",
        role=Role.NONE,
    ),
    _rule("PAUSED", VmStatus.MIGRATION_DESTINATION, reasons="MIGRATION", role=Role.DESTINATION),
    _rule(
        "PAUSED",
        VmStatus.WAIT_FOR_LAUNCH,
        "for a blink, until an event or jobStats tells whether it comes from a host or from a file",
        reasons="MIGRATION",
    ),
    _rule("PAUSED", VmStatus.POWERING_DOWN, reasons="SHUTTING_DOWN"),
    _rule("PAUSED", VmStatus.WAIT_FOR_LAUNCH, "also while a saved state is loaded", reasons="STARTING_UP"),
    _rule("PAUSED", VmStatus.PAUSED, "see the pause codes"),
    _rule("SHUTDOWN", VmStatus.POWERING_DOWN, "the guest has announced its end"),
    _rule("SHUTOFF", VmStatus.POWERING_DOWN, "its process is still there: on its way out"),
    _rule("CRASHED", VmStatus.PAUSED, "on_crash=preserve: the guest is dead, its process holds its disks"),
    _rule("PMSUSPENDED", VmStatus.PAUSED, "the guest sleeps (ACPI S3)"),
)
"""Of an active domain that has a process. The first that fits holds; where none does, the status is Unknown."""


def number(name: str) -> int:
    """Look up one of libvirt's numbers by its name less ``VIR_DOMAIN_``."""
    return int(getattr(libvirt, f"VIR_DOMAIN_{name}"))


class _Row(NamedTuple):
    states: frozenset[int]
    reasons: frozenset[int]
    rule: Rule


def _row(rule: Rule) -> _Row:
    reasons = frozenset(number(f"{state}_{reason}") for state in rule.states for reason in rule.reasons)
    return _Row(frozenset(map(number, rule.states)), reasons, rule)


_ROWS: Final = tuple(map(_row, RULES))


@lru_cache(maxsize=1024)
def status(state: int, reason: int, role: Role | None, rebooting: bool = False) -> VmStatus:  # noqa: FBT001, FBT002
    """Status of an active domain that has a process, never Down. *role* and *rebooting* are evidence."""
    for states, reasons, rule in _ROWS:
        if (
            state in states
            and (not reasons or reason in reasons)
            and (rule.role is None or rule.role is role)
            and (rebooting or not rule.rebooting)
        ):
            return rule.status
    return VmStatus.UNKNOWN


PAUSE_CODES: Final = {
    "IOERROR": PauseCode.EOTHER,
    "POSTCOPY": PauseCode.POSTCOPY,
    "POSTCOPY_FAILED": PauseCode.POSTCOPY,
}
"""By the reason of the state PAUSED; NOERR for all others. Of an I/O error evidence may tell more than EOTHER."""
_PAUSE_CODES: Final = {number(f"PAUSED_{reason}"): code for reason, code in PAUSE_CODES.items()}


def pause_code(state: int, reason: int, evidence: Evidence) -> PauseCode | None:
    """Why a domain is paused now; absent while it runs, so that the value follows from the state after any restart.

    EOTHER: an I/O error of which nothing more is known.
    """
    if state != libvirt.VIR_DOMAIN_PAUSED:
        return None
    if reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR and evidence.pause_code is not None:
        return evidence.pause_code
    return _PAUSE_CODES.get(reason, PauseCode.NOERR)
