"""Log lines: text for people, JSON for machines; on stderr, so that stdout stays the program's own."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pythonjsonlogger.json import JsonFormatter

if TYPE_CHECKING:
    from types import TracebackType

FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LineFormatter(logging.Formatter):
    """One line for each record, whatever hosts, guests and brokers say: they write no line and no colour of their own.

    Only a traceback has lines of its own. They are indented, so that none can pass for a record.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, with control characters as Python writes them."""
        return _escaped(super().formatMessage(record))

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """The traceback, indented."""
        return "\n".join(f"    {_escaped(line)}" for line in super().formatException(ei).split("\n"))


def _escaped(text: str) -> str:
    """Write out what terminals obey, and what nobody sees.

    That is whatever Python does not print: controls, line ends, format characters (those that turn the direction of
    writing, of no width, tags), surrogates, and spaces that pass for another one.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def configure(level: LogLevel, form: LogFormat) -> None:
    """Set up the process's logging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(FIELDS) if form is LogFormat.JSON else LineFormatter(FIELDS))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aio_pika", "aiormq"):
        # They log with a traceback what we handle and say in one line.
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
