"""The keeper: written behind, restored, and a view that goes on whatever becomes of its file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.conftest import require
from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import HOST
from tests.waiting import eventually
from vmpulse_consumers.errors import StoreInUse, StoreUnusable
from vmpulse_consumers.store import Keeper, keeper
from vmpulse_consumers.store.file import StoreFile
from vmpulse_consumers.view import Host, View, memory

ROOM_KIB = 256


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for less."""
    monkeypatch.setattr(keeper, "BEHIND_S", 0.02)
    monkeypatch.setattr(keeper, "RETRY_S", 0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room. Needs root."""
    require("mounting a small file system takes root" if os.geteuid() else None)
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_KIB}k", "small", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.asynccontextmanager
async def kept(view: View, path: Path) -> AsyncIterator[Keeper]:
    """A view whose memory is kept in a file while the block runs."""
    at_work = Keeper(path)
    await at_work.restore(view, lambda: 1000.0)
    task = asyncio.create_task(at_work.run(view))
    try:
        yield at_work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def busy_table() -> Table:
    """A table whose view has met two hosts and marks what it has learnt."""
    table = Table(2)
    table.view.memory.keeping = True
    table.settle()
    table.step()
    table.step()
    return table


async def test_what_is_marked_is_written_behind_and_restored(tmp_path: Path) -> None:
    """Within moments nothing is marked any more, and the next view begins with all of it."""
    table = busy_table()
    async with kept(table.view, tmp_path / "view.db") as at_work:
        await eventually(lambda: not table.view.memory)
        assert at_work.batches
    table.view = View(table.now)
    async with kept(table.view, tmp_path / "view.db"):
        assert {str(host) for host in table.view.hosts} == {"host-0", "host-1"}
        assert table.row(1).status == "Up"


async def test_a_stop_writes_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened within the last second is not lost by a clean stop."""
    monkeypatch.setattr(keeper, "BEHIND_S", 3600.0)
    table = busy_table()
    async with kept(table.view, tmp_path / "view.db"):
        await eventually(lambda: not table.view.memory)
        table.host.stop_vm(vm_number(1), table.now)
        table.step()
        assert table.view.memory
    table.view = View(table.now)
    async with kept(table.view, tmp_path / "view.db"):
        assert table.row(1).status == "Down"


async def test_the_next_view_may_open_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view has ended when its file is closed, also where closing takes a moment."""
    close = StoreFile.close

    def slowly(file: StoreFile) -> None:
        time.sleep(0.1)
        close(file)

    monkeypatch.setattr(StoreFile, "close", slowly)
    for _ in range(3):
        async with kept(View(1000.0), tmp_path / "view.db"):
            await asyncio.sleep(0)  # it is at work


async def test_a_full_disk_degrades_and_recovers(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The view goes on and says that it is degraded; with room again everything is written, and that is said too."""
    caplog.set_level(logging.INFO, "vmpulse_consumers.store")
    table = busy_table()
    async with kept(table.view, small_disk / "view.db") as at_work:
        await eventually(lambda: not table.view.memory)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        table.host.domains[vm_number(1)].apps = ("x" * 200,)
        table.step()
        table.step()
        await eventually(lambda: table.view.degraded != "", what="degraded")
        assert "the disk is full; make room" in table.view.degraded
        assert at_work.failures
        table.step()
        table.step()
        assert table.row(1).freshness == "fresh"
        filler.unlink()
        await eventually(lambda: not table.view.degraded and not table.view.memory, what="recovered")
    assert [record.levelname for record in caplog.records if "degraded" in record.message] == ["ERROR"]
    assert "is written again" in caplog.text
    before = table.row(1)
    table.view = View(table.now)
    async with kept(table.view, small_disk / "view.db"):
        assert table.row(1).sections == before.sections


async def test_without_room_for_a_file_the_view_begins_degraded(small_disk: Path) -> None:
    """A disk that is full at the start keeps no view from starting; the file is made when there is room."""
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    table = busy_table()
    async with kept(table.view, small_disk / "view.db"):
        assert "the disk is full" in table.view.degraded
        filler.unlink()
        await eventually(lambda: not table.view.degraded and not table.view.memory)


async def test_a_view_with_nothing_to_write_stays_degraded(small_disk: Path) -> None:
    """As long as nothing was written nobody knows that it would work."""
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    view = View(0.0)
    async with kept(view, small_disk / "view.db") as at_work:
        await at_work._write(view)
        assert "the disk is full" in view.degraded


async def test_a_fault_of_ours_in_one_record_costs_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its cause; the other host of the batch is written, and so is what was forgotten."""
    table = busy_table()
    right = memory.remembered

    def remembered(host: Host, vms: Any, runtime: Any) -> Any:
        return _fails() if host.id == HOST else right(host, vms, runtime)

    async with kept(table.view, tmp_path / "view.db"):
        with monkeypatch.context() as patched:
            patched.setattr(memory, "remembered", remembered)
            await eventually(lambda: not table.view.memory)
    assert "a fault of ours" in caplog.text
    assert f"host {HOST} cannot be put together" in caplog.text
    table.view = View(table.now)
    async with kept(table.view, tmp_path / "view.db"):
        assert {str(host) for host in table.view.hosts} == {"host-1"}


async def test_a_fault_of_ours_in_writing_degrades_and_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The view goes on and says so; what was to be written, and to be deleted, is so once it works again."""
    monkeypatch.setattr(keeper, "RETRY_S", 0.05)
    table = busy_table()
    async with kept(table.view, tmp_path / "view.db") as at_work:
        await eventually(lambda: not table.view.memory)
        with monkeypatch.context() as patched:
            patched.setattr(at_work._file, "write", _fails)
            table.dead.add(HOST)
            for _ in range(8):
                table.step()
            table.view.forget(HOST, table.now)
            await eventually(lambda: table.view.degraded != "", what="degraded")
            assert "ValueError: a fault of ours" in table.view.degraded
        await eventually(lambda: not table.view.degraded and not table.view.memory, what="recovered")
    assert "Traceback" in caplog.text
    table.view = View(table.now)
    async with kept(table.view, tmp_path / "view.db"):
        assert {str(host) for host in table.view.hosts} == {"host-1"}


def _fails(*_: object) -> NoReturn:
    raise ValueError("a fault of ours")


async def test_a_damaged_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The view begins without memory, the log says where the file is, and a new one is kept."""
    path = tmp_path / "view.db"
    path.write_bytes(b"no store" * 1000)
    table = busy_table()
    async with kept(table.view, path):
        await eventually(lambda: not table.view.memory)
    assert (tmp_path / "view.db.broken-1").exists()
    assert "was moved to" in caplog.text
    table.view = View(table.now)
    async with kept(table.view, path):
        assert table.view.hosts


async def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    """A second view does not start on the first one's file."""
    async with kept(View(0.0), tmp_path / "view.db"):
        with pytest.raises(StoreInUse):
            await Keeper(tmp_path / "view.db").restore(View(0.0), lambda: 0.0)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A wrong path is an error of the settings, and not a reason to go on without memory."""
    with pytest.raises(StoreUnusable, match="folder has to exist"):
        await Keeper(tmp_path / "no" / "view.db").restore(View(0.0), lambda: 0.0)
