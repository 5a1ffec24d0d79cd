"""Captures on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

from vmpulse_consumers.capture.records import Header, Reading, Record, write_header
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
        try:
            # It holds what guests and hosts say: for its owner alone.
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except FileExistsError as error:
            raise CaptureUnwritable(f"{path} is there already; name a file that is not") from error
        except OSError as error:
            raise CaptureUnwritable(f"{path} cannot be written: {error.strerror}; name a file elsewhere") from error
        self.write([write_header(header)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, records: Iterable[bytes]) -> None:
        """Append records, and hand them to the system: what is written survives the end of this program."""
        try:
            for record in records:
                self._file.write(record)
                self.bytes += len(record)
            self._file.flush()
        except OSError as error:
            raise CaptureUnwritable(
                f"{self.path} cannot be written: {error.strerror}; what it has so far can be replayed"
            ) from error


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
        raise CaptureUnreadable(f"{path} is empty; a capture is what `vmpulse watch --raw FILE` writes")
