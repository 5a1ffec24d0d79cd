"""The view's process: started with its password in a file, ended with the context, and reported when it dies."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path

import pytest

from vmpulse_simulator import view_process
from vmpulse_simulator.errors import ViewDied
from vmpulse_simulator.view_process import ViewProcess, write_secret

URL = "amqp://engine.view@127.0.0.1:1/"
# Stand-ins for the view: what the child is started as, with the view's own arguments after it.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
CURIOUS = """
import os
print(open(os.environ["VMPULSE_VIEW_BROKER_PASSWORD_FILE"]).read(), len(os.environ.get("VMPULSE_VIEW_NAME", "")))
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A script to be started instead of the view."""
    script = tmp_path / "stand_in.py"
    monkeypatch.setattr(view_process, "PROGRAM", (sys.executable, str(script)))
    return script


async def test_death_is_told_with_the_end_of_the_log(stand_in: Path, tmp_path: Path) -> None:
    """A view that ends by itself is an error that shows why."""
    stand_in.write_text("raise SystemExit('no broker')", encoding="utf-8")
    async with ViewProcess(URL, "secret", 1, tmp_path) as view:
        with pytest.raises(ViewDied, match=r"exit status 1(?s:.*)no broker"):
            await view.watch()


async def test_password_travels_in_a_file_that_goes_away(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child reads the password from a file; settings meant for other views do not reach it."""
    monkeypatch.setenv("VMPULSE_VIEW_NAME", "another")
    stand_in.write_text(CURIOUS, encoding="utf-8")
    async with ViewProcess(URL, "secret", 1, tmp_path) as view:
        with pytest.raises(ViewDied):
            await view.watch()
        assert view.last_lines() == "secret 0"
    assert not (tmp_path / "view.password").exists()


async def test_stubborn_view_is_killed_at_the_deadline(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that ignores SIGTERM does not outlive the context."""
    monkeypatch.setattr(view_process, "STOP_DEADLINE_S", 0.1)
    stand_in.write_text(STUBBORN, encoding="utf-8")
    async with ViewProcess(URL, "secret", 1, tmp_path) as view:
        watching = asyncio.create_task(view.watch())
        while view.last_lines() != "up":
            await asyncio.sleep(0.01)
    with pytest.raises(ViewDied, match="exit status -9"):
        await watching


def test_secret_is_its_owners_alone(tmp_path: Path) -> None:
    """A password file is readable by its owner only, even where an older one was not."""
    file = tmp_path / "secret"
    file.write_text("old", encoding="utf-8")
    write_secret(file, "new")
    assert file.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
