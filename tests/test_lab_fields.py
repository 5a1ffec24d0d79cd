"""The lab's comparisons and the table of fields name the same fields; whether they hold, only the lab can tell."""

from __future__ import annotations

from tests.lab.field_comparisons import Between
from tests.lab.field_rates import ALL
from vmpulse_contract.fields import FIELDS


def test_each_field_has_a_comparison_and_each_comparison_a_field() -> None:
    """Whoever adds a field learns here, and not in the lab, that nothing is compared yet."""
    assert ALL.keys() == {(field.group, field.name) for field in FIELDS}


def test_what_lies_outside_of_bounds_differs() -> None:
    """A comparison with bounds can fail: on numbers beyond them, on text, and on what is absent."""
    bounds = Between(1, 2.5)
    assert bounds == 1
    assert bounds == 2.5
    assert all(bounds != wrong for wrong in (0.99, 2.51, "2", None))
