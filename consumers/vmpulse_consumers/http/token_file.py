"""Tokens in a file that may change while the view runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import TokensUnusable
from vmpulse_consumers.http.access import AccessScope, read_tokens, token_hash

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""A token that was taken back is refused so much later at the latest."""


class TokenFile:
    """The tokens of a file.

    Args:
        path: of the file.
        clock: a monotonic clock, seconds.

    Raises:
        TokensUnusable: the file cannot be read, or a line is none. Later that is logged, and what was known stays.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._now()
        self._known = self._read()

    def scopes(self, token: str) -> frozenset[AccessScope] | None:
        """The scopes of a token; None: it is not known."""
        if self._clock() - self._looked_at > LOOK_S:
            self._look()
        return self._known.get(token_hash(token))

    def _look(self) -> None:
        self._looked_at = self._clock()
        stamp = self._now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = self._read()
            log.info("tokens are those of %s now: %d", self._path, len(self._known))
        except TokensUnusable as error:
            log.error("%s; the tokens known before stay", error)  # noqa: TRY400 - the message says it all

    def _now(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> dict[str, frozenset[AccessScope]]:
        try:
            return read_tokens(self._path.read_text(encoding="utf-8").splitlines(), str(self._path))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise TokensUnusable(
                f"http_tokens_file {self._path} cannot be read: {why}; `vmpulse token` writes it"
            ) from error
