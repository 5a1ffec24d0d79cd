"""Replies that nobody waits for: how many are late answers, and from when on they are a flood."""

from __future__ import annotations

from vmpulse_consumers.unasked import LATE_BURST, LATE_S, MUTED_S, Unasked


def floods(unasked: Unasked, host: str, replies: int, now: float) -> int:
    """How often so many replies at once are said to be a flood."""
    return sum(unasked.came(host, now) for _ in range(replies))


def test_late_answers_are_no_flood() -> None:
    """As many as a host may have been asked for at once, and from then on more than it is asked a second, are late."""
    unasked = Unasked()
    assert floods(unasked, "h001", int(LATE_BURST), 0.0) == 0
    assert not any(unasked.came("h001", number / LATE_S) for number in range(1, 1000))
    assert not unasked.muted("h001", 100.0)


def test_a_flood_is_told_once_and_mutes_its_host_alone() -> None:
    """However long it goes on: another address for each reply would be what a flood wants."""
    unasked = Unasked()
    assert floods(unasked, "h001", 10_000, 0.0) == 1
    assert floods(unasked, "h001", 10_000, MUTED_S - 1) == 0
    assert unasked.muted("h001", MUTED_S - 1)
    assert not unasked.muted("h002", 0.0)


def test_a_host_is_asked_again_and_a_second_flood_is_one() -> None:
    """After a while it may have been mended; if not, it costs one new address more."""
    unasked = Unasked()
    floods(unasked, "h001", 10_000, 0.0)
    assert not unasked.muted("h001", MUTED_S)
    assert floods(unasked, "h001", 10_000, MUTED_S) == 1
    assert unasked.muted("h001", MUTED_S + 1)


def test_who_is_not_known_mutes_nobody() -> None:
    """A flood without a sender makes the address another, once a minute, and every host is asked on."""
    unasked = Unasked()
    assert sum(unasked.came(None, 0.0) for _ in range(10_000)) == 1
    assert not unasked.muted("h001", 0.0)
    assert sum(unasked.came(None, MUTED_S) for _ in range(10_000)) == 1
