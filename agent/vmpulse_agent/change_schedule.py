"""When which change event may be said, and which were said but not confirmed. No I/O and no clock.

A section changes at most once per ``damping_s`` on the wire; the first change is told at once, the last state always
(promise A4). What the broker refused or took with it is told again from state, so nothing but keys is kept (A3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section

if TYPE_CHECKING:
    from collections.abc import Iterable


class ChangeKey(NamedTuple):
    """Which section of which VM a change event tells."""

    vm: VmId
    section: Section


class ChangeSchedule:
    """The change events of one epoch that are yet to be said or confirmed; times in seconds."""

    def __init__(self, damping_s: float) -> None:
        self._damping_s = damping_s
        self._due_at: dict[ChangeKey, float] = {}
        self._said_at: dict[ChangeKey, float] = {}
        self._unconfirmed: dict[ChangeKey, int] = {}
        self._owed: set[ChangeKey] = set()
        """Refused by the broker: to be said even if the section is back to what it was."""

    def __len__(self) -> int:
        """How many sections anything is kept of."""
        return len(self._due_at.keys() | self._said_at.keys() | self._unconfirmed.keys() | self._owed)

    @property
    def unconfirmed(self) -> int:
        """How many change events the broker has not confirmed yet."""
        return len(self._unconfirmed)

    def next_at(self) -> float | None:
        """When the next one may be said; None: none is to be."""
        return min(self._due_at.values(), default=None)

    def changed(self, key: ChangeKey, now: float) -> bool:
        """A section differs from what was announced. Tells whether an event for it was waiting already."""
        waits = key in self._due_at
        if not waits:
            self._due_at[key] = max(now, self._said_at.get(key, float("-inf")) + self._damping_s)
        return waits

    def unchanged(self, key: ChangeKey) -> None:
        """A section is as announced: nothing is to be said of it, unless it is owed."""
        if key not in self._owed:
            self._due_at.pop(key, None)

    def take_due(self, now: float) -> list[ChangeKey]:
        """Hand out those that may be said now."""
        due = [key for key, at in self._due_at.items() if at <= now]
        for key in due:
            del self._due_at[key]
            self._owed.discard(key)
        return due

    def said(self, key: ChangeKey, seq: int, now: float) -> None:
        """An event was said under this number."""
        self._said_at[key] = now
        self._unconfirmed[key] = seq

    def confirmed(self, key: ChangeKey, seq: int) -> None:
        """The broker has taken responsibility for an event; a later one of the same section still waits."""
        if self._unconfirmed.get(key) == seq:
            del self._unconfirmed[key]

    def refused(self, key: ChangeKey, seq: int, now: float) -> None:
        """The broker has refused an event: say it again from state, damped like any other."""
        if self._unconfirmed.get(key) == seq:
            del self._unconfirmed[key]
            self._due_at[key] = now + self._damping_s
            self._owed.add(key)

    def renew(self, unannounced: Iterable[ChangeKey], now: float) -> None:
        """The broker is there again: say at once what it did not confirm, and what has changed since."""
        for key in (*self._unconfirmed, *unannounced):
            self._due_at[key] = now
        self._unconfirmed.clear()

    def forget(self, vm: VmId) -> None:
        """The VM is gone."""
        for key in (ChangeKey(vm, section) for section in Section):
            self._owed.discard(key)
            for known in (self._due_at, self._said_at, self._unconfirmed):
                known.pop(key, None)
