"""One SQLite file that keeps a view's memory. Everything here blocks: for the keeper's thread only.

A batch is one transaction, and the journal is a write-ahead log: a process that is killed at any moment leaves what the
last whole batch said (SQLite, "Write-Ahead Logging"). ``PRAGMA user_version`` is the version of the tables. Beside FILE
there are FILE-wal while it is open, and no others: the lock is exclusive, so no shared memory is needed.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import StoreBroken, StoreFull, StoreInUse, StoreTooNew, StoreUnusable
from vmpulse_consumers.view.memory import Kept, SectionMemory, read_host, read_transit
from vmpulse_contract import wire
from vmpulse_contract.errors import MessageError, MistypedMessage
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import BODIED, Section
from vmpulse_contract.stream import UUID_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from vmpulse_consumers.view.memory import Batch

    R = TypeVar("R")
    T = TypeVar("T")

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the tables; 0 is a file without any. A file of a newer version is left alone."""
TABLES: Final = """\
CREATE TABLE hosts (host TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sections (
    host TEXT NOT NULL, vm BLOB NOT NULL, section INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (host, vm, section)
) WITHOUT ROWID;
CREATE TABLE transits (vm BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""
HASH_BYTES: Final = 8
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY: Final = 0xFF
"""SQLite's extended codes carry the primary one in their lowest byte."""


class StoreFile:
    """The file; opened by ``open``.

    Args:
        path: of the file; its folder has to be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    # --- open and close -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            StoreInUse: another view has it open.
            StoreTooNew: a newer vmpulse has written it.
            StoreBroken: it is damaged, or no SQLite file.
            StoreFull: there is no room for it.
            StoreUnusable: it cannot be opened there.
        """
        if self._connection is not None:
            return
        try:
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        try:
            _prepare(connection, self.path)
        except sqlite3.Error as error:
            connection.close()
            raise _unusable(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Close it, and leave one file. Never raises; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("store %s was not closed cleanly: %s; nothing is lost", self.path, error)

    def move_aside(self) -> Path:
        """Rename a file that is broken, so that it can be looked into; gives its new name. Raises StoreUnusable."""
        aside = next(
            name
            for number in range(1, 1 << 16)
            if not (name := self.path.with_name(f"{self.path.name}.broken-{number}")).exists()
        )
        try:
            self.path.rename(aside)
            self.path.with_name(f"{self.path.name}-wal").unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        return aside

    # --- contents -----------------------------------------------------------------------------------------------

    def load(self) -> Kept:
        """Read all that is kept. A record that cannot be read costs itself alone. Raises StoreBroken, StoreUnusable."""
        connection = self._opened()
        try:
            hosts = connection.execute("SELECT host, record FROM hosts").fetchall()
            sections = connection.execute("SELECT host, vm, section, hash, body FROM sections").fetchall()
            transits = connection.execute("SELECT vm, record FROM transits").fetchall()
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        return Kept(
            tuple(_readable(((f"host {host}", record) for host, record in hosts), read_host)),
            tuple(_readable(((f"a section of host {row[0]!s:.70}", row) for row in sections), _section)),
            tuple(_readable((("a VM in transit", record) for _, record in transits), read_transit)),
        )

    def write(self, batch: Batch) -> None:
        """Write a batch, wholly or not at all; opens the file if need be. Raises StoreUnusable, as for a full disk."""
        self.open()
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            _put(connection, batch)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        finally:
            # On some errors, a full disk among them, SQLite has rolled back by itself.
            if connection.in_transaction:
                self._roll_back(connection)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """End a transaction that failed; a connection that cannot do even that is closed, and opened anew later."""
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.warning("store %s could not roll back, and is opened anew: %s", self.path, error)
            self.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnusable(f"store {self.path} is not open")
        return self._connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreTooNew(
            f"store {path} has version {version}, and this vmpulse knows versions up to {VERSION}: "
            f"run the newer vmpulse that wrote it, or give another --store"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # Of a power cut the last batches may be lost, never the file; the hosts tell them again.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    if version == 0:
        for statement in TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _put(connection: sqlite3.Connection, batch: Batch) -> None:
    for table in ("hosts", "sections"):
        connection.executemany(f"DELETE FROM {table} WHERE host = ?", ((host,) for host in batch.forgotten))  # noqa: S608 - two names of ours
    connection.executemany("INSERT OR REPLACE INTO hosts VALUES (?, ?)", _host_rows(batch))
    connection.executemany(
        "DELETE FROM sections WHERE host = ? AND vm = ? AND section = ?",
        ((kept.host, kept.vm, kept.section) for kept in batch.sections if kept.body is None),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO sections VALUES (?, ?, ?, ?, ?)",
        (
            (kept.host, kept.vm, kept.section, kept.hash.to_bytes(HASH_BYTES, "big"), kept.body)
            for kept in batch.sections
            if kept.body is not None
        ),
    )
    connection.executemany("DELETE FROM transits WHERE vm = ?", ((vm,) for vm in batch.settled))
    connection.executemany(
        "INSERT OR REPLACE INTO transits VALUES (?, ?)", ((kept.vm, wire.write(kept)) for kept in batch.transits)
    )


def _host_rows(batch: Batch) -> Iterator[tuple[str, bytes]]:
    """The records of hosts; one that cannot be encoded costs itself alone."""
    for kept in batch.hosts:
        try:
            yield kept.host, wire.write(kept)
        except MessageError as error:
            log.error("what is to be kept of host %s cannot be written: %s", kept.host, error)  # noqa: TRY400 - it says it all


def _section(row: tuple[object, ...]) -> SectionMemory:
    """Read a row of sections. Raises MistypedMessage."""
    match row:
        case (str() as host, bytes() as vm, int() as number, bytes() as value, bytes() as body) if (
            len(vm) == UUID_BYTES and number in BODIED
        ):
            return SectionMemory(HostId(host), VmId(vm), Section(number), int.from_bytes(value, "big"), body)
        case _:
            raise MistypedMessage("not a section: host, VM, number, hash, body")


def _readable(records: Iterable[tuple[str, R]], read: Callable[[R], T]) -> Iterable[T]:
    for whose, record in records:
        try:
            yield read(record)
        except MessageError as error:
            log.warning("what was kept of %s cannot be read, and is asked for anew: %s", whose, error)


def _unusable(path: Path, error: Exception) -> StoreUnusable:
    """Say what SQLite or the system has to complain of, with the remedy."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code in _BROKEN:
        return StoreBroken(f"store {path} is damaged, or no store: {error}")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreInUse(f"store {path} is in use by another view: stop that one, or give each a --store of its own")
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"store {path} cannot be written: the disk is full; make room on it")
    if code == sqlite3.SQLITE_CANTOPEN or isinstance(error, OSError):
        return StoreUnusable(
            f"store {path} cannot be opened: {error}; its folder has to exist and to be writable for the view's user"
        )
    return StoreUnusable(f"store {path} cannot be used: {error}; look at the disk and the rights of its folder")
