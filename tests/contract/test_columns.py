"""Columns: what is packed comes back, in the fewest bytes, and nothing else is taken for a column."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.wirelings import EDGES, values_of
from vmpulse_contract import columns
from vmpulse_contract.columns import LARGEST, Sparse, check, pack, unpack
from vmpulse_contract.errors import MistypedMessage


@given(st.integers(0, 200).flatmap(values_of))
def test_round_trip(values: list[int | None]) -> None:
    """Any values come back as they were, through msgpack, whatever the count and the width."""
    raw = msgspec.msgpack.encode(pack(values))
    column = msgspec.msgpack.decode(raw, type=columns.Column)
    check(column, len(values))
    assert unpack(column, len(values)) == (values or [])


@pytest.mark.parametrize("count", [2, 3, 7, 8, 39, 40])
@pytest.mark.parametrize("edge", EDGES)
def test_each_edge_is_known_and_unlike_unknown(edge: int, count: int) -> None:
    """The values around each width's limit come back as numbers beside an unknown one, which stays unknown."""
    values = [edge, None, *range(count - 2)]
    assert unpack(pack(values), count) == values


@pytest.mark.parametrize(
    "largest, size",
    [(14, 2), (15, 3), (254, 3), (255, 6), (65534, 6), (65535, 12), (2**32 - 2, 12), (2**32 - 1, 24), (LARGEST, 24)],
)
def test_width_is_the_least(largest: int, size: int) -> None:
    """A column is as wide as its largest value needs, with one value of each width kept for unknown."""
    column = pack([1, 2, largest])
    assert isinstance(column, bytes)
    assert len(column) == size


@pytest.mark.parametrize(
    "values, column",
    [
        ([], None),
        ([None, None], None),
        ([7, 7, 7], 7),
        ([0], 0),
        ([1, 2, 3], b"\x21\x03"),
        ([1, None, 3], b"\xf1\x03"),
        ([258, 1, 2], b"\x02\x01\x01\x00\x02\x00"),
        ([5] * 39 + [600], Sparse(5, b"\x27", 600)),
        ([5] * 299 + [None], Sparse(5, b"\x2b\x01", None)),
        ([None] * 30 + [300, 301] + [None] * 8, Sparse(None, b"\x1e\x1f", b"\x2c\x01\x2d\x01")),
    ],
)
def test_bytes_are_fixed(values: list[int | None], column: columns.Column) -> None:
    """The forms on the wire are these, for readers in other languages count on them."""
    assert pack(values) == column
    assert unpack(column, len(values)) == values


@given(st.integers(2, 300), st.data())
def test_exceptions_never_cost_more(count: int, data: st.DataObject) -> None:
    """A column with exceptions is sent only where it takes less than plain bytes would."""
    values = data.draw(values_of(count))
    column = pack(values)
    if isinstance(column, Sparse):
        plain = columns._pack_wide(values)
        assert len(msgspec.msgpack.encode(column)) < len(msgspec.msgpack.encode(plain))


@pytest.mark.parametrize(
    "values", [[-1], [-1, -1], [1, -1], [LARGEST + 1] * 2, [0, LARGEST + 1], [0, 1 << 70], [1 << 70]]
)
def test_pack_refuses_what_no_column_holds(values: list[int]) -> None:
    """Negative values, and those that 64 bits cannot tell from unknown, are refused, alone and among others."""
    with pytest.raises(ValueError, match="a column holds"):
        pack(values)


@pytest.mark.parametrize(
    "column, count",
    [
        (b"", 0),
        (b"\x00", 0),
        (b"\x01", 1),
        (b"", 3),
        (b"abcd", 3),
        (b"\x00" * 48, 3),
        (-1, 3),
        (LARGEST + 1, 3),
        (Sparse(1, b"", None), 3),
        (Sparse(1, b"\x03", 2), 3),
        (Sparse(1, b"\x00", 2), 0),
        (Sparse(1, b"\x01\x00", b"\x21"), 3),
        (Sparse(1, b"\x01\x01", b"\x21"), 3),
        (Sparse(1, b"\x00\x01", b"\x21\x01\x01"), 3),
        (Sparse(1, b"\x00\x01\x00", 2), 300),
        (Sparse(1, b"\x2c\x01", 2), 300),
        (Sparse(-1, b"\x00", 2), 3),
        (Sparse(1, b"\x00", -2), 3),
        (Sparse(1, b"\x00", LARGEST + 1), 3),
    ],
)
def test_check_refuses(column: columns.Column, count: int) -> None:
    """Wrong lengths, negative values, and positions that do not rise or lie outside are mistyped."""
    with pytest.raises(MistypedMessage):
        check(column, count)


@pytest.mark.parametrize("column", [256, b"\x00\x01" * 3, Sparse(256, b"\x00", 1), Sparse(1, b"\x00", 256)])
def test_check_holds_the_largest(column: columns.Column) -> None:
    """A bound on the values holds for every form."""
    check(column, 3)
    with pytest.raises(MistypedMessage):
        check(column, 3, largest=255)


@given(st.binary(max_size=64), st.integers(0, 70))
def test_any_bytes_unpack_or_are_refused(raw: bytes, count: int) -> None:
    """Bytes either hold exactly the count of values or are mistyped."""
    try:
        check(raw, count)
    except MistypedMessage:
        return
    assert len(unpack(raw, count)) == count


@given(st.integers(0, 300), st.none() | st.integers(0, LARGEST), st.binary(max_size=12), st.binary(max_size=12))
def test_any_exceptions_unpack_or_are_refused(count: int, common: int | None, at: bytes, odd: bytes) -> None:
    """Exceptions either lie within the count of values or are mistyped."""
    column = Sparse(common, at, odd)
    try:
        check(column, count)
    except MistypedMessage:
        return
    assert len(unpack(column, count)) == count


@given(st.data(), st.integers(0, 60))
def test_a_part_of_a_column_is_read_alone(data: st.DataObject, count: int) -> None:
    """The values from any place to any other are those of the whole column; whether one is unknown is known as well."""
    values = data.draw(values_of(count))
    column = columns.pack(values)
    first, end = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    assert columns.unpack_some(column, count, first, end) == values[first:end]
    assert columns.has_unknown(column, count) == (None in values)
