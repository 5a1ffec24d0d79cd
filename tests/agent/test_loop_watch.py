"""The measure of how long the event loop is blocked, on a real loop."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from vmpulse_agent import loop_watch
from vmpulse_agent.loop_watch import watched_loop
from vmpulse_agent.measures import LoopMeasure

BLOCK_S = 0.12


def measured(*callbacks: str) -> LoopMeasure:
    """A loop that ran these, a round apart, and then an idle while."""

    async def main() -> None:
        for name in callbacks:
            {"sleep": lambda: time.sleep(BLOCK_S), "compute": compute}[name]()
            await asyncio.sleep(0)
        await asyncio.sleep(BLOCK_S)

    measure = LoopMeasure()
    with asyncio.Runner(loop_factory=lambda: watched_loop(measure)) as runner:
        runner.run(main())
    return measure


def compute() -> None:
    """Use as much of a CPU."""
    end = time.thread_time() + BLOCK_S
    while time.thread_time() < end:
        pass


def over_50_ms(measure: LoopMeasure) -> int:
    """How many rounds were too long."""
    return sum(measure.blocked.counts[measure.blocked.bounds.index(0.05) + 1 :])


@pytest.mark.parametrize("kind", ["sleep", "compute"])
def test_what_blocks_the_loop_is_counted(kind: str) -> None:
    """A callback that computes or sleeps for 120 ms is a round of that length; waiting for timers is none."""
    measure = measured(kind)
    assert over_50_ms(measure) == 1
    assert measure.blocked_most_s >= BLOCK_S * 0.9
    assert over_50_ms(measured()) == 0


def test_waiting_for_a_cpu_is_not_blocking() -> None:
    """On a machine with more to compute than CPUs the loop is starved, and blocks no longer than it computes."""
    crowd = []
    for _ in range(3 * (os.cpu_count() or 1)):
        pid = os.fork()
        if not pid:
            end = time.monotonic() + 5
            while time.monotonic() < end:
                pass
            os._exit(0)
        crowd.append(pid)
    try:
        measure = measured("compute")
    finally:
        for pid in crowd:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    assert measure.starved_most_s > BLOCK_S / 2
    assert measure.blocked_most_s < BLOCK_S * 1.5


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernel's account all of a round counts as the agent's own."""
    monkeypatch.setattr(loop_watch, "_SCHEDSTAT", "/proc/nothing")
    measure = measured("sleep")
    assert over_50_ms(measure) == 1
    assert measure.starved_s == 0
