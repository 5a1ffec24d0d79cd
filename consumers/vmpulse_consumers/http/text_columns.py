"""Columns of values as columns of text, for what is said of thousands of VMs at once: no step of Python for each value.

A column is a list of bytes, one entry for each VM; ``woven`` puts columns side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vmpulse_contract.identity import VmId

_JSON: Final = msgspec.json.Encoder()
_UUID: Final = ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32))
"""Where the groups of a UUID's text begin, and which of its digits they have."""


def json_column(values: Sequence[object], key: bytes = b"") -> list[bytes]:
    """Each value as JSON writes it, behind *key*; None and NaN are not said, and neither is their key."""
    # One value a line: JSON writes no line break, so that texts of any content come apart where they should.
    text = key + _JSON.encode_lines(values).replace(b"\n", b"\n" + key)
    return text.replace(key + b"null\n", b"\n").split(b"\n")[:-1]


def id_column(vms: Sequence[VmId], before: bytes = b"", after: bytes = b"") -> list[bytes]:
    """Each id as the canonical text of a UUID, between what stands *before* and *after* each."""
    digits = hex_digits(b"".join(vms), 32)
    text = filled(before + b"-" * 36 + after, len(vms))
    for at, first, last in _UUID:
        text[:, len(before) + at : len(before) + at + last - first] = digits[:, first:last]
    return rows_of(text)


def filled(row: bytes, count: int) -> NDArray[np.uint8]:
    """A matrix of characters with *count* rows that are all alike."""
    return np.tile(np.frombuffer(row, np.uint8), (count, 1))


def hex_digits(raw: bytes, width: int) -> NDArray[np.uint8]:
    """The hexadecimal digits of *raw*, *width* of them a row, as characters."""
    return np.frombuffer(raw.hex().encode(), np.uint8).reshape(-1, width)


def rows_of(text: NDArray[np.uint8]) -> list[bytes]:
    """The rows of a matrix of characters, none of which is NUL."""
    rows: list[bytes] = text.view(f"S{text.shape[1]}").ravel().tolist()
    return rows


def woven(*columns: list[bytes]) -> bytes:
    """Join the first entries of all columns, then their second ones, and so on."""
    pieces = [b""] * (len(columns[0]) * len(columns))
    for number, column in enumerate(columns):
        pieces[number :: len(columns)] = column
    return b"".join(pieces)
