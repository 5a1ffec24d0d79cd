"""The guard: what is worse than expected fails with words, and what is better does not."""

from __future__ import annotations

import msgspec
import pytest

from benches.guard import costs
from benches.guard.__main__ import EXPECTED, main
from benches.guard.comparing import RENEW, Figure, best, compared, renewed, worst
from benches.guard.parts import PARTS


def of(value: float, *, more_is_better: bool = False) -> Figure:
    """A figure."""
    return Figure("part.figure", value, more_is_better)


@pytest.mark.parametrize(
    "figure, failed, outgrown",
    [
        (of(11.4), False, False),
        (of(11.6), True, False),
        (of(8.4), False, True),
        (of(8.6, more_is_better=True), True, False),
        (of(8.8, more_is_better=True), False, False),
        (of(12, more_is_better=True), False, True),
    ],
)
def test_worse_by_more_than_15_percent_fails(figure: Figure, failed: bool, outgrown: bool) -> None:  # noqa: FBT001
    """Of an expectation of 10, whichever direction is the better one."""
    (one,) = compared([figure], {figure.name: 10.0})
    assert (one.failed, one.outgrown) == (failed, outgrown)


def test_a_failure_names_figure_expectation_measure_and_remedy() -> None:
    """Whoever reads the line knows what to do."""
    (one,) = compared([of(12.5)], {"part.figure": 10.0})
    assert all(word in one.words for word in ("part.figure", "expected 10", "measured 12.5", "25%", RENEW))


def test_a_figure_without_an_expectation_fails() -> None:
    """None is forgotten; the remedy is named."""
    (one,) = compared([of(1.0)], {})
    assert one.failed
    assert RENEW in one.words


def test_the_better_of_two_measures_counts() -> None:
    """In whichever direction better is."""
    assert best([of(3)], [of(2)]) == [of(2)]
    assert worst([of(3)], [of(2)]) == [of(3)]
    assert best([of(3, more_is_better=True)], [of(2, more_is_better=True)]) == [of(3, more_is_better=True)]


def test_renewing_keeps_what_was_not_measured() -> None:
    """As without root the agent's figures."""
    assert renewed([of(2)], {"part.figure": 1.0, "agent.x": 3.0}) == {"agent.x": 3.0, "part.figure": 2.0}


def test_the_costs_are_ratios_of_one_process() -> None:
    """Each has a positive figure, and an expectation, as every figure in the file is of a part that there is."""
    found = costs.measure(rounds=6)
    expected = msgspec.json.decode(EXPECTED.read_bytes(), type=dict[str, float])
    assert {f"costs.{name}" for name in found} == {name for name in expected if name.startswith("costs.")}
    assert all(0 < value < 1000 for value in found.values())


def test_each_part_has_expectations() -> None:
    """None but the agent's, which has its own check, is without."""
    expected = msgspec.json.decode(EXPECTED.read_bytes(), type=dict[str, float])
    assert {name.partition(".")[0] for name in expected} == PARTS.keys() - {"agent"}


def test_an_unknown_part_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the program with 2 and names the parts that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nothing"])
    assert ended.value.code == 2
    assert "costs" in capsys.readouterr().err
