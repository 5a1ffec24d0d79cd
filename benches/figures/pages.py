"""What benches have found as files in one folder: a JSON object and a plot for each, and a page with all tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from benches.figures import plots
from benches.figures.catalogue import BENCHES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benches.figures.goals import Goal

PAGE: Final = "figures.md"
HEAD: Final = """\
# Figures

What the benches have found, by `make bench`; [performance.md](../performance.md) says how they are to be read, on which
machine they were taken, and why a goal was missed. Beside each table are the JSON object that the bench has printed and
its plot.
"""


class NotAReport(ValueError):
    """A file that is not what the bench of that name prints now."""


def keep(folder: Path, name: str, printed: bytes) -> None:
    """Keep what a bench has printed. Raises NotAReport if that is not its object."""
    _read(name, printed, f"what benches.{name} has printed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(msgspec.json.format(printed, indent=1) + b"\n")


def kept(folder: Path) -> dict[str, Any]:
    """Give the reports in a folder by the names of their benches. Raises NotAReport."""
    files = {name: folder / f"{name}.json" for name in BENCHES}
    return {name: _read(name, file.read_bytes(), str(file)) for name, file in files.items() if file.exists()}


def _read(name: str, raw: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=BENCHES[name].report)
    except msgspec.MsgspecError as error:
        remedy = f"take it anew: make bench ARGS='--only {name}'"
        raise NotAReport(f"{where} is not what benches.{name} prints now: {error}; {remedy}") from error


def draw(folder: Path) -> dict[str, list[Goal]]:
    """Write the plots and the page of all that is kept in a folder; gives the goals by bench. Raises NotAReport."""
    judged = {}
    for name, report in kept(folder).items():
        bench = BENCHES[name]
        judged[name] = bench.goals(report)
        (folder / f"{name}.svg").write_bytes(plots.svg(bench.plot(report, judged[name])))
    (folder / PAGE).write_text("\n".join(page(judged)), encoding="utf-8")
    return judged


def page(judged: dict[str, list[Goal]]) -> Iterator[str]:
    """Give the lines of the page."""
    yield HEAD
    for name, goals in judged.items():
        yield f"## {BENCHES[name].title}\n"
        yield f"[{name}.json]({name}.json)\n"
        yield "| figure | found | goal | |\n|---|---|---|---|"
        yield from (row(goal) for goal in goals)
        yield f"\n![{BENCHES[name].title}]({name}.svg)\n"


def row(goal: Goal) -> str:
    """Give one row of a table."""
    found = "not measured" if goal.figure is None else _number(goal.figure)
    bound = f"at {'least' if goal.least else 'most'} {_number(goal.goal)}"
    return f"| `{goal.key}` | {found} | {bound} | {'met' if goal.met else '**missed**'} |"


def _number(value: float) -> str:
    """Write a number with four digits, or whole where it has more."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - four digits before the point
