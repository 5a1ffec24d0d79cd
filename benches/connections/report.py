"""What became of a fleet's connections, from the notes of its agents."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from benches.spread import Spread, spread
from vmpulse_agent.backoff import MOST_S, Backoff

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benches.connections.watched_link import Attempt, Notes

WINDOW_S: Final = 1.0
LASTED_S: Final = MOST_S + 1
"""The connections that a bench ends have lasted."""
STAMPEDE: Final = 1.25
"""Handshakes beyond so many times what the jitter alone gives are a stampede: some clients come at once."""


class Outage(NamedTuple):
    """Monotonic seconds: all were connected; they lost the broker; it answered again; the next outage began."""

    held_from: float
    lost: float
    answers: float
    until: float = inf


class Outcome(Struct, frozen=True, kw_only=True):
    """What the notes say.

    - ``lost_in_hold``: connections that ended before the outage, though nobody touched the broker.
    - ``reconnect_s``: from the broker's first answer, or the end of its own connection if that came later, until a
      host can publish; 0 for one that was quicker than that.
    - ``rpc_back_s``: the same until the host's rpc queue is consumed again, so that it can be asked.
    - ``publish_gap_s``: from a host's last confirmed message before the outage to its first one after it.
    - ``handshakes_per_s_max``: attempts that the broker has let in, by when they began, in the fullest second.
    - ``handshakes_by_second``: the same for each second from the loss on.
    - ``attempts_failed``: those that began when the broker answered again and came to nothing.
    - ``jitter_per_s_max``: attempts in the fullest second, if nothing but the link's back-off and jitter spread them.
    - ``agents_late_s``: by how much the loop of an agents' process was late at worst. Agents on hosts of their own
      share no loop: what comes at once because it was late comes so by the bench, and by nothing else.
    - ``not_back``: hosts that had not come back when the next outage began, or the notes end.
    """

    lost_in_hold: int
    reconnect_s: Spread
    rpc_back_s: Spread
    publish_gap_s: Spread
    handshakes_per_s_max: int
    handshakes_by_second: list[int]
    attempts_failed: int
    jitter_per_s_max: int
    agents_late_s: float
    not_back: int

    @property
    def stampede(self) -> bool:
        """Whether more came at once than the jitter lets come."""
        return self.handshakes_per_s_max > STAMPEDE * self.jitter_per_s_max


def outcome(notes: Notes, outage: Outage) -> Outcome:
    """Read the notes. Raises ValueError if there is nothing to measure."""
    hosts: dict[str, list[Attempt]] = {}
    for attempt in notes.attempts:
        hosts.setdefault(attempt.host, []).append(attempt)
    ways = [way_back(its, outage) for its in hosts.values()]
    late = [one for way in ways for one in way.after]
    let_in = sorted(one.began for one in late if one.shaken is not None)
    every = (one for its in hosts.values() for one in its)
    return Outcome(
        lost_in_hold=sum(one.ended is not None and outage.held_from < one.ended < outage.lost for one in every),
        reconnect_s=spread_of(way.took("up") for way in ways),
        rpc_back_s=spread_of(way.took("answering") for way in ways),
        publish_gap_s=spread_of(way.gap() for way in ways),
        handshakes_per_s_max=fullest(let_in),
        handshakes_by_second=by_second(let_in, outage.lost),
        attempts_failed=sum(one.began > outage.answers and one.shaken is None for one in late),
        jitter_per_s_max=by_jitter(len(hosts), outage.answers - outage.lost),
        agents_late_s=round(max((lag for at, lag in notes.lags if outage.lost < at < outage.until), default=0.0), 2),
        not_back=sum(way.took("answering") is None for way in ways),
    )


class WayBack(NamedTuple):
    """One host's attempts after an outage, what it was heard last before, and from when on it could come back."""

    after: list[Attempt]
    heard: float | None
    possible: float

    def took(self, moment: str) -> float | None:
        """How long it took to come to that moment; None: it did not."""
        at = first(self.after, moment)
        return None if at is None else max(0.0, at - self.possible)

    def gap(self) -> float | None:
        """How long the host was not heard; None: it was not heard before, or not after."""
        back = first(self.after, "first_confirm")
        return None if back is None or self.heard is None else back - self.heard


def way_back(attempts: Sequence[Attempt], outage: Outage) -> WayBack:
    """Follow one host through an outage."""
    before = [one for one in attempts if one.began <= outage.lost]
    heard = max((one.last_confirm for one in before if one.last_confirm is not None), default=None)
    parted = max((one.ended for one in before if one.ended is not None), default=outage.lost)
    after = [one for one in attempts if outage.lost < one.began < outage.until]
    return WayBack(after, heard, max(outage.answers, parted))


def first(attempts: Iterable[Attempt], moment: str) -> float | None:
    """When an attempt first came to that moment."""
    return min((at for one in attempts if (at := getattr(one, moment)) is not None), default=None)


def spread_of(seconds: Iterable[float | None]) -> Spread:
    """Of those that there are. Raises ValueError where there are none."""
    return spread((one for one in seconds if one is not None), digits=3)


def fullest(moments: Sequence[float]) -> int:
    """How many of some moments, in order, are in the fullest second."""
    return max((bisect_left(moments, at + WINDOW_S) - index for index, at in enumerate(moments)), default=0)


def by_second(moments: Sequence[float], since: float) -> list[int]:
    """How many of some moments are in each second from *since* to the last of them."""
    counts = Counter(int(at - since) for at in moments)
    return [counts[second] for second in range(max(counts, default=-1) + 1)]


def by_jitter(hosts: int, away_s: float) -> int:
    """How many of the hosts, of a fleet that lost its broker together, would try in the fullest second of its return.

    By the link's own back-off and jitter alone: attempts take no time, and the first one after the return succeeds.
    """
    lots = random.Random(hosts)  # noqa: S311 - spreading, not secrecy
    return fullest(sorted(first_try(lots, away_s) for _ in range(hosts)))


def first_try(lots: random.Random, away_s: float) -> float:
    """When, in seconds after the loss, one host first tries after *away_s*."""
    backoff = Backoff(lots)
    at = backoff.pause_s(LASTED_S)
    while at < away_s:
        at += backoff.pause_s(0.0)
    return at
