"""A bad host costs a few lines of the log, and hides nobody else's."""

from __future__ import annotations

from vmpulse_consumers.rejections import LINE_S, LINES, SENDERS_KEPT, Rejections


def test_the_first_lines_of_each_sender_are_told() -> None:
    """A flood of one host is told of a few times, and the next host's first message is told at once."""
    rejections = Rejections()
    told = [rejections.untold("host-0", 0.0) for _ in range(1000)]
    assert told == [0] * int(LINES) + [None] * (1000 - int(LINES))
    assert rejections.untold("host-1", 0.0) == 0
    assert rejections.untold(None, 0.0) == 0


def test_what_was_left_is_counted_in_the_next_line() -> None:
    """A line each LINE_S says how many there were in between."""
    rejections = Rejections()
    for _ in range(1000):
        rejections.untold("host-0", 0.0)
    assert rejections.untold("host-0", LINE_S) == 1000 - int(LINES)
    assert rejections.untold("host-0", LINE_S) is None
    assert rejections.untold("host-0", 2 * LINE_S) == 1


def test_made_up_senders_take_no_memory() -> None:
    """So many are kept, and no more."""
    rejections = Rejections()
    for number in range(SENDERS_KEPT + 10):
        rejections.untold(f"made-up-{number}", 0.0)
    assert len(rejections) == SENDERS_KEPT
