"""The log of events: bounded, numbered, and read by cursors that never miss anything unawares."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.events.log import (
    ALLOWED_TOKEN,
    OVERHEAD_BYTES,
    TOO_OLD,
    UNKNOWN_INSTANCE,
    Entry,
    EventLog,
    FellBehind,
    Position,
)
from vmpulse_contract.fleet import EventType

INSTANCE = "ab12"


def entry(text: bytes) -> Entry:
    """An event with that text."""
    return Entry(EventType.VM_STATUS, (), None, text)


def filled(count: int, events: int = 100) -> EventLog:
    """A log into which *count* events were put, whose texts are their numbers."""
    log = EventLog(INSTANCE, events=events)
    for number in range(1, count + 1):
        log.append(entry(b"%d" % number))
    return log


def texts(entries: list[Entry]) -> list[bytes]:
    """What events say."""
    return [each.text for each in entries]


steps = st.lists(st.binary(max_size=60) | st.tuples(st.integers(1, 4), st.integers(1, 200)), max_size=80)
"""Texts to append, and reads of so many events and bytes."""


@given(steps, st.integers(1, 8), st.integers(OVERHEAD_BYTES, 4 * OVERHEAD_BYTES))
def test_a_cursor_sees_everything_in_order_or_is_told(
    steps: list[bytes | tuple[int, int]], events: int, size: int
) -> None:
    """Of all that was ever put in, a cursor gets a run without gap or repeat, or FellBehind; and the bounds hold."""
    log, all_texts, after = EventLog(INSTANCE, events=events, size=size), [b""], 0
    for step in steps:
        if isinstance(step, bytes):
            log.append(entry(step))
            all_texts.append(step)
        elif after + 1 < log.first:
            with pytest.raises(FellBehind) as behind:
                log.read(after, events=step[0], size=step[1])
            after = behind.value.first - 1
            assert after + 1 == log.first
        else:
            got = log.read(after, events=step[0], size=step[1])
            assert texts(got) == all_texts[after + 1 : after + 1 + len(got)]
            assert (got == []) == (after == log.last)
            after += len(got)
        kept = log.last - log.first + 1
        assert log.last == len(all_texts) - 1
        assert kept <= events
        assert log.size == sum(len(text) + OVERHEAD_BYTES for text in all_texts[log.first :])
        assert log.size <= size or kept == 1


@given(last=st.integers(0, 30), number=st.integers(0, 30), events=st.integers(1, 10), ours=st.booleans())
def test_a_token_resumes_exactly_or_says_why_not(last: int, number: int, events: int, *, ours: bool) -> None:
    """A token leads to the event after it; one of another start, or of what is not kept, to now, with the reason."""
    log = filled(last, events)
    position = log.find(f"{INSTANCE if ours else 'cd34'}-{number}")
    if not ours or number > last:
        assert position == Position(last, UNKNOWN_INSTANCE)
    elif number + 1 < log.first:
        assert position == Position(last, TOO_OLD)
    else:
        assert position == Position(number)
        assert texts(log.read(position.after, events=100, size=10_000)) == [
            b"%d" % each for each in range(number + 1, last + 1)
        ]


@given(st.text())
def test_any_text_is_a_token_or_a_clear_error(text: str) -> None:
    """Whatever is given as a token, it is one or ValueError says what is."""
    try:
        position = filled(3).find(text)
    except ValueError as error:
        assert str(error) == ALLOWED_TOKEN  # noqa: PT017 - what is claimed of each that fails
    else:
        assert re.fullmatch("[0-9a-f]+-[0-9]+(-relist)?", text)
        assert position.after <= 3


def test_without_a_token_it_goes_on_from_now() -> None:
    """No token means the newest event, and the token of a relist resumes like the one within it."""
    log = filled(7)
    assert log.find(None) == Position(7)
    assert log.find(log.relist_id(5)) == log.find(log.token(5)) == Position(5)


def test_reading_is_bounded_by_count_and_bytes() -> None:
    """A read ends at the count asked for, or with the event that reaches the bytes asked for."""
    log = filled(9)
    assert texts(log.read(2, events=3, size=100)) == [b"3", b"4", b"5"]
    assert texts(log.read(2, events=9, size=2)) == [b"3", b"4"]


def test_a_large_event_is_kept_alone() -> None:
    """An event beyond all bounds is kept until the next one comes: the newest is always there."""
    log = EventLog(INSTANCE, size=1000)
    log.append(entry(b"small"))
    log.append(entry(b"x" * 5000))
    assert (log.first, log.last) == (2, 2)
    log.append(entry(b"small"))
    assert (log.first, log.last) == (3, 3)
    with pytest.raises(FellBehind):
        log.read(1, events=1, size=1)
