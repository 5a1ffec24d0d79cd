"""Captures on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

from vmpulse_consumers.capture.records import REMEDY, Header, Reading, Record, write_header
from vmpulse_consumers.errors import CaptureUnreadable, CaptureUnwritable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

CHUNK: Final = 256 << 10


class CaptureFile:
    """A capture that is being written; a context manager.

    Args:
        path: of the file, which must not be there yet: a capture may be all there is of a fault.
        header: what it begins with.

    Raises:
        CaptureUnwritable: when it is made, and while it is written to.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.bytes = 0
        self.discarded = False
        self._begun = False
        self._failed: CaptureUnwritable | None = None
        try:
            # It holds what guests and hosts say: for its owner alone.
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        except FileExistsError as error:
            raise CaptureUnwritable(f"{path} is there already; name a file that is not") from error
        except OSError as error:
            raise CaptureUnwritable(f"{path} cannot be written: {error.strerror}; name a file elsewhere") from error
        try:
            self.write([write_header(header)])
            self._begun = True
        except CaptureUnwritable:
            self._file.close()
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failure:
            raise self._unwritable(failure) from failure

    def write(self, records: Iterable[bytes]) -> None:
        """Append records, and hand them to the system: what is written survives the end of this program."""
        if self._failed is not None:
            # A record may stand there half written: nothing may follow it.
            raise self._failed
        left = memoryview(b"".join(records))
        try:
            while left:
                written = self._file.write(left)
                self.bytes += written
                left = left[written:]
        except OSError as error:
            self._failed = self._unwritable(error)
            raise self._failed from error

    def discard(self) -> None:
        """Remove the file: nothing was captured, and it would be in the way of the next attempt."""
        self.discarded = True
        self.path.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> CaptureUnwritable:
        kept = f"; `vmpulse replay {self.path}` reads what it has so far" if self._begun else ""
        remedy = f"make room or name a file elsewhere{kept}"
        return CaptureUnwritable(f"{self.path} cannot be written: {error.strerror}; {remedy}")


def read_capture(path: Path) -> Iterator[Header | Record]:
    """Give the header and then the records of a file, up to the last whole one.

    Raises:
        CaptureUnreadable: it is no capture, or damaged; what was whole before has been given.
    """
    reading, empty = Reading(), True
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                empty = False
                yield from reading.feed(chunk)
    except OSError as error:
        raise CaptureUnreadable(f"{path} cannot be read: {error.strerror}") from error
    if empty:
        raise CaptureUnreadable(f"{path} is empty; {REMEDY}")
