"""The page docs/view.md says what the view does.

Renew the tables from the repository's root by

    python -c "from tests.consumers.test_docs import renew; renew()"
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vmpulse_consumers.view import states
from vmpulse_consumers.view.states import HostInput, HostState

PAGE: Final = Path(__file__).parents[2] / "docs" / "view.md"
BEGIN: Final = "<!-- states -->\n\n"
END: Final = "\n\n<!-- end of states -->"


def rendered() -> str:
    """The state machine as a Markdown table: a row for each state, a column for each input, the next state within."""
    lines = [f"| | {' | '.join(HostInput)} |", "|---" * (1 + len(HostInput)) + "|"]
    for state in HostState:
        nexts = (states.TABLE[state].get(given, "-") for given in HostInput)
        lines.append(f"| **{state}** | {' | '.join(nexts)} |")
    return "\n".join(lines)


def renew() -> None:
    """Write the table into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{rendered()}{END}{rest.split(END)[1]}", encoding="utf-8")


def test_states() -> None:
    """The page's table of host states is the code's."""
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown == rendered()


def test_states_are_explained() -> None:
    """Each state and each input is explained in words."""
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"- **{name}**: " in page for name in (*HostState, *HostInput))
