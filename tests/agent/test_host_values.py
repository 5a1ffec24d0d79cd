"""The host's own statistics in rosters and frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.situations import A, started, up
from vmpulse_agent.host_values import host_values
from vmpulse_contract import wire
from vmpulse_contract.stream import Frame, HostValues, Roster
from vmpulse_contract.verbs import HostStats

STATS = HostStats(
    cpu_user=25.04,
    cpu_sys=99.96,
    cpu_load=3.214,
    cpu_count=16,
    mem_total=65_536,
    mem_used=16_384,
    swap_total=8,
    swap_free=3,
)


def test_a_frame_says_how_busy_the_host_is() -> None:
    """A frame carries the last values read in its units; nothing more is sent for them, and none when not known."""
    session, receiver = started(up(A))
    session.host_sampled(STATS, 11.0)
    receiver.hear(session.drain())
    session.host_sampled(STATS, 12.0)
    assert not session.drain()
    session.tick(13.0)
    (frame,) = receiver.hear(session.drain())
    assert isinstance(frame, Frame)
    assert frame.host_stats == HostValues(cpu_user=250, cpu_sys=1000, cpu_load=321, mem_used=16_384, swap_used=5)
    session.host_sampled(None, 14.0)
    session.tick(16.0)
    (frame,) = receiver.hear(session.drain())
    assert isinstance(frame, Frame)
    assert frame.host_stats is None


def test_a_roster_says_how_big_the_host_is() -> None:
    """A size that has changed is said by a roster at once; one that was not read this time stays."""
    session, receiver = started(up(A))
    session.host_sampled(STATS, 11.0)
    session.host_sampled(HostStats(mem_total=131_072), 12.0)
    rosters = [message for message in receiver.hear(session.drain()) if isinstance(message, Roster)]
    assert [(roster.facts.cpu_count, roster.facts.mem_total, roster.facts.swap_total) for roster in rosters] == [
        (16, 65_536, 8),
        (16, 131_072, 8),
    ]


@given(st.floats(0, 1e9) | st.none(), st.integers(0, 1 << 40) | st.none(), st.integers(0, 1 << 40) | st.none())
def test_whatever_is_read_can_be_sent(number: float | None, total: int | None, free: int | None) -> None:
    """No reading of the host makes values that a reader of frames would refuse."""
    values = host_values(
        HostStats(cpu_user=number, cpu_sys=number, cpu_load=number, mem_used=total, swap_total=total, swap_free=free)
    )
    assert wire.read(wire.write(values), HostValues) == values


@pytest.mark.parametrize("stats", [HostStats(), HostStats(swap_total=5), HostStats(swap_free=5)])
def test_what_is_not_known_is_nil(stats: HostStats) -> None:
    """A value that its source does not give is None, also where only half of it is there."""
    assert host_values(stats) == HostValues()
