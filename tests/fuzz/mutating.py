"""Mutations of bytes: what a broken or hostile sender might say. Everything follows from the random source given."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from tests.fuzz.rebuilding import Rebuilding

HOW_MANY: Final = (1, 1, 1, 1, 2, 3, 6)
"""Mutations of one message: most have one alone, so that the rest of it is taken."""
LARGEST: Final = 256 << 10
"""Bytes that a mutated message may grow to; larger ones are refused by their size alone, which has tests of its own."""
BLOCKS: Final = (
    b"\xdd\xff\xff\xff\xff",  # an array of 2^32 elements
    b"\xdf\xff\xff\xff\xff",  # a map of as many
    b"\xdb\xff\xff\xff\xff",  # a text
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",  # 2^64 - 1
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",  # -2^63
    b"\x82\xa1a\x01\xa1a\x02",  # a map that repeats a key
    b"\xc7\x01\x05x",  # an extension type
    b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    b"\x91" * 2000,  # arrays in arrays
    b"\x81\xa1a" * 700,  # maps in maps
    b"\xc1",  # nothing at all
    b"\xc0" * 40,
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&b;",
    b"]]>",
    b"<" * 100,
    b"<a>" * 300,
    b"9" * 5000,
    b"-1",
    b"1e999",
    "\u202e\u2066\u200f".encode(),
    b"\x1b[2J\r\n",
    b"\x00",
    b"\xff\xfe",
    b"%00",
    b"&limit=99999999999",
)

Mutation = Callable[[bytearray, random.Random], None]


def mutated(seed: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Give a seed after a few mutations; *others* are what it may be crossed with.

    One that is msgpack is as often taken apart, changed, and put together again.
    """
    changes = chance.choice(HOW_MANY)
    if chance.randrange(2) and (odd := Rebuilding(chance, _mutate).rebuilt(seed, changes)) is not None:
        return odd[:LARGEST]
    raw = bytearray(seed)
    for _ in range(changes):
        _mutate(raw, chance)
    if not chance.randrange(10):
        other = chance.choice(others)
        raw[chance.randint(0, len(raw)) :] = other[chance.randint(0, len(other)) :]
    return bytes(raw[:LARGEST])


def _mutate(raw: bytearray, chance: random.Random) -> None:
    mutation = chance.choice(_MUTATIONS)
    mutation(raw, chance)


def _span(raw: bytearray, chance: random.Random) -> slice:
    begin = chance.randint(0, len(raw))
    return slice(begin, min(len(raw), begin + chance.choice((1, 2, 4, 8, 16, 64, 256))))


def _flip(raw: bytearray, chance: random.Random) -> None:
    if raw:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def _set(raw: bytearray, chance: random.Random) -> None:
    if raw:
        raw[chance.randrange(len(raw))] = chance.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF, chance.randrange(256)))


def _drop(raw: bytearray, chance: random.Random) -> None:
    del raw[_span(raw, chance)]


def _repeat(raw: bytearray, chance: random.Random) -> None:
    span = _span(raw, chance)
    raw[span.stop : span.stop] = bytes(raw[span]) * chance.choice((1, 1, 2, 30))


def _move(raw: bytearray, chance: random.Random) -> None:
    span = _span(raw, chance)
    taken = bytes(raw[span])
    del raw[span]
    at = chance.randint(0, len(raw))
    raw[at:at] = taken


def _insert(raw: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(raw))
    raw[at:at] = chance.choice(BLOCKS)


def _replace(raw: bytearray, chance: random.Random) -> None:
    raw[_span(raw, chance)] = chance.choice(BLOCKS)


def _cut(raw: bytearray, chance: random.Random) -> None:
    del raw[chance.randint(0, len(raw)) :]


_MUTATIONS: Final[tuple[Mutation, ...]] = (_flip, _flip, _set, _set, _drop, _repeat, _move, _insert, _replace, _cut)
