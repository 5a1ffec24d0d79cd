"""Which host's word on a VM is believed.

Every host that lists a VM has a claim on it; all claims are kept and visible. The owner is one of them (promise V4), by
the table of succession in ``claims``: an active claim beats a Down one; among active ones the owner moves when another
host's VM turns to running, and one that is new to the view beats that of a host that is lost or stopped; hosts that
come back and repeated reports move nothing else. A LOST host keeps what it owns, against Down claims and against those
that were there before: silence is no evidence (promise V6).

A VM that is being migrated is listed by two hosts. On the destination its claim is BEGUN until it is seen to run there;
until then the source owns it. If the source's life of it ends as migrated before any destination is seen, nobody owns
it: it is in *transit*, and still said to be on its source, for what has left is neither Down nor gone. That lasts until
it is seen somewhere, or the source no longer tells of it; no clock of ours ends it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.claims import ClaimState, Standing, rank, standing, takes_over
from vmpulse_consumers.view.states import step
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_contract.identity import VmId
    from vmpulse_contract.stream import Tombstone

TRANSIT_S: Final = 30.0
"""So long a VM in transit is said to be migrating; then nobody knows."""

LEFT_UNKNOWN: Final = float("inf")
"""``Transit.left_at`` of one that is remembered, until its source tells of it: no end told elsewhere is later."""


class PlaceState(StrEnum):
    """Where the view says that a VM is."""

    NOWHERE = "nowhere"
    OWNED = "owned"
    TRANSIT = "transit"


class PlaceInput(StrEnum):
    """What can happen to a VM's place: what becomes of its claims."""

    CLAIMED_DOWN = "claimed_down"
    CLAIMED_ACTIVE = "claimed_active"
    OWNER_LEFT = "owner_left"
    LAST_LEFT = "last_left"
    OWNER_MIGRATED = "owner_migrated"
    OTHER_LEFT = "other_left"
    GIVEN_UP = "given_up"
    GIVEN_UP_LAST = "given_up_last"


_P = PlaceState
_I = PlaceInput

PLACES: Final[dict[PlaceState, dict[PlaceInput, PlaceState]]] = {
    _P.NOWHERE: {_I.CLAIMED_DOWN: _P.OWNED, _I.CLAIMED_ACTIVE: _P.OWNED},
    _P.OWNED: {
        # By whom, the table of succession says.
        _I.CLAIMED_DOWN: _P.OWNED,
        _I.CLAIMED_ACTIVE: _P.OWNED,
        _I.OWNER_LEFT: _P.OWNED,
        _I.LAST_LEFT: _P.NOWHERE,
        _I.OWNER_MIGRATED: _P.TRANSIT,
        _I.OTHER_LEFT: _P.OWNED,
    },
    _P.TRANSIT: {
        # That it is defined somewhere says nothing of where it runs.
        _I.CLAIMED_DOWN: _P.TRANSIT,
        _I.CLAIMED_ACTIVE: _P.OWNED,
        _I.OTHER_LEFT: _P.TRANSIT,
        # It came somewhere and went on before anybody saw it there.
        _I.OWNER_MIGRATED: _P.TRANSIT,
        _I.GIVEN_UP: _P.OWNED,
        _I.GIVEN_UP_LAST: _P.NOWHERE,
    },
}


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

    ``told_host`` and ``told_status`` are what subscribers know of it; None: they do not know it yet. ``told_sections``:
    the host whose sections of it they know. ``end`` is how the life that was seen last has ended, if that was seen and
    told; None while it is in one. ``kept_place`` is the owner or the transit that the memory was told of. ``split``:
    whether it is a split brain, as ``Splits`` has it.
    """

    __slots__ = (
        "claims",
        "end",
        "id",
        "kept_place",
        "owner",
        "split",
        "told_host",
        "told_sections",
        "told_status",
        "transit",
    )

    def __init__(self, vm: VmId) -> None:
        self.id = vm
        self.claims: tuple[Host, ...] = ()
        self.owner: Host | None = None
        self.transit: Transit | None = None
        self.end: Tombstone | None = None
        self.kept_place: Host | Transit | None = None
        self.split = False
        self.told_host: Host | None = None
        self.told_status = VmStatus.UNKNOWN
        self.told_sections: Host | None = None

    @property
    def place(self) -> PlaceState:
        """Where the view says that it is."""
        if self.transit is not None:
            return PlaceState.TRANSIT
        return PlaceState.NOWHERE if self.owner is None else PlaceState.OWNED

    def active_on(self, host: Host) -> bool:
        """Whether *host* lists a running incarnation: a start token is there from start to end (not for a Down VM)."""
        return host.tokens[host.index[self.id]] != 0

    def runs_on(self, host: Host) -> bool:
        """Whether the incarnation on *host* was seen to run; one that begins or arrives by migration was not yet."""
        return host.claim_state(self.id) is ClaimState.RUNNING

    def claim(self, host: Host) -> None:
        """*host* lists the VM now; ``settle`` decides what follows."""
        if host not in self.claims:
            self.claims = (*self.claims, host) if self.claims else host.alone

    def drop_claim(self, host: Host, left: Transit | None = None) -> bool:
        """*host* no longer lists the VM; *left*: because it has migrated. Tells whether nobody knows of it any more."""
        rest = tuple(other for other in self.claims if other is not host)
        self.claims = rest[0].alone if len(rest) == 1 else rest
        if self.owner is host:
            self._owner_left(left)
        else:
            step(PLACES, self.place, PlaceInput.OTHER_LEFT)
        return self.place is PlaceState.NOWHERE

    def end_claim(self, left: Transit) -> None:
        """The VM has migrated away from a host that goes on listing it as Down."""
        if self.owner is left.host:
            self._owner_left(left)

    def went_on(self, left: Transit) -> None:
        """While it was in transit it came to a host and left that one too."""
        self._be(step(PLACES, self.place, PlaceInput.OWNER_MIGRATED), None, left)

    def end_transit(self, host: Host) -> bool:
        """The VM is nowhere, as far as *host* was its last place. Tells whether nobody knows of it any more."""
        best = self._strongest()
        given = PlaceInput.GIVEN_UP_LAST if best is None else PlaceInput.GIVEN_UP
        if host in self.claims and not (best and self.active_on(best)):
            best = host
        self._be(step(PLACES, self.place, given), best, None)
        return self.place is PlaceState.NOWHERE

    def settle(self, host: Host, *, turned: bool) -> None:
        """*host*'s claim was made or has changed: decide who owns the VM. *turned*: it has just turned to running."""
        given = PlaceInput.CLAIMED_ACTIVE if self.active_on(host) else PlaceInput.CLAIMED_DOWN
        after, owner = step(PLACES, self.place, given), self.owner
        if after is PlaceState.TRANSIT:
            return
        if owner is None:
            self._be(after, host, None)
        elif owner is host:
            self._be(after, self._successor(host), None)
        elif takes_over(self._standing(owner), Standing.TURNED if turned else self._standing(host)):
            self._be(after, host, None)

    def remember(self, host: Host) -> None:
        """What was known before the view's restart: *host* owned it."""
        if self.place is PlaceState.NOWHERE:
            self._be(step(PLACES, self.place, PlaceInput.CLAIMED_DOWN), host, None)
        else:
            self.settle(host, turned=False)

    def remember_transit(self, left: Transit) -> None:
        """What was known before the view's restart: it had left *left.host*, and nobody lists it as active."""
        self._own(None)
        self.transit = left

    def _successor(self, owner: Host) -> Host:
        """Who owns it now that *owner* says something new; one that is not seen to run there may give way."""
        best = self._strongest()
        if best is None or self.runs_on(owner):
            return owner
        # On equal rank the owner stays.
        return best if self._rank(best) > self._rank(owner) else owner

    def _owner_left(self, left: Transit | None) -> None:
        best = self._strongest()
        if left is not None and (best is None or not self.active_on(best)):
            self._be(step(PLACES, self.place, PlaceInput.OWNER_MIGRATED), None, left)
        elif best is not None:
            self._be(step(PLACES, self.place, PlaceInput.OWNER_LEFT), best, None)
        else:
            self._be(step(PLACES, self.place, PlaceInput.LAST_LEFT), None, None)

    def _be(self, place: PlaceState, owner: Host | None, transit: Transit | None) -> None:
        self._own(owner)
        self.transit = transit
        if self.place is not place:
            # Unreachable: each caller gives what goes with the state that the table gave.
            msg = f"a VM that is {place} is {self.place}"
            raise RuntimeError(msg)

    def _own(self, owner: Host | None) -> None:
        if owner is self.owner:
            return
        if self.owner is not None:
            self.owner.owned -= 1
        if owner is not None:
            owner.owned += 1
        self.owner = owner

    def _strongest(self) -> Host | None:
        return max(self.claims, key=self._rank, default=None)

    def _standing(self, host: Host) -> Standing:
        return standing(host.claim_state(self.id), host)

    def _rank(self, host: Host) -> int:
        return rank(host.claim_state(self.id), host)
