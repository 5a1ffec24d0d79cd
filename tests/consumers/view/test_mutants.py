"""Deliberate bugs are caught: the state machine would notice if a rule of the protocol were broken."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.consumers.view.mutants import MUTANTS
from tests.consumers.view.test_convergence import EXAMPLES, STEPS, Fleet

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 1
"""Any would do; a fixed one, so that a bug is caught each time or never."""
MUTANTS_AT_LEAST = 10


def run(within: AbstractContextManager[None], examples: int = EXAMPLES) -> Exception | None:
    """Give what the state machine finds under its normal profile, the same each time."""

    class Seeded(Fleet):
        """The seed stands with the class."""

    limits = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    with within:
        try:
            run_state_machine_as_test(seed(SEED)(Seeded), settings=limits)
        except Exception as error:  # noqa: BLE001 - whatever it stumbles over, it has stumbled
            return error
    return None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_deliberate_bug_is_caught(mutant: Callable[[], AbstractContextManager[None]]) -> None:
    """Within the normal profile's number of histories one breaks a promise."""
    assert run(mutant()) is not None


@pytest.mark.timeout(120)
def test_what_is_right_is_not_caught() -> None:
    """The same histories break nothing where no bug was put in, and no bug stays behind."""
    assert run(nullcontext()) is None


def test_there_are_mutants_enough() -> None:
    """There are ten deliberate bugs at least, each under a name of its own."""
    assert len({mutant.__name__ for mutant in MUTANTS}) == len(MUTANTS) >= MUTANTS_AT_LEAST
