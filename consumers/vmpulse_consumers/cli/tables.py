"""What people see: tables that fit the terminal, colours on terminals alone, and no control characters from outside."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIPE_WIDTH: Final = 10_000
"""Columns for a reader that is no terminal: nothing is cut."""
LISTED: Final = 30
"""Items of a list that people are shown: a guest may have thousands of applications."""
NARROW: Final = 100
"""Terminals of fewer columns get fewer of a wide table's."""
UNKNOWN: Final = "-"
STYLES: Final = {
    "Up": "green",
    "Down": "dim",
    "Unknown": "red",
    "Paused": "yellow",
    "fresh": "green",
    "stale": "yellow",
    "unknown": "red",
    "live": "green",
    "late": "yellow",
    "lost": "red",
    "stopped": "dim",
}
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


class _Console(Console):
    """A console that leaves a closed pipe to the program, and pads no line for a reader that is no terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        if sys.stdout.isatty():
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        sys.stdout.writelines(f"{line.rstrip(' ')}\n" for line in captured.get().split("\n")[:-1])

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called while BrokenPipeError is handled


def console() -> Console:
    """The console on stdout."""
    return _Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


class Column(NamedTuple):
    """A column's title; *right* for numbers; *cut* if it may be shortened where the terminal is narrow."""

    title: str
    right: bool = False
    cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> Table:
    """A table with one line for each row."""
    built = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for at, column in enumerate(columns):
        needed = max([len(column.title), *(row[at].cell_len for row in rows)])
        built.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.cut else needed,
        )
    for row in rows:
        built.add_row(*row)
    return built


def pairs(values: Mapping[str, Any]) -> Table:
    """A table of names and values; unknown ones are left out."""
    built = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    built.add_column(style="bold", no_wrap=True)
    built.add_column(overflow="fold")
    for name, value in values.items():
        if value not in (None, "", [], {}):
            built.add_row(name, shown(value))
    return built


def shown(value: object) -> Text:
    """Any value as text without markup; names come from guests and hosts, so nothing in them may steer a terminal."""
    text = UNKNOWN if value is None else _plain(value)
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return Text(clean, style=STYLES.get(clean, ""))


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        more = f", and {len(value) - LISTED} more (--json shows all)" if len(value) > LISTED else ""
        separator = "; " if any(isinstance(item, dict) for item in value) else ", "
        return separator.join(map(_plain, value[:LISTED])) + more
    return str(value)


def number(value: float | None, digits: int = 1) -> Text:
    """A number, or a mark for unknown."""
    return shown(None if value is None else f"{value:.{digits}f}")


def duration(seconds: float | None) -> Text:
    """A time span in its two largest units."""
    if seconds is None:
        return shown(None)
    whole = int(seconds)
    if whole < _MINUTE:
        return shown(f"{seconds:.1f}s")
    if whole < _HOUR:
        return shown(f"{whole // _MINUTE}m{whole % _MINUTE:02}s")
    if whole < _DAY:
        return shown(f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m")
    return shown(f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h")
