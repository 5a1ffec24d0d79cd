"""The states of a host, as a table: state x input -> state. A missing entry is IllegalTransition and changes nothing.

The tables of claims, of a VM's place and of split brains are in ``claims``, ``ownership`` and ``splits``.

What the table cannot say is *when* an input is given. CONFIRMED: a roster fetched by rpc has been applied, for whoever
holds the exclusive rpc queue is the live agent. HEARD: a stream message of the confirmed epoch was applied. STRANGER: a
message of an epoch that is not confirmed was seen. The silences: only while the canary is fine. LOST never means dead:
it says that nothing was heard. Fencing is the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from vmpulse_consumers.errors import IllegalTransition


class HostState(StrEnum):
    """What the view knows of a host."""

    UNKNOWN = "unknown"
    SYNCING = "syncing"
    LIVE = "live"
    LATE = "late"
    LOST = "lost"
    STOPPED = "stopped"
    GONE = "gone"


HEARD: Final = frozenset({HostState.LIVE, HostState.LATE})
"""What such a host says may be believed about the present."""


class HostInput(StrEnum):
    """What can happen to a host."""

    STRANGER = "stranger"
    CONFIRMED = "confirmed"
    HEARD = "heard"
    SILENT_LATE = "silent_late"
    SILENT_LOST = "silent_lost"
    GOODBYE = "goodbye"
    FORGOTTEN = "forgotten"
    REMEMBERED = "remembered"
    REMEMBERED_LOST = "remembered_lost"
    REMEMBERED_STOPPED = "remembered_stopped"


_S = HostState
_I = HostInput

TABLE: Final[dict[HostState, dict[HostInput, HostState]]] = {
    _S.UNKNOWN: {
        _I.STRANGER: _S.SYNCING,
        _I.CONFIRMED: _S.LIVE,
        _I.FORGOTTEN: _S.GONE,
        # What was said before the view's restart is shown until the host is confirmed, or known to be silent.
        _I.REMEMBERED: _S.SYNCING,
        _I.REMEMBERED_LOST: _S.LOST,
        _I.REMEMBERED_STOPPED: _S.STOPPED,
    },
    _S.SYNCING: {
        _I.STRANGER: _S.SYNCING,
        _I.CONFIRMED: _S.LIVE,
        # The tail of the epoch that was confirmed before; the new one has already spoken.
        _I.HEARD: _S.SYNCING,
        _I.GOODBYE: _S.SYNCING,
        _I.SILENT_LOST: _S.LOST,
        _I.FORGOTTEN: _S.GONE,
    },
    _S.LIVE: {
        # The old epoch's data stands until the new one is confirmed; its silence is judged as ever.
        _I.STRANGER: _S.LIVE,
        _I.CONFIRMED: _S.LIVE,
        _I.HEARD: _S.LIVE,
        _I.SILENT_LATE: _S.LATE,
        _I.SILENT_LOST: _S.LOST,
        _I.GOODBYE: _S.STOPPED,
    },
    _S.LATE: {
        _I.STRANGER: _S.LATE,
        _I.CONFIRMED: _S.LIVE,
        _I.HEARD: _S.LIVE,
        _I.SILENT_LOST: _S.LOST,
        _I.GOODBYE: _S.STOPPED,
    },
    _S.LOST: {
        _I.STRANGER: _S.SYNCING,
        _I.CONFIRMED: _S.LIVE,
        _I.HEARD: _S.LIVE,
        _I.GOODBYE: _S.STOPPED,
        _I.FORGOTTEN: _S.GONE,
    },
    _S.STOPPED: {
        _I.STRANGER: _S.SYNCING,
        _I.CONFIRMED: _S.LIVE,
        # A reply that was under way when the goodbye came; or the queue gave us something older.
        _I.HEARD: _S.STOPPED,
        _I.GOODBYE: _S.STOPPED,
        _I.FORGOTTEN: _S.GONE,
    },
    # The end: a host that speaks again is met anew.
    _S.GONE: {},
}

State = TypeVar("State")
Input = TypeVar("Input")


def step(table: Mapping[State, Mapping[Input, State]], state: State, given: Input) -> State:
    """Give the next state. Raises IllegalTransition where the table has none."""
    try:
        return table[state][given]
    except KeyError:
        raise IllegalTransition(state, given) from None
