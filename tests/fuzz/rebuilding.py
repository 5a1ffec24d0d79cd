"""msgpack messages taken apart, changed in a value or two, and put together again: valid, and of an odd meaning."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import msgpack

DEEPER: Final = 0.9
INNER_MOST: Final = 3
"""A body may lie within a message, and another within that."""
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 255, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63)),
    *(0.0, -0.5, 1e308, float("inf"), float("nan")),
    *("", "x", "x" * 70_000, "\x00\x1b[2J\r\n", "\u202e\u2028", "9" * 400),
    *(b"", b"\x00", b"\xff" * 16, b"x" * 70_000),
    *([], {}, [[]], [None] * 5000, {"a": 1}),
)
"""Values in place of others."""

ByteMutation = Callable[[bytearray, random.Random], None]


class Rebuilding:
    """Changes values by one source of chance.

    Args:
        chance: where every choice comes from.
        mutate: changes bytes that are no message themselves.
    """

    def __init__(self, chance: random.Random, mutate: ByteMutation) -> None:
        self._chance = chance
        self._mutate = mutate

    def rebuilt(self, seed: bytes, changes: int, depth: int = 0) -> bytes | None:
        """Give the message after so many changes; None: it is not msgpack."""
        try:
            value: Any = msgpack.unpackb(seed, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        for _ in range(changes):
            value = self._changed(value, depth)
        packed: bytes = msgpack.packb(value)
        return packed

    def _changed(self, value: Any, depth: int) -> Any:
        """Give a value with one change somewhere in it."""
        if self._chance.random() > DEEPER:
            return self._chance.choice(ODD)
        match value:
            case list() if value:
                return self._list(list(value), depth)
            case dict() if value:
                return self._map(dict(value), depth)
            case bytes():
                return self._bytes(value, depth)
            case int():
                changed = value + self._chance.choice((-1, 1, -value, 1 << self._chance.randrange(64)))
                return max(-(1 << 63), min((1 << 64) - 1, changed))
            case _:
                return self._chance.choice(ODD)

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        at = self._chance.randrange(len(value))
        match self._chance.randrange(8):
            case 0:
                del value[at]
            case 1:
                value.insert(at, value[at])
            case 2:
                other = self._chance.randrange(len(value))
                value[at], value[other] = value[other], value[at]
            case _:
                value[at] = self._changed(value[at], depth)
        return value

    def _map(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        key = self._chance.choice(list(value))
        match self._chance.randrange(6):
            case 0:
                del value[key]
            case 1:
                value[self._chance.choice(("", "odd", b"odd", 7, "x" * 300))] = value.pop(key)
            case _:
                value[key] = self._changed(value[key], depth)
        return value

    def _bytes(self, value: bytes, depth: int) -> bytes:
        inner = self.rebuilt(value, 1, depth + 1) if depth < INNER_MOST and self._chance.randrange(2) else None
        if inner is not None:
            return inner
        raw = bytearray(value)
        self._mutate(raw, self._chance)
        return bytes(raw)
