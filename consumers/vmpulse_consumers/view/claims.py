"""What one host says of one VM, and whose word is believed: two tables.

A **claim** is one host's word on one VM. Its state says how far it is proved that the VM runs there: whoever only lists
a life has not been seen to run it, be it that it begins, is restored, or is being received from another host.

**Succession** says whether a challenger's claim takes over from the owner's, by how both stand. It is asked when a
claim is made or changes; saying the same again asks nothing, so it moves nothing.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import IllegalTransition
from vmpulse_consumers.view.states import HEARD
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host

RUNS: Final = frozenset(
    {
        VmStatus.UP,
        VmStatus.POWERING_UP,
        VmStatus.POWERING_DOWN,
        VmStatus.REBOOT_IN_PROGRESS,
        VmStatus.MIGRATION_SOURCE,
    }
)
"""In these the guest runs on the host that says so; one that is paused, restored or received runs nowhere yet."""


class ClaimState(StrEnum):
    """How a host's word on a VM stands."""

    NONE = "none"
    DOWN = "down"
    MET = "met"
    BEGUN = "begun"
    RUNNING = "running"


class ClaimInput(StrEnum):
    """What can happen to a claim: what a roster lists, and what a frame says of the life that is listed."""

    LISTED_DOWN = "listed_down"
    LISTED_MET = "listed_met"
    LISTED_BEGUN = "listed_begun"
    UNLISTED = "unlisted"
    RECEIVED = "received"
    RUNS = "runs"


_C = ClaimState
_I = ClaimInput
_LISTED: Final = {_I.LISTED_DOWN: _C.DOWN, _I.LISTED_MET: _C.MET, _I.LISTED_BEGUN: _C.BEGUN}

CLAIMS: Final[dict[ClaimState, dict[ClaimInput, ClaimState]]] = {
    _C.NONE: {**_LISTED},
    # Lives begin and end by rosters alone: a frame that says more of a VM without one is passed over.
    _C.DOWN: {**_LISTED, _I.UNLISTED: _C.NONE, _I.RECEIVED: _C.DOWN, _I.RUNS: _C.DOWN},
    _C.MET: {**_LISTED, _I.UNLISTED: _C.NONE, _I.RECEIVED: _C.BEGUN, _I.RUNS: _C.RUNNING},
    _C.BEGUN: {**_LISTED, _I.UNLISTED: _C.NONE, _I.RECEIVED: _C.BEGUN, _I.RUNS: _C.RUNNING},
    _C.RUNNING: {**_LISTED, _I.UNLISTED: _C.NONE, _I.RECEIVED: _C.BEGUN, _I.RUNS: _C.RUNNING},
}


class Standing(StrEnum):
    """How a claim stands beside others, from the weakest to the strongest: the order is that of succession.

    ``turned``: a life that began before our eyes has just been seen to run for the first time.
    """

    DOWN_SILENT = "down_silent"
    DOWN = "down"
    WAITING_SILENT = "waiting_silent"
    RUNNING_SILENT = "running_silent"
    WAITING = "waiting"
    RUNNING = "running"
    TURNED = "turned"


_S = Standing
_ACTIVE: Final = frozenset({_S.WAITING_SILENT, _S.RUNNING_SILENT, _S.WAITING, _S.RUNNING, _S.TURNED})
_RUNNING: Final = frozenset({_S.RUNNING_SILENT, _S.RUNNING, _S.TURNED})
_STANDING: Final = {
    (_C.DOWN, False): _S.DOWN_SILENT,
    (_C.DOWN, True): _S.DOWN,
    (_C.MET, False): _S.WAITING_SILENT,
    (_C.MET, True): _S.WAITING,
    (_C.BEGUN, False): _S.WAITING_SILENT,
    (_C.BEGUN, True): _S.WAITING,
    (_C.RUNNING, False): _S.RUNNING_SILENT,
    (_C.RUNNING, True): _S.RUNNING,
}

_TAKES_OVER: Final[dict[Standing, frozenset[Standing]]] = {
    # An active claim always beats a Down one.
    _S.DOWN_SILENT: _ACTIVE,
    _S.DOWN: _ACTIVE,
    # Who runs it beats who has not been seen to.
    _S.WAITING_SILENT: _RUNNING,
    _S.WAITING: _RUNNING,
    # One that runs and is heard is beaten only by one that has just turned to running.
    _S.RUNNING: frozenset({_S.TURNED}),
    # Silence is no evidence, so a claim that stood before stays behind; but one that is new to the view is news.
    _S.RUNNING_SILENT: frozenset({_S.TURNED, _S.RUNNING}),
}

SUCCESSION: Final[dict[tuple[Standing, Standing], bool]] = {
    (owner, challenger): challenger in takers for (owner, takers), challenger in product(_TAKES_OVER.items(), Standing)
}
"""(the owner's standing, the challenger's) -> whether the challenger takes over."""
_ORDER: Final = {standing: position for position, standing in enumerate(Standing)}


def takes_over(owner: Standing, challenger: Standing) -> bool:
    """Whether a challenger's claim takes over from the owner's. Raises IllegalTransition where the table says nothing.

    An owner has never just turned: that is asked of the others.
    """
    try:
        return SUCCESSION[owner, challenger]
    except KeyError:
        raise IllegalTransition(owner, challenger) from None


def standing(state: ClaimState, host: Host) -> Standing:
    """How a claim of *host* in *state* stands. Raises IllegalTransition for NONE: nobody stands by what is not said."""
    try:
        return _STANDING[state, is_heard(host)]
    except KeyError:
        raise IllegalTransition(state, "standing") from None


def rank(state: ClaimState, host: Host) -> int:
    """The order of succession, for the strongest of several claims."""
    return _ORDER[standing(state, host)]


def is_heard(host: Host) -> bool:
    """Whether the host may be believed about the present: it has not fallen silent or stopped."""
    return host.state in HEARD
