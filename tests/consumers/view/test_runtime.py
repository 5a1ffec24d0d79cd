"""Columns of frames in numpy say what the contract's own reader says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32, Runtime
from vmpulse_contract import columns, stream, wire

SMALL = st.one_of(st.none(), st.integers(0, 254))
LARGE = st.one_of(st.none(), st.integers(0, 2**32 - 2), st.integers(0, 20))
ROWS = st.lists(st.tuples(SMALL, LARGE, LARGE, SMALL, LARGE), max_size=300)


@given(rows=ROWS)
def test_a_stored_frame_reads_back_as_it_was_sent(rows: list[tuple[int | None, ...]]) -> None:
    """Each value arrives in its column and row, unknown ones as unknown, whatever width the column travelled in."""
    runtime = Runtime()
    runtime.allocate(5)
    block = runtime.allocate(len(rows))
    sent: list[tuple[int | None, ...]] = list(zip(*rows, strict=True)) or [()] * 5
    status, user, system, memory, ages = (columns.pack(values) for values in sent)
    frame = stream.Frame(1, 2, 3, 4, len(rows), 5, 6, status, user, system, memory, ages)
    frame = stream.read_frame(wire.write(frame))
    runtime.store(block, frame)
    stored = (runtime.status, runtime.cpu_user, runtime.cpu_sys, runtime.mem_usage, runtime.stats_age)
    unknowns = (UNKNOWN_8, UNKNOWN_32, UNKNOWN_32, UNKNOWN_8, UNKNOWN_32)
    for column, values, unknown in zip(stored, sent, unknowns, strict=True):
        part = np.asarray(column)[block.start : block.start + block.size].tolist()
        assert part == [unknown if value is None else value for value in values]


@st.composite
def a_column(draw: st.DrawFn, count: int) -> columns.Column:
    """Any column that the contract takes for so many values, be it as small as it could be or not."""
    forms: list[st.SearchStrategy[columns.Column]] = [st.none(), st.integers(0, columns.LARGEST)]
    if count >= 2:
        bits = [st.sampled_from([0, 1, 0x7F, 0xFE, 0xFF, 0xF0, 0x0F]), st.integers(0, 0xFF)]
        sizes = [(count + 1) // 2, count, 2 * count, 4 * count, 8 * count]
        packed = [st.lists(each, min_size=size, max_size=size).map(bytes) for size in sizes for each in bits]
        forms.append(st.one_of(packed))
    return draw(st.one_of(forms))


@st.composite
def a_sparse_column(draw: st.DrawFn, count: int) -> columns.Column:
    """A column with exceptions."""
    positions = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=20)))
    size = columns.position_bytes(count)
    common = draw(st.none() | st.integers(0, columns.LARGEST))
    exceptions = draw(a_column(len(positions)))
    assert not isinstance(exceptions, columns.Sparse)
    return columns.Sparse(common, b"".join(at.to_bytes(size, "little") for at in positions), exceptions)


@given(data=st.data(), count=st.integers(1, 40) | st.sampled_from([255, 256, 257, 300]))
def test_columns_say_what_the_contract_reads_in_them(data: st.DataObject, count: int) -> None:
    """Whatever form and width a column travels in, each value is what the contract reads, or unknown where larger."""
    runtime = Runtime()
    block = runtime.allocate(count)
    user, memory = (data.draw(a_column(count) | a_sparse_column(count)) for _ in range(2))
    frame = stream.read_frame(wire.write(stream.Frame(1, 2, 3, 4, count, 5, 6, 1, user, None, memory, 0)))
    runtime.store(block, frame)
    for stored, column, unknown in (
        (runtime.cpu_user, frame.cpu_user, UNKNOWN_32),
        (runtime.mem_usage, frame.mem_usage, UNKNOWN_8),
    ):
        said = columns.unpack(column, count)
        part = np.asarray(stored)[block.start : block.start + count].tolist()
        assert part == [unknown if value is None else min(value, unknown) for value in said]


def test_a_value_that_does_not_fit_is_unknown_and_not_another_value() -> None:
    """A column of more bits than we keep is cut to unknown, never wrapped."""
    runtime = Runtime()
    block = runtime.allocate(3)
    sent = columns.pack([1, 2**40, None])
    frame = stream.Frame(1, 2, 3, 4, 3, 5, 6, 1, sent, sent, columns.pack([1, 300, None]), 0)
    runtime.store(block, frame)
    assert runtime.cpu_user[block.start : block.start + 3].tolist() == [1, UNKNOWN_32, UNKNOWN_32]
    assert runtime.mem_usage[block.start : block.start + 3].tolist() == [1, UNKNOWN_8, UNKNOWN_8]


@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_blocks_never_overlap_and_begin_unknown(sizes: list[int]) -> None:
    """Hosts never share a row, also after blocks were given back and taken again."""
    runtime = Runtime()
    held = []
    for number, size in enumerate(sizes):
        block = runtime.allocate(size)
        assert (runtime.status[block.start : block.start + block.size] == UNKNOWN_8).all()
        runtime.status[block.start : block.start + block.size] = number % 200
        held.append((block, number % 200))
        if number % 3 == 2:
            released, _ = held.pop(0)
            runtime.release(released)
    for block, mark in held:
        assert (runtime.status[block.start : block.start + block.size] == mark).all()


def test_rows_that_stay_keep_their_values() -> None:
    """A new layout carries the values of the VMs that are still there."""
    runtime = Runtime()
    old, new = runtime.allocate(3), runtime.allocate(2)
    runtime.cpu_user[old.start : old.start + 3] = np.array([7, 8, 9])
    runtime.carry(old, new, [(2, 0)])
    assert runtime.cpu_user[new.start : new.start + 2].tolist() == [9, UNKNOWN_32]
