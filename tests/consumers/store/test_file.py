"""The file: what is written is read, whole batches or none, and what is wrong with it is said with the remedy."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.consumers.view.back_to_back import MIGRATED, Table, vm_number
from tests.consumers.view.test_memory import kept_table
from vmpulse_consumers.errors import StoreBroken, StoreFull, StoreInUse, StoreTooNew, StoreUnusable
from vmpulse_consumers.store.file import VERSION, StoreFile
from vmpulse_consumers.view import View
from vmpulse_consumers.view.memory import Batch, Kept, SectionMemory
from vmpulse_consumers.view.restoring import restoring
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import Section

SECTION = SectionMemory(HostId("host-0"), VmId(bytes(16)), Section.INFO, 1, b"body")


def opened(path: Path) -> StoreFile:
    """The file, open."""
    store = StoreFile(path)
    store.open()
    return store


def written(table: Table, store: StoreFile) -> None:
    """Write everything that is marked."""
    while table.view.memory:
        store.write(table.view.memory.drain(table.view.hosts, table.view.vms, table.view.runtime))


def test_what_is_written_is_read_by_the_next(tmp_path: Path) -> None:
    """Hosts, sections and VMs in transit come back as they were, over a close and an opening."""
    table, shelf = kept_table(hosts=2)
    store = opened(tmp_path / "view.db")
    store.write(Batch(hosts=tuple(shelf.hosts.values()), sections=tuple(shelf.sections.values())))
    table.host.undefine_vm(vm_number(1), table.now, MIGRATED)
    table.step()
    written(table, store)
    shelf.take(table.view)
    before = store.load()
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["view.db"]
    after = opened(tmp_path / "view.db").load()
    assert after == before
    assert {host.host for host in after.hosts} == {"host-0", "host-1"}
    assert [transit.vm for transit in after.transits] == [vm_number(1)]


def test_what_is_kept_no_more_is_gone_from_the_file(tmp_path: Path) -> None:
    """Sections of VMs that are gone, VMs that have arrived, hosts that were forgotten."""
    table, shelf = kept_table(hosts=2)
    store = opened(tmp_path / "view.db")
    store.write(Batch(tuple(shelf.hosts.values()), (), tuple(shelf.sections.values())))
    table.host.undefine_vm(vm_number(1), table.now, MIGRATED)
    table.step()
    written(table, store)
    table.hosts[HostId("host-1")].define_vm(vm_number(1))
    table.hosts[HostId("host-1")].start_vm(vm_number(1))
    table.step()
    written(table, store)
    assert store.load().transits == ()
    table.dead.add(HostId("host-0"))
    for _ in range(8):
        table.step()
    table.view.forget(HostId("host-0"), table.now)
    written(table, store)
    kept = store.load()
    assert [host.host for host in kept.hosts] == ["host-1"]
    assert {section.host for section in kept.sections} == {"host-1"}


def test_a_new_view_from_the_file_asks_for_no_section(tmp_path: Path) -> None:
    """The whole way: a view, its file, and a view made of it that equals the hosts after their rosters."""
    table, shelf = kept_table(hosts=3)
    store = opened(tmp_path / "view.db")
    store.write(Batch(tuple(shelf.hosts.values()), (), tuple(shelf.sections.values())))
    table.view = View(table.now)
    list(restoring(table.view, store.load(), table.now))
    table.view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()
    assert (table.view.counts.relists, table.view.counts.repairs) == (3, 0)


def test_two_views_cannot_share_a_file(tmp_path: Path) -> None:
    """The second one is told who has it and what to do."""
    first = opened(tmp_path / "view.db")
    with pytest.raises(StoreInUse, match=r"in use by another view: stop that one, or give each a --store"):
        opened(tmp_path / "view.db")
    first.close()
    opened(tmp_path / "view.db").close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """A file of a later version is not touched, and the error says what to run."""
    path = tmp_path / "view.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match=f"version {VERSION + 1}.* up to {VERSION}"):
        opened(path)
    assert path.read_bytes() == before


def test_the_file_says_its_version(tmp_path: Path) -> None:
    """PRAGMA user_version is the tables' version."""
    opened(tmp_path / "view.db").close()
    connection = sqlite3.connect(tmp_path / "view.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_something_else_is_no_store(tmp_path: Path) -> None:
    """A file of other content is said to be none, and can be moved aside without losing it."""
    path = tmp_path / "view.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    store = StoreFile(path)
    with pytest.raises(StoreBroken, match="damaged, or no store"):
        store.open()
    aside = store.move_aside()
    assert aside.name == "view.db.broken-1"
    assert aside.read_bytes().startswith(b"not a database")
    store.open()
    assert store.load() == Kept()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The error names the file and what its folder has to be."""
    with pytest.raises(StoreUnusable, match=r"nowhere/view\.db cannot be opened.*folder has to exist"):
        opened(tmp_path / "nowhere" / "view.db")


def test_a_record_that_cannot_be_read_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One host's damaged record is passed over, with its name in the log; the others come back."""
    _, shelf = kept_table(hosts=2)
    store = opened(tmp_path / "view.db")
    store.write(Batch(tuple(shelf.hosts.values())))
    store.close()
    with sqlite3.connect(tmp_path / "view.db") as connection:
        connection.execute("UPDATE hosts SET record = x'93010203' WHERE host = 'host-0'")
    connection.close()
    assert [host.host for host in opened(tmp_path / "view.db").load().hosts] == ["host-1"]
    assert "host host-0 cannot be read" in caplog.text


def test_an_odd_section_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row of another number, another VM id or another type is passed over, with the host's name in the log."""
    store = opened(tmp_path / "view.db")
    store.write(Batch(sections=(SECTION,)))
    assert store._connection is not None
    for row in (("odd", bytes(16), 9, b"", b""), ("odd", b"short", 0, b"", b""), ("odd", bytes(16), 0, 7, b"")):
        store._connection.execute("INSERT INTO sections VALUES (?, ?, ?, ?, ?)", row)
        assert store.load().sections == (SECTION,)
        store._connection.execute("DELETE FROM sections WHERE host = 'odd'")
    assert "section of host odd" in caplog.text


def test_a_body_that_does_not_fit_its_hash_is_not_held(tmp_path: Path) -> None:
    """What the disk has made of a body is not shown: it is fetched (promise V5)."""
    table, shelf = kept_table()
    store = opened(tmp_path / "view.db")
    damaged = tuple(kept._replace(body=b"\x80") for kept in shelf.sections.values())
    store.write(Batch(tuple(shelf.hosts.values()), (), damaged))
    table.view = View(table.now)
    list(restoring(table.view, store.load(), table.now))
    assert all(body is None for host in table.view.hosts.values() for body in host.bodies)
    table.view.canary(table.now)
    table.step()
    table.step()
    table.assert_equal()


def test_a_full_disk_is_said_and_costs_no_earlier_batch(tmp_path: Path) -> None:
    """A batch that finds no room is refused whole; what was written before is there, and later ones go on."""
    store = opened(tmp_path / "view.db")
    store.write(Batch(sections=(SECTION,)))
    assert store._connection is not None
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    big = SECTION._replace(vm=VmId(bytes(15) + b"1"), body=bytes(100_000))
    with pytest.raises(StoreFull, match="the disk is full; make room"):
        store.write(Batch(sections=(big,)))
    assert store.load().sections == (SECTION,)
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.write(Batch(sections=(big,)))
    assert set(store.load().sections) == {SECTION, big}


WRITER = """
import sys
from pathlib import Path
from vmpulse_consumers.store.file import StoreFile
from vmpulse_consumers.view.memory import Batch, SectionMemory
store = StoreFile(Path(sys.argv[1]))
store.open()
number = 0
while True:
    number += 1
    rows = tuple(
        SectionMemory("host", bytes([row]) * 16, 0, number, str(number).encode() * 500) for row in range(20)
    )
    store.write(Batch(sections=rows))
    if number == 3:
        print("going", flush=True)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.003, 0.01, 0.03, 0.06])
def test_a_kill_at_any_moment_leaves_a_whole_batch(tmp_path: Path, after_s: float) -> None:
    """SIGKILL amid writing: the file opens, is sound, and holds exactly one batch, never parts of two."""
    path = tmp_path / "view.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    killed_at = time.monotonic() + after_s
    while time.monotonic() < killed_at:
        pass
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = opened(path)
    assert store._connection is not None
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sections = store.load().sections
    assert len(sections) == 20
    assert len({section.hash for section in sections}) == 1
    assert sections[0].hash >= 3
