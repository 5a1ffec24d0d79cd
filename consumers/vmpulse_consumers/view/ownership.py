"""Which host's word on a VM is believed.

Every host that lists a VM has a claim on it; all claims are kept and visible. The owner is one of them (promise V4): an
active claim beats a Down one; among active ones the owner moves when another host's VM turns to running, and one that
is new to the view beats that of a host that is lost or stopped; hosts that come back and repeated reports move nothing
else. A LOST host keeps what it owns, against Down claims and against those that were there before: silence is no
evidence (promise V6).

A VM that is being migrated is listed by two hosts. On the destination it is *arriving* until it is seen to run there;
until then the source owns it. If the source's life of it ends as migrated before any destination is seen, nobody owns
it: it is in *transit*, and still said to be on its source, for what has left is neither Down nor gone. That lasts until
it is seen somewhere, or the source no longer tells of it; no clock of ours ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.states import HostState
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_contract.identity import VmId
    from vmpulse_contract.stream import Tombstone

TRANSIT_S: Final = 30.0
"""So long a VM in transit is said to be migrating; then nobody knows."""


class Transit(NamedTuple):
    """A VM has left ``host`` and was not seen anywhere else yet.

    ``token``: of its life there. ``since``: when we heard that it has left; ``left_at``: when it did. ``info``: the
    body held when it left.
    """

    host: Host
    token: int
    since: float
    left_at: float
    info: bytes | None

    def status(self, now: float) -> VmStatus:
        """What to say of the VM: never Down."""
        return VmStatus.MIGRATION_SOURCE if now - self.since < TRANSIT_S else VmStatus.UNKNOWN


class Vm:
    """One VM of the fleet: the hosts that list it, and the one that is believed; None while it is in transit.

    ``told_host`` and ``told_status`` are what subscribers know of it; None: they do not know it yet. ``end`` is how the
    life that was seen last has ended, if that was seen and told; None while it is in one.
    """

    __slots__ = ("claims", "end", "id", "owner", "told_host", "told_status", "transit")

    def __init__(self, vm: VmId) -> None:
        self.id = vm
        self.claims: list[Host] = []
        self.owner: Host | None = None
        self.transit: Transit | None = None
        self.end: Tombstone | None = None
        self.told_host: Host | None = None
        self.told_status = VmStatus.UNKNOWN

    def active_on(self, host: Host) -> bool:
        """Whether *host* lists a running incarnation: a start token is there from start to end (not for a Down VM)."""
        return host.tokens[host.index[self.id]] != 0

    def runs_on(self, host: Host) -> bool:
        """Whether the incarnation on *host* was seen to run; one that begins or arrives by migration was not yet."""
        return self.active_on(host) and self.id not in host.arriving

    def claim(self, host: Host) -> None:
        """*host* lists the VM now; ``settle`` decides what follows."""
        if host not in self.claims:
            self.claims.append(host)

    def drop_claim(self, host: Host, left: Transit | None = None) -> bool:
        """*host* no longer lists the VM; *left*: because it has migrated. Tells whether nobody knows of it any more."""
        self.claims.remove(host)
        if self.owner is host:
            self._give_away(left)
        return not self.claims and self.transit is None

    def end_claim(self, left: Transit) -> None:
        """The VM has migrated away from a host that goes on listing it as Down."""
        if self.owner is left.host:
            self._give_away(left)

    def end_transit(self, host: Host) -> bool:
        """The VM is nowhere, as far as *host* was its last place. Tells whether nobody knows of it any more."""
        self._give_away(None)
        if host in self.claims and not (self.owner and self.active_on(self.owner)):
            self.owner = host
        return not self.claims

    def settle(self, host: Host, *, turned: bool) -> None:
        """*host*'s claim was made or has changed: decide who owns the VM. *turned*: it has just turned to running."""
        owner = self.owner
        if owner is None:
            if self.transit is None or self.active_on(host):
                self._own(host)
        elif owner is host:
            if not self.runs_on(host):
                # The others may run it; on equal rank the owner stays.
                best = max(self.claims, key=self._rank)
                self._own(best if self._rank(best) > self._rank(host) else host)
        elif self._takes_over(host, owner, turned=turned):
            self._own(host)

    def _takes_over(self, host: Host, owner: Host, *, turned: bool) -> bool:
        if not self.active_on(owner):
            return self.active_on(host)
        return self.runs_on(host) and (turned or not self.runs_on(owner) or _heard(host) > _heard(owner))

    def _give_away(self, left: Transit | None) -> None:
        best = max(self.claims, key=self._rank, default=None)
        if left is not None and (best is None or not self.active_on(best)):
            self.owner, self.transit = None, left
        else:
            self.owner, self.transit = best, None

    def _own(self, host: Host) -> None:
        self.owner, self.transit = host, None

    def _rank(self, host: Host) -> tuple[bool, bool, bool]:
        """Active claims before Down ones, among these the hosts that are heard, and those where it was seen to run."""
        return self.active_on(host), _heard(host), self.runs_on(host)


def _heard(host: Host) -> bool:
    """Whether the host may be believed about the present: it has not fallen silent or stopped."""
    return host.state in {HostState.LIVE, HostState.LATE}
