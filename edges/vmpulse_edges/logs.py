"""Log lines: text for people, JSON for machines; on stderr, so that stdout stays the program's own."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

from pythonjsonlogger.json import JsonFormatter


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


def configure(level: LogLevel, form: LogFormat) -> None:
    """Set up the process's logging."""
    handler = logging.StreamHandler(sys.stderr)
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler.setFormatter(JsonFormatter(fields) if form is LogFormat.JSON else logging.Formatter(fields))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aio_pika", "aiormq"):
        # They log with a traceback what we handle and say in one line.
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
