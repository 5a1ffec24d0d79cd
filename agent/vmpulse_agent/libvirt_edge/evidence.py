"""What only events tell of a domain, kept until it is over: small, bounded, and lost with the connection.

A role in a migration is not part of a domain's state (the source of a live migration is plainly "running"), nor is that
its guest reboots, who looks at its console or what its last I/O error was. ``forget_all`` on a lost connection is
deliberate: what happened meanwhile was not announced, so old evidence may be wrong. Roles and pause codes are asked for
again then (jobStats, diskErrors); what cannot be asked for stays absent until it happens again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import WatchdogEvent
from vmpulse_contract.values import PauseCode

CLIENTS_MOST: Final = 32
"""Console connections that are remembered for each domain: SPICE opens a dozen for one client."""


class Role(Enum):
    """What a job that moves a domain's memory makes of it. NONE: it has been asked, and there is no such job."""

    NONE = auto()
    SOURCE = auto()
    DESTINATION = auto()
    SAVING = auto()
    RESTORING = auto()


class Client(NamedTuple):
    """One connection to a console: its address, and the port that tells it from others of the same address."""

    address: str
    service: str | None


@dataclass(slots=True)
class Evidence:
    """Of one life of one domain. An attribute that is None is not known."""

    role: Role | None = None
    clients: tuple[Client, ...] = ()
    """Those let in and not gone, the last to come last."""
    pause_code: PauseCode | None = None
    clock_offset: int | None = None
    """Seconds, as the guest last set its clock."""
    told_offset: int | None = None
    """Seconds, as the section last said (clock_offset.steady)."""
    watchdog: WatchdogEvent | None = None
    agent_came: bool = False
    """The guest agent has been connected since the guest's last start."""
    rebooting: bool = False
    """A reboot has begun of which nothing says that it is over."""
    reported: int | None = None
    """When the guest's balloon driver had last reported, as the first look since that reboot saw it."""
    ended_by_host: bool = False
    """Its process was told to end by a signal."""
    postcopy_failed: bool = False

    @property
    def client_ip(self) -> str | None:
        """The address of the last client that is still there."""
        return self.clients[-1].address if self.clients else None

    def driver_reported(self, at: int | None) -> None:
        """Take note of when the balloon driver last reported; another report since the reboot ends it.

        Reports are told apart, not ordered: they are stamped by the host's clock, which may have been set back.
        """
        if self.reported is None:
            self.reported = at
        elif at and at != self.reported:
            self.rebooting, self.reported = False, None


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

    def rebooting(self) -> list[VmId]:
        """Those whose reboot goes on, as far as is known."""
        return [vm for vm, found in self._of.items() if found.rebooting]

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget domains that are gone without an event."""
        for vm in [vm for vm in self._of if vm not in present]:
            del self._of[vm]

    def forget_all(self) -> None:
        """The connection was lost."""
        self._of.clear()
