"""A socket that lets everybody in and says nothing: what a peer that has vanished amid a handshake looks like."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class MuteSocket:
    """Listens at *path* until ``leave``; those who came in are kept waiting until the end of the block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[socket.socket] = []
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many have come in."""
        return len(self._kept)

    def leave(self) -> None:
        """Let nobody else in."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        self._path.unlink()

    def hang_up(self) -> None:
        """End the waiting."""
        for one in self._kept:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.leave()
        self.hang_up()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            self._kept.append(one)
