"""What the programs of a run are told, in one file, for it holds passwords; and what they write down."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from vmpulse_contract import sections, stream
from vmpulse_contract.sections import Section, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

VIEW_NAME: Final = "main"
BARE_EXCHANGE: Final = "bench.bare"
CHANGES: Final = "changes made"
"""What the hosts' word on their progress ends with, when all others are ready."""
PREFIX: Final = "mark-"


class Place(Struct, frozen=True, kw_only=True):
    """Where the parts of a run find each other, and how large it is.

    - ``hosts``, ``vms``: of the fleet, and on each host; the last ``watched`` hosts are those whose changes are timed.
    - ``changes``, ``rate``: how many changes, and how many in a second.
    - ``polls``: seconds between two polls of each polling peer.
    """

    simulator_url: str
    view_url: str
    worker_url: str
    bare_url: str
    api_port: int
    peer_port: int
    hosts: int
    vms: int
    watched: int
    changes: int
    rate: float
    polls: tuple[float, ...]


class Seen(Struct, array_like=True, frozen=True):
    """A change or a bare message, by its number, and when it came there: monotonic seconds."""

    number: int
    at: float


Records = dict[str, list[Seen]]
"""By the name of what was seen; for each number the first time counts."""


def started(program: str, arguments: Sequence[str] | None) -> tuple[Place, Path]:
    """Read the command line of a part: what it is told, and where to write down what it has seen."""
    parser = argparse.ArgumentParser(prog=f"python -m benches.freshness.{program}")
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    options = parser.parse_args(arguments)
    return msgspec.json.decode(options.place.read_bytes(), type=Place), options.records


def write_down(records: Path, seen: Records) -> None:
    """Write down what was seen."""
    records.write_bytes(msgspec.json.encode(seen))


def read_down(records: Path) -> Records:
    """Read what was written down."""
    return msgspec.json.decode(records.read_bytes(), type=Records)


# --- marks ------------------------------------------------------------------------------------------------------


def mark(number: int) -> str:
    """The user who is logged in after a change: so the change can be told wherever its section comes to."""
    return f"{PREFIX}{number}"


def number_of(username: object) -> int | None:
    """The number of the change that a user's name is of; None: of none of ours."""
    return int(username.removeprefix(PREFIX)) if isinstance(username, str) and username.startswith(PREFIX) else None


def number_in(change: bytes) -> int | None:
    """The number of the change that a change event tells."""
    event = stream.read_change(change)
    if event.section is not Section.STATUS or event.body is None:
        return None
    body = sections.decode(event.section, event.body)
    return number_of(body.username) if isinstance(body, Status) else None
