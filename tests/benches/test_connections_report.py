"""What the notes of agents are taken to say."""

from __future__ import annotations

from benches.connections import report
from benches.connections.report import Outage, Outcome, by_jitter, fullest
from benches.connections.watched_link import Attempt, Notes
from vmpulse_agent.backoff import MOST_S, SPREAD_S

OUTAGE = Outage(held_from=100.0, lost=200.0, answers=210.0)


def held(host: str, *, ended: float = 200.0) -> Attempt:
    """A connection from before the outage, which confirmed something last at 198."""
    return Attempt(
        host=host, began=10.0, shaken=10.1, up=10.2, answering=10.3, first_confirm=10.4, last_confirm=198.0, ended=ended
    )


def back(host: str, began: float) -> Attempt:
    """A connection from after it, up half a second after the attempt began."""
    return Attempt(
        host=host, began=began, shaken=began + 0.1, up=began + 0.5, answering=began + 0.7, first_confirm=began + 1.0
    )


def outcome(attempts: list[Attempt], outage: Outage, *lags: tuple[float, float]) -> Outcome:
    """What these notes say of an outage."""
    return report.outcome(Notes(attempts, list(lags)), outage)


def test_a_return_is_counted_from_the_brokers_first_answer() -> None:
    """And the gap from what was confirmed last before the kill; attempts at a dead broker count for nothing."""
    refused = Attempt(host="a", began=204.0, ended=204.1)
    found = outcome([held("a"), refused, back("a", 213.0)], OUTAGE)
    assert (found.reconnect_s.max, found.rpc_back_s.max, found.publish_gap_s.max) == (3.5, 3.7, 16.0)
    assert (found.lost_in_hold, found.attempts_failed, found.handshakes_per_s_max, found.not_back) == (0, 0, 1, 0)


def test_one_that_lost_its_connection_later_counts_from_there() -> None:
    """Where the broker stays and closes one connection after the other."""
    found = outcome([held("a", ended=212.0), back("a", 213.0)], OUTAGE)
    assert (found.reconnect_s.max, found.handshakes_by_second) == (1.5, [0] * 13 + [1])


def test_the_next_outage_is_another_matter() -> None:
    """Who comes back only after it did not come back from this one."""
    attempts = [held("a"), held("b"), back("a", 211.0), back("b", 320.0)]
    assert outcome(attempts, OUTAGE._replace(until=300.0)).not_back == 1


def test_what_ends_in_peace_is_lost() -> None:
    """A connection that ended while nothing was touched counts; one that ended before, or by the kill, does not."""
    early, lost = held("a", ended=50.0), held("b", ended=150.0)
    found = outcome([early, held("a"), lost, held("b"), back("a", 211.0), back("b", 211.0)], OUTAGE)
    assert found.lost_in_hold == 1


def test_how_late_the_agents_were_is_told_of_the_outage_alone() -> None:
    """By the worst moment of any process."""
    found = outcome([held("a"), back("a", 211.0)], OUTAGE, (150.0, 9.0), (211.0, 0.1), (212.0, 1.5))
    assert found.agents_late_s == 1.5


def test_who_does_not_come_back_is_told() -> None:
    """Also who could publish but had no rpc queue."""
    half = Attempt(host="b", began=212.0, shaken=212.1, up=212.2)
    failed = Attempt(host="c", began=211.0, ended=221.0)
    found = outcome([held("a"), held("b"), held("c"), back("a", 211.0), half, failed], OUTAGE)
    assert (found.not_back, found.attempts_failed) == (2, 1)


def test_all_at_once_is_a_stampede() -> None:
    """A fleet that comes back within one second is not what the jitter gives."""
    hosts = [f"h{number}" for number in range(100)]
    at_once = [attempt for host in hosts for attempt in (held(host), back(host, 210.5))]
    spread_out = [attempt for at, host in enumerate(hosts) for attempt in (held(host), back(host, 210.0 + at / 10))]
    assert outcome(at_once, OUTAGE).stampede
    assert not outcome(spread_out, OUTAGE).stampede


def test_the_jitter_spreads_a_fleet_over_its_back_off() -> None:
    """After a long outage the mean wait is five eighths of the longest back-off, and so the rate is its inverse."""
    mean_per_s = 10_000 / (MOST_S * 5 / 8)
    assert mean_per_s < by_jitter(10_000, 600.0) < 1.3 * mean_per_s


def test_a_fleet_that_loses_connections_and_no_broker_comes_back_over_its_first_pause() -> None:
    """All alike over SPREAD_S: 2,500 hosts are some 700 a second."""
    evenly = 2500 / SPREAD_S
    assert evenly < by_jitter(2500, 0.0) < 1.15 * evenly


def test_the_fullest_second_begins_anywhere() -> None:
    """Not only at whole seconds."""
    assert fullest([0.0, 0.9, 1.5, 1.8, 2.49]) == 3
    assert fullest([]) == 0
