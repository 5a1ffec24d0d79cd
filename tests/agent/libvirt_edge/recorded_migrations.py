"""What two libvirt 9.0 with QEMU 7.2 announced and showed while a domain was migrated from the first to the second.

Recorded with a connection to each; times are milliseconds since the command. Left out: what says nothing of the
migration (the guest agent's channel), and iterations but the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import Exit
from vmpulse_agent.libvirt_edge import endings
from vmpulse_agent.libvirt_edge.events import RawEvent, asks_role, translate
from vmpulse_agent.libvirt_edge.evidence import EvidenceBook, Role
from vmpulse_agent.libvirt_edge.status import status
from vmpulse_contract.identity import VmId
from vmpulse_contract.values import VmStatus

VM: Final = VmId(bytes(15) + b"\x01")
LIFECYCLE: Final = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
ITERATION: Final = libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION
COMPLETED: Final = libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
SOURCE: Final = "source"
DESTINATION: Final = "destination"


class Heard(NamedTuple):
    """An event."""

    at_ms: int
    host: str
    kind: int
    details: tuple[object, ...]


class Seen(NamedTuple):
    """State and reason that the domain shows from now on; None: it is no longer listed."""

    at_ms: int
    host: str
    state: tuple[int, int] | None


class Told(NamedTuple):
    """What a host makes of a step. ``status`` None: it does not list the domain; ``exit``: how its life there ended."""

    at_ms: int
    host: str
    status: VmStatus | None
    exit: Exit | None


Recording = tuple[Heard | Seen, ...]

_BEGIN: Final[Recording] = (
    Seen(0, SOURCE, (1, 1)),
    Seen(640, DESTINATION, (3, 11)),
    Heard(840, DESTINATION, LIFECYCLE, (2, 1)),
    Seen(841, DESTINATION, (3, 2)),
    Heard(850, SOURCE, ITERATION, (1,)),
)
SUCCESS: Final[Recording] = (
    *_BEGIN,
    Heard(3160, SOURCE, LIFECYCLE, (3, 1)),
    Seen(3160, SOURCE, (3, 2)),
    Heard(3191, DESTINATION, LIFECYCLE, (0, 0)),
    Heard(3198, DESTINATION, LIFECYCLE, (4, 1)),
    Seen(3199, DESTINATION, (1, 2)),
    Seen(3405, SOURCE, (5, 4)),
    Heard(3406, SOURCE, LIFECYCLE, (5, 3)),
    Heard(3406, SOURCE, COMPLETED, ({"operation": 5},)),
    Seen(3410, SOURCE, None),
)
"""With its definition, which the source gives up; libvirt announces no UNDEFINED."""
SUCCESS_KEPT: Final[Recording] = tuple(
    step for step in SUCCESS if step[1:] not in [(SOURCE, None), (DESTINATION, LIFECYCLE, (0, 0))]
)
"""The source goes on defining it."""
CANCELLED: Final[Recording] = (
    *_BEGIN,
    Heard(3730, DESTINATION, LIFECYCLE, (5, 5)),
    Seen(3731, DESTINATION, None),
)
"""By its job's abort. The source announces nothing."""
DESTINATION_KILLED: Final[Recording] = (
    *_BEGIN,
    Heard(2520, DESTINATION, LIFECYCLE, (5, 5)),
    Seen(2521, DESTINATION, None),
)
"""SIGKILL of its QEMU there."""
SOURCE_DAEMON_KILLED: Final[Recording] = (
    *_BEGIN,
    Seen(2714, DESTINATION, None),
    Heard(2715, DESTINATION, LIFECYCLE, (6, 2)),
    Heard(2715, DESTINATION, LIFECYCLE, (5, 1)),
    Seen(5530, SOURCE, (1, 2)),
)
POST_COPY: Final[Recording] = (
    *_BEGIN,
    Heard(2445, SOURCE, LIFECYCLE, (3, 1)),
    Seen(2445, SOURCE, (3, 2)),
    Seen(2448, SOURCE, (3, 12)),
    Heard(2449, SOURCE, LIFECYCLE, (3, 7)),
    Heard(2467, DESTINATION, LIFECYCLE, (4, 3)),
    Seen(2467, DESTINATION, (1, 10)),
    Heard(2468, DESTINATION, LIFECYCLE, (4, 1)),
    Seen(2471, DESTINATION, (1, 2)),
    Seen(2692, SOURCE, (5, 4)),
    Heard(2692, SOURCE, LIFECYCLE, (5, 3)),
    Heard(2692, SOURCE, COMPLETED, ({"operation": 5},)),
)
POST_COPY_BROKEN: Final[Recording] = (
    *_BEGIN,
    Seen(1528, SOURCE, (3, 2)),
    Heard(1528, SOURCE, LIFECYCLE, (3, 1)),
    Seen(1533, SOURCE, (3, 12)),
    Heard(1533, SOURCE, LIFECYCLE, (3, 7)),
    Heard(1633, DESTINATION, LIFECYCLE, (4, 3)),
    Seen(1634, DESTINATION, (1, 10)),
    Heard(1659, DESTINATION, LIFECYCLE, (4, 4)),
    Heard(1659, SOURCE, LIFECYCLE, (3, 8)),
    Seen(1661, SOURCE, (3, 13)),
    Seen(1661, DESTINATION, (1, 11)),
    Heard(2040, DESTINATION, LIFECYCLE, (5, 1)),
    Seen(2041, DESTINATION, None),
)
"""Interrupted by its job's abort, and given up by destroying it on the destination; 24 s in between are left out."""
MOVED: Final = {"success": SUCCESS, "success, kept": SUCCESS_KEPT, "post-copy": POST_COPY}
STAYED: Final = {
    "cancelled": CANCELLED,
    "destination killed": DESTINATION_KILLED,
    "source daemon killed": SOURCE_DAEMON_KILLED,
}
BROKEN: Final = {"post-copy broken": POST_COPY_BROKEN}
ALL: Final = {**MOVED, **STAYED, **BROKEN}


def replay(recording: Recording, *, answered: bool = True) -> Iterator[Told]:
    """Give what each host makes of each step, as the agent would: evidence from events, status from both.

    *answered*: what jobs are going on can be asked in time.
    """
    books = {SOURCE: EvidenceBook(), DESTINATION: EvidenceBook()}
    states: dict[str, tuple[int, int] | None] = {SOURCE: None, DESTINATION: None}
    ends: dict[str, Exit | None] = {SOURCE: None, DESTINATION: None}
    for step in recording:
        if isinstance(step, Seen):
            states[step.host] = step.state
        else:
            ends[step.host] = _heard(step, books[step.host], answered=answered) or ends[step.host]
        yield _told(step.at_ms, step.host, states[step.host], books[step.host], ends[step.host])


def _heard(step: Heard, book: EvidenceBook, *, answered: bool) -> Exit | None:
    event = RawEvent(step.kind, VM, step.details)
    asked = answered and asks_role(event, book)
    happened = translate(event, book)
    if asked:
        # What jobStats gives then: the source's job, and nothing once it is over.
        book.about(VM).role = Role.SOURCE if step.kind == ITERATION else Role.NONE
    return next((end for end in (getattr(one, "exit", None) for one in happened) if end is not None), None)


def _told(at_ms: int, host: str, state: tuple[int, int] | None, book: EvidenceBook, said: Exit | None) -> Told:
    if state is None:
        return Told(at_ms, host, None, said)
    if state[0] == libvirt.VIR_DOMAIN_SHUTOFF:
        return Told(at_ms, host, VmStatus.DOWN, said or endings.remembered(*state))
    return Told(at_ms, host, status(*state, book.of(VM).role), None)
