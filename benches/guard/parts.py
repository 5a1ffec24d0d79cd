"""The short benches that the guard runs, each a program of its own, and the figures of theirs that count."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from benches.guard import costs, figures
from benches.ingest.report import Report as Ingest
from benches.view_alone import Report as ViewAlone
from benches.wire.report import Report as Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.guard.comparing import Figure


class CouldNotRunError(Exception):
    """A bench that did not come to its end, or whose own check says no."""


class Part(NamedTuple):
    """A short bench. ``noisy``: it measures time, so that what seems worse is measured once more."""

    figures: Callable[[], list[Figure]]
    noisy: bool = True


def printed(module: str, *options: str) -> bytes:
    """Run a bench, whose progress goes where ours does, and give its last line. Raises CouldNotRunError."""
    command = (sys.executable, "-m", module, *options)
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        raise CouldNotRunError(f"{' '.join(command[1:])} ended with {ended.returncode}; its last words are above")
    return lines[-1]


def reported(kind: type[Any], module: str, *options: str) -> Any:
    """Run a bench and read its report. Raises CouldNotRunError."""
    return msgspec.json.decode(printed(module, *options), type=kind)


def wire() -> list[Figure]:
    """A small fleet beside those that poll."""
    return figures.of_wire(reported(Wire, "benches.wire", "--quick"))


def ingest() -> list[Figure]:
    """The view beside an empty callback."""
    small = ("--hosts=50", "--rounds=4", "--ticks=20")
    return figures.of_ingest(reported(Ingest, "benches.ingest", *small))


def memory() -> list[Figure]:
    """What a view of 4,000 VMs holds."""
    return figures.of_memory(reported(ViewAlone, "benches.view_alone", "--hosts=100", "--traced"))


def state_machines() -> list[Figure]:
    """What reading and the view take, in one process."""
    return figures.of_costs(costs.measure())


def agent() -> list[Figure]:
    """The agent on real domains, by its own check, whose bounds are wide; no figure of it is steady over 3 ticks."""
    printed("benches.agent_tick", "--check", "--ticks=3")
    return []


PARTS: Final = {
    "costs": Part(state_machines),
    "memory": Part(memory, noisy=False),
    "wire": Part(wire, noisy=False),
    "ingest": Part(ingest),
    "agent": Part(agent, noisy=False),
}
NEEDS_ROOT: Final = frozenset({"agent"})


def possible() -> list[str]:
    """The parts that whoever runs this may run."""
    return [name for name in PARTS if os.geteuid() == 0 or name not in NEEDS_ROOT]
