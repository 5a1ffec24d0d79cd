"""Which host's word on a VM is believed.

Every host that lists a VM has a claim on it; all claims are kept and visible. The owner is one of them (promise V4):
an active claim beats a Down one; among active ones the last to turn to running wins, and one that is new to the view
beats that of a host that is lost or stopped; hosts that come back and repeated reports move nothing else. A LOST host
keeps what it owns, against Down claims and against those that were there before: silence is no evidence (promise V6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.view.states import HostState

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_contract.identity import VmId


class Vm:
    """One VM of the fleet: the hosts that list it, and the one that is believed."""

    __slots__ = ("claims", "id", "owner")

    def __init__(self, vm: VmId) -> None:
        self.id = vm
        self.claims: list[Host] = []
        self.owner: Host | None = None

    def active_on(self, host: Host) -> bool:
        """Whether *host* lists a running incarnation: a start token is there from start to end (not for a Down VM)."""
        return host.tokens[host.index[self.id]] != 0

    def add_claim(self, host: Host, *, turned: bool) -> None:
        """*host* lists the VM now. *turned*: it has just begun to, as opposed to a host that was met or met again."""
        if host not in self.claims:
            self.claims.append(host)
        self.settle(host, turned=turned)

    def drop_claim(self, host: Host) -> bool:
        """*host* no longer lists the VM. Tells whether nobody does."""
        self.claims.remove(host)
        if self.owner is host:
            self.owner = max(self.claims, key=self._rank, default=None)
        return not self.claims

    def settle(self, host: Host, *, turned: bool) -> None:
        """*host*'s claim was made or has changed: decide who owns the VM. *turned*: it has just turned to running."""
        owner = self.owner
        if owner is None or owner is host:
            if not self.active_on(host):
                # The others may run it; on equal rank the owner stays.
                best = max(self.claims, key=self._rank)
                self.owner = best if self._rank(best) > self._rank(host) else host
            else:
                self.owner = host
        elif self.active_on(host) and (turned or not self.active_on(owner) or _heard(host) > _heard(owner)):
            self.owner = host

    def _rank(self, host: Host) -> tuple[bool, bool]:
        """Active claims before Down ones, and among these the hosts that are heard."""
        return self.active_on(host), _heard(host)


def _heard(host: Host) -> bool:
    """Whether the host may be believed about the present: it has not fallen silent or stopped."""
    return host.state in {HostState.LIVE, HostState.LATE}
