"""What only events tell of a domain, kept until it is over: small, bounded, and lost with the connection.

A role in a migration is not part of a domain's state (the source of a live migration is plainly "running"), nor is who
looks at its console or what its last I/O error was. ``forget_all`` on a lost connection is deliberate: what happened
meanwhile was not announced, so old evidence may be wrong. Roles and pause codes are asked for again then (jobStats,
diskErrors); the console's client cannot be asked for and stays absent until it comes or goes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from vmpulse_contract.identity import VmId
from vmpulse_contract.values import PauseCode


class Role(Enum):
    """What a domain is to a migration that is going on."""

    SOURCE = auto()
    DESTINATION = auto()


@dataclass(slots=True)
class Evidence:
    """Of one life of one domain. ``time_offset`` in seconds."""

    role: Role | None = None
    client_ip: str | None = None
    pause_code: PauseCode | None = None
    time_offset: int | None = None


NONE = Evidence()
"""What is known of a domain that no event has spoken of. Never written to."""


class EvidenceBook:
    """The evidence by domain."""

    def __init__(self) -> None:
        self._of: dict[VmId, Evidence] = {}

    def of(self, vm: VmId) -> Evidence:
        """Look up, to read."""
        return self._of.get(vm, NONE)

    def about(self, vm: VmId) -> Evidence:
        """Look up, to write."""
        return self._of.setdefault(vm, Evidence())

    def begin(self, vm: VmId) -> None:
        """A life begins or ends: the old one's evidence says nothing of the next."""
        self._of.pop(vm, None)

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget domains that are gone without an event."""
        for vm in [vm for vm in self._of if vm not in present]:
            del self._of[vm]

    def forget_all(self) -> None:
        """The connection was lost."""
        self._of.clear()
