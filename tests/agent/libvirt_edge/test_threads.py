"""Lanes: deadlines are kept, stuck calls stay few, and nothing keeps the process alive."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from vmpulse_agent.errors import HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge.threads import Lane

SHORT = 0.05
LONG = 10.0
IMPOSSIBLE = 1 << 47
"""Bytes of a thread's stack, as many as a process has addresses."""


def threads_of(name: str) -> list[threading.Thread]:
    """The lane's threads that run."""
    return [thread for thread in threading.enumerate() if thread.name == f"libvirt-{name}"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; the test's own timeout bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


async def test_results_and_errors_come_back() -> None:
    """As if called directly."""
    lane = Lane("plain", 2)
    assert await lane.run("a", lambda: 7, LONG) == 7
    with pytest.raises(ZeroDivisionError):
        await lane.run("a", lambda: 1 // 0, LONG)
    lane.close()
    await until(lambda: not threads_of("plain"))


async def test_a_stuck_call_is_not_joined_by_another() -> None:
    """The deadline is kept; the same key is refused at once, others go on, and the thread comes back in the end."""
    lane, answer = Lane("stuck", 2), threading.Event()
    with pytest.raises(HypervisorTimeout, match="stuck vm: no answer within"):
        await lane.run("vm", answer.wait, SHORT)
    assert (lane.overdue, lane.free) == (1, True)
    with pytest.raises(HypervisorTimeout, match="previous call"):
        await lane.run("vm", answer.wait, LONG)
    assert await lane.run("other", lambda: 1, LONG) == 1
    assert len(threads_of("stuck")) == 2
    answer.set()
    await until(lambda: lane.overdue == 0)
    assert await lane.run("vm", lambda: 2, LONG) == 2
    lane.close()


async def test_threads_stay_bounded() -> None:
    """With all threads stuck a further call fails at once, and no thread is started."""
    lane, answer = Lane("full", 2), threading.Event()
    for key in range(2):
        with pytest.raises(HypervisorTimeout):
            await lane.run(key, answer.wait, SHORT)
    with pytest.raises(HypervisorTimeout, match="all of its 2 threads"):
        await lane.run("third", answer.wait, LONG)
    assert len(threads_of("full")) == 2
    answer.set()
    await until(lambda: lane.free and lane.overdue == 0)
    lane.close()


async def test_a_call_that_never_began_is_forgotten() -> None:
    """It waited for a thread until its deadline: nobody runs it later."""
    lane, answer, ran = Lane("queue", 1), threading.Event(), []
    slow = asyncio.create_task(lane.run("slow", answer.wait, LONG))
    await asyncio.sleep(0)
    with pytest.raises(HypervisorTimeout):
        await lane.run("late", lambda: ran.append(1), SHORT)
    answer.set()
    assert await slow
    assert await lane.run("late", lambda: 3, LONG) == 3
    assert ran == []
    lane.close()


async def test_a_late_result_is_let_go() -> None:
    """What has to be closed is handed to ``discard``."""
    lane, answer, late = Lane("late", 1), threading.Event(), list[bool]()
    with pytest.raises(HypervisorTimeout):
        await lane.run("open", answer.wait, SHORT, discard=late.append)
    answer.set()
    await until(lambda: late == [True])
    lane.close()


async def test_close_refuses_what_waits() -> None:
    """Nobody waits for ever for a lane that is closed."""
    lane, begun, answer = Lane("closing", 1), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return answer.wait()

    slow = asyncio.create_task(lane.run("slow", work, LONG))
    waiting = asyncio.create_task(lane.run("waiting", answer.wait, LONG))
    await until(begun.is_set)
    lane.close()
    with pytest.raises(HypervisorUnavailable):
        await waiting
    answer.set()
    assert await slow
    await until(lambda: not threads_of("closing"))


async def test_a_thread_that_cannot_be_started() -> None:
    """The call fails at once and nothing of it stays: with memory for threads again the lane is as wide as ever."""
    lane, answer = Lane("poor", 1), threading.Event()
    usual = threading.stack_size(IMPOSSIBLE)
    try:
        for _ in range(2):
            with pytest.raises(HypervisorTimeout, match="poor: no thread can be started"):
                await lane.run("vm", answer.wait, LONG)
    finally:
        threading.stack_size(usual)
    assert (lane.overdue, lane.busy("vm")) == (0, False)
    answer.set()
    assert await lane.run("vm", answer.wait, LONG)
    lane.close()
    await until(lambda: not threads_of("poor"))


def test_a_stuck_thread_does_not_keep_the_process() -> None:
    """The interpreter ends although a call never returns."""
    program = """
import asyncio, threading
from vmpulse_agent.errors import HypervisorTimeout
from vmpulse_agent.libvirt_edge.threads import Lane

async def main():
    try:
        await Lane("x", 1).run("x", threading.Event().wait, 0.05)
    except HypervisorTimeout:
        print("late")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout == "late\n"
