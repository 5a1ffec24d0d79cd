"""What the parts of a run of freshness are taken to say."""

from __future__ import annotations

import pytest

from benches.freshness.place import Records, Seen, mark, number_in, number_of
from benches.freshness.report import Report, report
from vmpulse_contract import sections, stream, wire
from vmpulse_contract.sections import Section, Status
from vmpulse_contract.values import SessionState

DELAYS_S = {"told": 0.001, "received": 0.003, "view": 0.004, "worker": 0.010, "sse": 0.05, "sse one host": 0.02}


def run_of(*, bare_s: float, lost: str = "") -> Records:
    """Three changes, each seen by everybody after a delay of its own, and as many bare messages."""
    moments = [10.0, 20.0, 30.0]
    seen = {name: [Seen(at, moment + delay) for at, moment in enumerate(moments)] for name, delay in DELAYS_S.items()}
    seen["change"] = seen["bare sent"] = [Seen(at, moment) for at, moment in enumerate(moments)]
    seen["bare"] = [Seen(at, moment + bare_s) for at, moment in enumerate(moments)]
    seen["polled each 3 s"] = [Seen(0, 11.5)]
    if lost:
        seen[lost] = seen[lost][1:]
    return seen


def read(seen: Records) -> Report:
    """Report of a run on a quiet machine."""
    return report(seen, hosts=2, vms=3, watched=1, load=0.1, cpu={})


def test_times_are_from_the_change_and_stages_add_up() -> None:
    """The stages are parts of the way, each from the end of the one before."""
    found = read(run_of(bare_s=0.002))
    assert (found.view_ms.p50, found.worker_ms.p99, found.sse_ms.max, found.bare_amqp_ms.p50) == (4.0, 10.0, 50.0, 2.0)
    assert {name: stage.p50 for name, stage in found.stages_ms.items()} == {
        "agent": 1.0,
        "carried": 2.0,
        "applied": 1.0,
        "told": 6.0,
    }
    assert (found.ratio_to_bare_amqp, found.worker_ratio_to_bare_amqp, found.goals_missed) == (2.0, 5.0, [])


def test_a_goal_that_is_missed_is_named() -> None:
    """Also when everything was measured."""
    found = read(run_of(bare_s=0.001))
    assert (found.goals_missed, found.measured) == (["ratio_to_bare_amqp 4.0 > 3.0"], True)


@pytest.mark.parametrize("reader", ["view", "worker", "sse", "bare"])
def test_a_change_that_a_reader_never_saw_spoils_the_run(reader: str) -> None:
    """A median over those that came would not tell."""
    found = read(run_of(bare_s=0.002, lost=reader))
    assert (found.unseen[reader], found.measured) == (1, False)


def test_what_a_peer_missed_between_two_polls_is_counted_and_spoils_nothing() -> None:
    """That is how polling is."""
    found = read(run_of(bare_s=0.002))
    assert (found.unseen["polled each 3 s"], found.polled_ms["polled each 3 s"].p50, found.measured) == (
        2,
        1500.0,
        True,
    )


def test_a_repeat_counts_when_it_came_first() -> None:
    """Events may come twice."""
    seen = run_of(bare_s=0.002)
    seen["worker"] += [Seen(0, 99.0)]
    assert read(seen).worker_ms.max == 10.0


def test_nothing_seen_is_an_error() -> None:
    """Not a time of 0."""
    with pytest.raises(ValueError, match="nothing was measured"):
        read(run_of(bare_s=0.002) | {"sse": []})


def test_a_change_is_known_by_its_user() -> None:
    """In the event's body as on the wire; another user's log-in is no change of ours."""

    def change(username: str) -> bytes:
        body = sections.encode(Status(username=username, session=SessionState.ACTIVE))
        told = sections.section_hash(Section.STATUS, body)
        return wire.write(stream.ChangeEvent(wire.VERSION, 7, 1, bytes(16), Section.STATUS, told, 0, body))

    assert (number_in(change(mark(42))), number_in(change("alice")), number_of(None)) == (42, None, None)
