"""Enumerated values: unknown ones never reject a message."""

from __future__ import annotations

from enum import Enum, IntEnum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_contract import values
from vmpulse_contract.values import VmStatus

NUMBERS: tuple[type[IntEnum], ...] = (values.VmStatus, values.ExitCode, values.ExitReason)
TEXTS: tuple[type[Enum], ...] = (
    values.PauseCode,
    values.SessionState,
    values.DisplayType,
    values.BootDevice,
    values.GoodbyeReason,
)


@pytest.mark.parametrize("kind", NUMBERS)
@given(number=st.integers(-(1 << 63), (1 << 64) - 1))
def test_unknown_numbers(kind: type[IntEnum], number: int) -> None:
    """A number is its member or UNKNOWN, never an error."""
    known = {int(member): member for member in kind}
    assert msgspec.convert(number, kind) is known.get(number, known[255])


@pytest.mark.parametrize("kind", TEXTS)
@given(text=st.text(max_size=12))
def test_unknown_texts(kind: type[Enum], text: str) -> None:
    """A word is its member or UNKNOWN, never an error."""
    known = {str(member.value): member for member in kind}
    assert msgspec.convert(text, kind) is known.get(text, known["Unknown"])


@pytest.mark.parametrize("kind", [*NUMBERS, *TEXTS])
@pytest.mark.parametrize("wrong", [1.0, True, b"1", None, [1]])
def test_other_types_are_no_values(kind: type[Enum], wrong: object) -> None:
    """A value of another type is refused: it is a broken sender, not a newer one."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, kind, builtin_types=(bytes,))


def test_every_status_has_a_label_of_its_own() -> None:
    """Each status is called by one name, and no two by the same."""
    assert len({status.label for status in VmStatus}) == len(VmStatus)


def test_statuses_fit_the_frame() -> None:
    """Each status but UNKNOWN, which travels as unknown, is below 8 set bits."""
    assert all(status < 255 for status in VmStatus if status is not VmStatus.UNKNOWN)
