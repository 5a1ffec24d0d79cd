"""Errors: the tree in words is the tree in code, and what travels of it is told apart."""

from __future__ import annotations

import pytest

from vmpulse_contract import errors
from vmpulse_contract.errors import ContractError, LimitBreached, MessageError, VerbError


def _tree(kind: type[ContractError]) -> list[type[ContractError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def test_the_docstring_names_every_error() -> None:
    """Every error of the module stands in its docstring, and under ContractError."""
    shown = errors.__doc__ or ""
    ours = [kind for kind in _tree(ContractError) if kind.__module__ == errors.__name__]
    assert len(ours) > 20
    assert [kind.__name__ for kind in ours if kind.__name__ not in shown] == []


def test_reasons_are_distinct() -> None:
    """Each kind of unusable message is counted under a reason of its own; breached limits share one."""
    kinds = [kind for kind in MessageError.__subclasses__() if kind.__module__ == errors.__name__]
    assert len({kind.reason for kind in kinds} | {MessageError.reason}) == len(kinds) + 1
    assert {kind.reason for kind in LimitBreached.__subclasses__()} == {"oversized"}


def test_verb_errors_by_code() -> None:
    """Every verb error is found by the code that travels."""
    assert set(errors.VERB_ERRORS.values()) == set(VerbError.__subclasses__())
    assert all(kind.code == code for code, kind in errors.VERB_ERRORS.items())


@pytest.mark.parametrize("version", [2, (1,) * 100, "x" * 1000, None])
def test_versions_are_shown_short(version: object) -> None:
    """A hostile version does not become a long log line."""
    assert len(str(errors.UnknownVersion(version, 1))) < 80


def test_settings_errors_say_all() -> None:
    """A wrong setting is named with the value, shortened, and what is allowed."""
    error = errors.SettingsError("tick", "x" * 1000, "a number")
    assert str(error).startswith("setting tick: 'xxx")
    assert str(error).endswith("is not allowed; allowed: a number")
    assert len(str(error)) < 200
