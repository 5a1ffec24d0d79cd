"""What became of a fleet's connections, from the notes of its agents."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from vmpulse_agent.amqp_link import BACKOFF_FIRST_S, BACKOFF_MOST_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benches.connections.watched_link import Attempt

WINDOW_S: Final = 1.0
STAMPEDE: Final = 1.25
"""Handshakes beyond so many times what the jitter alone gives are a stampede: some clients come at once."""


class Spread(Struct, frozen=True):
    """Seconds of a fleet's hosts."""

    p50: float
    p99: float
    max: float


class Outage(NamedTuple):
    """Monotonic seconds: all were connected, the broker was killed, and answered again; the notes end."""

    held_from: float
    killed: float
    answers: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What the notes say.

    - ``lost_in_hold``: connections that ended before the broker was killed, though nobody touched it.
    - ``reconnect_s``: from the broker's first answer until a host can publish; 0 for one that was quicker than that.
    - ``rpc_back_s``: the same until the host's rpc queue is consumed again, so that it can be asked.
    - ``publish_gap_s``: from a host's last confirmed message before the kill to its first one after it.
    - ``handshakes_per_s_max``: attempts that the broker has let in, by when they began, in the fullest second.
    - ``attempts_failed``: those that began when the broker answered again and came to nothing.
    - ``jitter_per_s_max``: attempts in the fullest second, if nothing but the link's back-off and jitter spread them.
    - ``not_back``: hosts that had not come back when the notes end.
    """

    lost_in_hold: int
    reconnect_s: Spread
    rpc_back_s: Spread
    publish_gap_s: Spread
    handshakes_per_s_max: int
    attempts_failed: int
    jitter_per_s_max: int
    not_back: int

    @property
    def stampede(self) -> bool:
        """Whether more came at once than the jitter lets come."""
        return self.handshakes_per_s_max > STAMPEDE * self.jitter_per_s_max


def outcome(attempts: Iterable[Attempt], outage: Outage) -> Outcome:
    """Read the notes. Raises ValueError if there is nothing to measure."""
    hosts: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        hosts.setdefault(attempt.host, []).append(attempt)
    after = {host: [one for one in its if one.began > outage.killed] for host, its in hosts.items()}
    every = [one for its in hosts.values() for one in its]
    late = [one for its in after.values() for one in its]
    returns = [found for its in after.values() if (found := first(its, "answering")) is not None]
    return Outcome(
        lost_in_hold=sum(one.ended is not None and outage.held_from < one.ended < outage.killed for one in every),
        reconnect_s=spread(max(0.0, up - outage.answers) for its in after.values() if (up := first(its, "up"))),
        rpc_back_s=spread(max(0.0, back - outage.answers) for back in returns),
        publish_gap_s=spread(gaps(hosts, after, outage.killed)),
        handshakes_per_s_max=fullest(sorted(one.began for one in late if one.shaken is not None)),
        attempts_failed=sum(one.began > outage.answers and one.shaken is None for one in late),
        jitter_per_s_max=by_jitter(len(hosts), outage.answers - outage.killed),
        not_back=len(hosts) - len(returns),
    )


def first(attempts: Iterable[Attempt], moment: str) -> float | None:
    """When an attempt first came to that moment."""
    return min((at for one in attempts if (at := getattr(one, moment)) is not None), default=None)


def gaps(hosts: Mapping[str, list[Attempt]], after: Mapping[str, list[Attempt]], killed: float) -> Iterable[float]:
    """How long each host was not heard."""
    for host, attempts in hosts.items():
        before = [one.last_confirm for one in attempts if one.began < killed and one.last_confirm is not None]
        back = first(after[host], "first_confirm")
        if before and back is not None:
            yield back - max(before)


def spread(values: Iterable[float]) -> Spread:
    """Median, 99th percentile and greatest. Raises ValueError where there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return Spread(*(round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 3) for part in (0.5, 0.99, 1.0)))


def fullest(moments: Sequence[float]) -> int:
    """How many of some moments, in order, are in the fullest second."""
    return max((bisect_left(moments, at + WINDOW_S) - index for index, at in enumerate(moments)), default=0)


def by_jitter(hosts: int, away_s: float) -> int:
    """How many of the hosts, of a fleet that lost its broker together, would try in the fullest second of its return.

    By the link's own back-off and jitter alone: attempts take no time, and the first one after the return succeeds.
    """
    lots = random.Random(hosts)  # noqa: S311 - spreading, not secrecy
    return fullest(sorted(first_try(lots, away_s) for _ in range(hosts)))


def first_try(lots: random.Random, away_s: float) -> float:
    """When, in seconds after the loss, one host first tries after *away_s*."""
    at, backoff = 0.0, BACKOFF_FIRST_S
    while at < away_s:
        at += lots.uniform(backoff / 4, backoff)
        backoff = min(backoff * 2, BACKOFF_MOST_S)
    return at
