"""A table that cannot grow by names that somebody makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(Generic[Key, Value]):
    """Makes an entry for whoever is new, and keeps so many: beyond that the one made longest ago goes.

    Args:
        most: how many are kept.
        make: makes an entry at a time, in seconds on the caller's clock.
    """

    def __init__(self, most: int, make: Callable[[float], Value]) -> None:
        self._most = most
        self._make = make
        self._entries: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, key: Key, now: float) -> Value:
        """Give the entry of a key, a new one if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._most:
                del self._entries[next(iter(self._entries))]
            entry = self._entries[key] = self._make(now)
        return entry

    def taken(self, key: Key, now: float) -> Value:
        """Give the entry of a key, a new one if there is none, and keep it no longer."""
        return self._entries.pop(key, None) or self._make(now)
