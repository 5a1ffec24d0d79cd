"""A child process: killed, paused and started again, and told from one that ended by itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.waiting import eventually
from vmpulse_simulator.child_process import ChildProcess

COUNTING = "import itertools, time\nfor n in itertools.count():\n    print(n, flush=True)\n    time.sleep(0.01)"


def child(folder: Path, program: str) -> ChildProcess:
    """A Python program as a child."""
    return ChildProcess((sys.executable, "-c", program), folder / "child.log", os.environ)


async def test_a_killed_child_can_be_started_again(tmp_path: Path) -> None:
    """Kill leaves no process; the next start is another one, whose output follows that of the first in the log."""
    program = child(tmp_path, "import time; print('up', flush=True); time.sleep(60)")
    await program.start()
    pids = [program.pid]
    await eventually(lambda: program.last_lines() == "up")
    await program.kill()
    pids.append(program.pid)
    await program.start()
    pids.append(program.pid)
    assert None not in {pids[0], pids[2]}
    assert pids[1] is None
    assert pids[0] != pids[2]
    await eventually(lambda: program.last_lines() == "up\nup")
    await program.end()
    assert (program.pid, program.died) == (None, None)


async def test_a_paused_child_does_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    """Paused, it says nothing more; resumed, it goes on; and one that is paused can be ended."""
    program = child(tmp_path, COUNTING)
    await program.start()
    await eventually(program.last_lines)
    program.pause()
    state = Path(f"/proc/{program.pid}/stat")
    await eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    said = program.log.stat().st_size
    await asyncio.sleep(0.05)  # several of its lines
    assert program.log.stat().st_size == said
    program.resume()
    await eventually(lambda: program.log.stat().st_size > said)
    program.pause()
    await asyncio.wait_for(program.end(), 5)
    assert program.pid is None


async def test_a_child_that_ends_by_itself_has_died(tmp_path: Path) -> None:
    """Its exit status tells, until it is started again."""
    program = child(tmp_path, "raise SystemExit(3)")
    assert await program.wait() == 0
    await program.start()
    assert await program.wait() == 3
    assert program.died == 3
    await program.kill()
    assert program.died is None
