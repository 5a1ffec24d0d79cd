"""How an incarnation ended: by the event that says so, or by what libvirt remembers of an inactive domain.

Both must say the same wherever both know: a tombstone does not depend on whether anybody heard the event. Events know
more in the cases marked by evidence. docs/status.md is made from these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import Exit
from vmpulse_agent.libvirt_edge.evidence import Evidence, Role
from vmpulse_agent.libvirt_edge.status import number
from vmpulse_contract.values import ExitCode, ExitReason


def _normal(reason: ExitReason) -> Exit:
    return Exit(ExitCode.NORMAL, reason)


def _error(reason: ExitReason) -> Exit:
    return Exit(ExitCode.ERROR, reason)


class Ending(NamedTuple):
    """One row: details of the STOPPED event, less ``VIR_DOMAIN_EVENT_STOPPED_``, and what must be known beside them."""

    details: tuple[str, ...]
    known: str
    holds: Callable[[Evidence], bool]
    exit: Exit


def _ending(details: str, exit_: Exit) -> Ending:
    return Ending(tuple(details.split()), "", lambda _: True, exit_)


_BROKEN: Final = ("FAILED", "CRASHED", "DESTROYED")
ENDINGS: Final = (
    Ending(
        _BROKEN,
        "its post-copy migration has failed",
        lambda evidence: evidence.postcopy_failed,
        _error(ExitReason.POSTCOPY_MIGRATION_FAILED),
    ),
    Ending(
        _BROKEN,
        "destination of a migration, and never let run",
        lambda evidence: evidence.role is Role.DESTINATION,
        _error(ExitReason.MIGRATION_FAILED),
    ),
    Ending(
        ("SHUTDOWN",),
        "SHUTDOWN event with detail HOST: a signal has ended its process, as at the host's shutdown",
        lambda evidence: evidence.ended_by_host,
        _error(ExitReason.HOST_SHUTDOWN),
    ),
    _ending("SHUTDOWN", _normal(ExitReason.USER_SHUTDOWN)),
    _ending("DESTROYED", _normal(ExitReason.ADMIN_SHUTDOWN)),
    # FAILED is "host emulator/mgmt failed": what a killed QEMU gives. A failed start gives no STOPPED at all.
    _ending("CRASHED FAILED", _error(ExitReason.LOST_QEMU_CONNECTION)),
    _ending("MIGRATED", _normal(ExitReason.MIGRATION_SUCCEEDED)),
    _ending("SAVED", _normal(ExitReason.SAVE_STATE_SUCCEEDED)),
    _ending("FROM_SNAPSHOT", _normal(ExitReason.SUCCESS)),
)
"""By event. The first that fits holds; where none does, the end is told without a reason."""
REMEMBERED: Final = {
    "SHUTOFF_SHUTDOWN": _normal(ExitReason.USER_SHUTDOWN),
    "SHUTOFF_DESTROYED": _normal(ExitReason.ADMIN_SHUTDOWN),
    # What events call failed or crashed.
    "SHUTOFF_CRASHED": _error(ExitReason.LOST_QEMU_CONNECTION),
    "SHUTOFF_MIGRATED": _normal(ExitReason.MIGRATION_SUCCEEDED),
    "SHUTOFF_SAVED": _normal(ExitReason.SAVE_STATE_SUCCEEDED),
    "SHUTOFF_FAILED": _error(ExitReason.LIBVIRT_START_FAILED),
    "SHUTOFF_FROM_SNAPSHOT": _normal(ExitReason.SUCCESS),
    # The daemon gave it up while reconnecting to its process.
    "SHUTOFF_DAEMON": _error(ExitReason.LOST_QEMU_CONNECTION),
}
"""By the reason of the state SHUTOFF of an inactive domain; libvirt forgets it at its own restart."""

_BY_DETAIL: Final = tuple(
    (frozenset(number(f"EVENT_STOPPED_{detail}") for detail in ending.details), ending) for ending in ENDINGS
)
_BY_REASON: Final = {number(name): exit_ for name, exit_ in REMEMBERED.items()}


def announced(detail: int, evidence: Evidence) -> Exit | None:
    """How a domain ended of which the STOPPED event says *detail*; None: nobody knows."""
    return next((one.exit for details, one in _BY_DETAIL if detail in details and one.holds(evidence)), None)


def remembered(state: int, reason: int) -> Exit | None:
    """How an inactive domain ended, as far as libvirt remembers: not over its own restart."""
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return _BY_REASON[libvirt.VIR_DOMAIN_SHUTOFF_CRASHED]
    return _BY_REASON.get(reason) if state == libvirt.VIR_DOMAIN_SHUTOFF else None
