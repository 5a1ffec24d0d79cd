"""The last events, encoded and numbered. Readers are cursors into it, so a slow one holds nothing.

A token is ``<instance>-<number>``: the instance is drawn anew by each start of a view, numbers begin with 1. It is the
id of an event, and resumes after it; ``<instance>-0`` stands before the first. What tells one reader alone to read
everything anew has the id ``<token>-relist``, and resumes like the token within.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from vmpulse_contract.fleet import EventType
    from vmpulse_contract.identity import HostId, VmId

EVENTS: Final = 100_000
"""At a change of each of 10,000 VMs every 100 s they last a quarter of an hour."""
BYTES: Final = 64 << 20
OVERHEAD_BYTES: Final = 300
"""What an event costs beside its text; counted, so that BYTES is what the process gives for events."""
TOKEN: Final = re.compile("([0-9a-f]{1,32})-([0-9]{1,18})(?:-relist)?")
ALLOWED_TOKEN: Final = "the id of an event, such as 3f9a5c71-1042"  # noqa: S105 - it protects nothing
UNKNOWN_INSTANCE: Final = "the token is of another start of the view; what happened since then is not known"
TOO_OLD: Final = "what happened after the token is no longer kept"


class Entry(Struct, frozen=True, gc=False):
    """One event: what it can be filtered by, and its CloudEvents JSON. There is no cycle in it to be collected."""

    type: EventType
    hosts: tuple[HostId, ...]
    vm: VmId | None
    text: bytes


class Position(NamedTuple):
    """Where to read on: after event number ``after``. ``relist``: why everything has to be read anew first."""

    after: int
    relist: str | None = None


class FellBehind(Exception):
    """The next event is no longer kept; ``first`` is the number of the oldest that is."""

    def __init__(self, first: int) -> None:
        super().__init__(TOO_OLD)
        self.first = first


class EventLog:
    """Keeps the last events, bounded by their count and by their bytes.

    Args:
        instance: hexadecimal digits; no two starts of a view have the same.
        events: how many it keeps at most.
        size: how many bytes it keeps at most, OVERHEAD_BYTES for each event included.
    """

    def __init__(self, instance: str, *, events: int = EVENTS, size: int = BYTES) -> None:
        self.instance = instance
        self.last = 0
        """The number of the newest event; 0: there was none."""
        self.size = 0
        self._entries: deque[Entry] = deque()
        self._most = events
        self._most_size = size

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; ``last + 1`` if none is."""
        return self.last - len(self._entries) + 1

    def token(self, number: int) -> str:
        """The token of an event's number."""
        return f"{self.instance}-{number}"

    def relist_id(self, number: int) -> str:
        """The id of a word to one reader that it read everything anew and go on after *number*."""
        return f"{self.instance}-{number}-relist"

    def append(self, entry: Entry) -> None:
        """Keep an event under the number ``last + 1``. What exceeds the bounds is let go, oldest first."""
        entries = self._entries
        entries.append(entry)
        self.last += 1
        self.size += len(entry.text) + OVERHEAD_BYTES
        while len(entries) > self._most or (self.size > self._most_size and len(entries) > 1):
            self.size -= len(entries.popleft().text) + OVERHEAD_BYTES

    def find(self, token: str | None) -> Position:
        """Where to go on after *token*; None: from now on. Raises ValueError if it cannot be a token."""
        if token is None:
            return Position(self.last)
        match = TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(ALLOWED_TOKEN)
        number = int(match[2])
        if match[1] != self.instance or number > self.last:
            return Position(self.last, UNKNOWN_INSTANCE)
        if number + 1 < self.first:
            return Position(self.last, TOO_OLD)
        return Position(number)

    def read(self, after: int, *, events: int, size: int) -> list[Entry]:
        """Give what comes after number *after*: at most *events*, and not much more than *size* bytes.

        Raises FellBehind if what comes next is no longer kept.
        """
        start = after + 1 - self.first
        if start < 0:
            raise FellBehind(self.first)
        found: list[Entry] = []
        for entry in self._from(start, events):
            found.append(entry)
            size -= len(entry.text)
            if size <= 0:
                break
        return found

    def _from(self, start: int, events: int) -> list[Entry]:
        """A slice of the entries. A deque is quick at both ends only, and most readers are near the newest."""
        entries = self._entries
        behind = len(entries) - start
        if behind <= start:
            newest = list(islice(reversed(entries), behind))
            newest.reverse()
            return newest[:events]
        return list(islice(entries, start, start + events))
