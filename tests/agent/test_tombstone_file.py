"""Tombstones over a restart: kept, shifted to the new clock, and never a reason to stop."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import msgspec
import pytest

from vmpulse_agent.tombstone_file import NAME, TombstoneFile
from vmpulse_contract.stream import Tombstone
from vmpulse_contract.values import ExitCode, ExitReason

STONE = Tombstone(b"v" * 16, 7, ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN, 40_000)


def test_tombstones_are_kept_over_a_restart(tmp_path: Path) -> None:
    """What was kept is read again, on a clock that begins now: so much before it as it ended before the keeping."""
    TombstoneFile(tmp_path / "not" / "yet").write([STONE], 100_000)
    (found,) = TombstoneFile(tmp_path / "not" / "yet").read()
    assert msgspec.structs.replace(found, ended_ms=0) == msgspec.structs.replace(STONE, ended_ms=0)
    assert -61_000 < found.ended_ms <= -60_000


def test_keeping_happens_by_and_by_in_order(tmp_path: Path) -> None:
    """Keeping does not wait for the disk, and the last word wins."""
    file = TombstoneFile(tmp_path)
    for number in range(20):
        file.keep([msgspec.structs.replace(STONE, token=number)], 0)
    file._writer.shutdown()
    assert [stone.token for stone in TombstoneFile(tmp_path).read()] == [19]
    assert os.listdir(tmp_path) == [NAME]  # noqa: PTH208 - names are what matters


def test_no_file_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start finds nothing and says nothing."""
    assert TombstoneFile(tmp_path / "never").read() == []
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", b"\x93", b"not msgpack", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([[1, 2, 3]])],
)
def test_broken_file_is_no_reason_to_stop(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is damaged is said to be so, once, and forgotten."""
    (tmp_path / NAME).write_bytes(content)
    assert TombstoneFile(tmp_path).read() == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path) in record.message


def test_folder_in_place_of_the_file_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder of the file's name can neither be read nor replaced: both are warnings."""
    (tmp_path / NAME).mkdir()
    file = TombstoneFile(tmp_path)
    assert file.read() == []
    file.write([STONE], 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_full_disk_only_warns_and_keeps_the_old(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the disk is full the agent goes on, and the file of before is left whole."""
    file = TombstoneFile(tmp_path)
    file.write([STONE], 0)
    before = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).with_suffix(".new").symlink_to("/dev/full")
    file.write([STONE] * 5, 0)
    assert (tmp_path / NAME).read_bytes() == before
    assert "No space left on device" in caplog.text


def test_unwritable_folder_only_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state folder that cannot be made costs the memory, not the agent."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    file = TombstoneFile(tmp_path / "file" / "state")
    file.write([STONE], 0)
    assert "could not be kept" in caplog.text
    assert file.read() == []


def test_clock_that_went_back_leaves_no_future(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that was set back does not make an end lie in the future."""
    TombstoneFile(tmp_path).write([STONE], 100_000)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert [stone.ended_ms for stone in TombstoneFile(tmp_path).read()] == [-1]
