"""The page docs/view.md says what the view does.

Renew the tables from the repository's root by

    python -c "from tests.consumers.test_docs import renew; renew()"
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pytest

from vmpulse_consumers.view import asking, budget, host, splits, troubles, view
from vmpulse_consumers.view.claims import CLAIMS, SUCCESSION, ClaimInput, ClaimState, Standing
from vmpulse_consumers.view.ownership import PLACES, TRANSIT_S, PlaceInput, PlaceState
from vmpulse_consumers.view.splits import SPLITS, SplitInput, SplitState
from vmpulse_consumers.view.states import TABLE, HostInput, HostState

PAGE: Final = Path(__file__).parents[2] / "docs" / "view.md"
MACHINES: Final[dict[str, tuple[Mapping[Any, Mapping[Any, StrEnum]], type[StrEnum], type[StrEnum]]]] = {
    "states": (TABLE, HostState, HostInput),
    "claims": (CLAIMS, ClaimState, ClaimInput),
    "places": (PLACES, PlaceState, PlaceInput),
    "splits": (SPLITS, SplitState, SplitInput),
}


def machine(name: str) -> str:
    """A state machine as a Markdown table: a row for each state, a column for each input, the next state within."""
    table, states, inputs = MACHINES[name]
    lines = [f"| | {' | '.join(inputs)} |", "|---" * (1 + len(inputs)) + "|"]
    for state in states:
        nexts = (table[state].get(given, "-") for given in inputs)
        lines.append(f"| **{state}** | {' | '.join(nexts)} |")
    return "\n".join(lines)


def succession() -> str:
    """Who takes over, as a Markdown table: a row for each standing of the owner, a column for the challenger's."""
    lines = [f"| | {' | '.join(Standing)} |", "|---" * (1 + len(Standing)) + "|"]
    for owner in Standing:
        if owner is not Standing.TURNED:
            said = ("takes over" if SUCCESSION[owner, challenger] else "stays" for challenger in Standing)
            lines.append(f"| **{owner}** | {' | '.join(said)} |")
    return "\n".join(lines)


TABLES: Final = {**{name: machine(name) for name in MACHINES}, "succession": succession()}


def marks(name: str) -> tuple[str, str]:
    """What stands before and after a table in the page."""
    return f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"


def renew() -> None:
    """Write the tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        begin, end = marks(name)
        before, rest = page.split(begin)
        page = f"{before}{begin}{table}{end}{rest.split(end)[1]}"
    PAGE.write_text(page, encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    """Each table of the page is the code's."""
    begin, end = marks(name)
    assert PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0] == TABLES[name]


@pytest.mark.parametrize("name", MACHINES)
def test_states_are_explained(name: str) -> None:
    """Each state and each input of each machine is explained in words."""
    _, states, inputs = MACHINES[name]
    page = PAGE.read_text(encoding="utf-8")
    assert [word for word in (*states, *inputs) if f"- **{word}**: " not in page] == []


def test_numbers() -> None:
    """The numbers of the page are the code's."""
    page = PAGE.read_text(encoding="utf-8")
    for words in (
        f"{asking.IN_FLIGHT} are under way overall",
        f"{asking.ASKED_S:,.0f} a second",
        f"{host.REQUESTS_S:.0f} a second after the first {host.REQUESTS_BURST:.0f}",
        f"{budget.MESSAGES_S:,.0f} messages and {budget.BYTES_S / (1 << 20):.0f} MiB a second",
        f"{budget.MESSAGES_BURST:,.0f} messages and {budget.BYTES_BURST / (1 << 20):.0f} MiB at once",
        f"{budget.HELD_BYTES >> 20} MiB of section bodies",
        f"{budget.DEVICE_BYTES >> 20} MiB of device\nstatistics",
        f"for more than {splits.SPLIT_GRACE_S:.0f} s",
        f"Migration Source for {TRANSIT_S:.0f} s",
        f"at most once in {troubles.TOLD_AGAIN_S:.0f} s",
        f"{host.LOST_S:.0f} s",
        f"grace of {view.GRACE_S:.0f} s",
    ):
        assert words in page, words
