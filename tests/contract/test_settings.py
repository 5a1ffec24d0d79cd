"""Settings: later sources win, and every error names the setting, the value and what is allowed."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from vmpulse_contract.errors import SettingsError
from vmpulse_contract.settings import describe, fill


class Sample(Struct, frozen=True, kw_only=True):
    """Settings of every type that programs use."""

    url: Annotated[str, Meta(description="where")]
    tick: Annotated[float, Meta(gt=0, le=60, description="seconds", extra={"allowed": "above 0 up to 60"})] = 3.0
    count: Annotated[int, Meta(ge=1)] = 4
    on: bool = False
    name: str | None = None
    labels: Annotated[dict[str, str], Meta(description="what the host is")] = field(default_factory=dict)


def _fill(
    table: dict[str, object] | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Sample:
    given_table: dict[str, object] = {"url": "amqp://x", **(table or {})}
    return fill(Sample, table=given_table, environment=environment or {}, flags=flags or {}, prefix="T_")


def test_defaults() -> None:
    """What nobody sets has its default."""
    assert _fill() == Sample(url="amqp://x", tick=3.0, count=4, on=False, name=None, labels={})


@given(
    st.none() | st.integers(1, 9),
    st.none() | st.integers(10, 19),
    st.none() | st.integers(20, 29),
)
def test_precedence(table: int | None, variable: int | None, flag: int | None) -> None:
    """Flags win over the environment, the environment over the file, and the file over the default."""
    settings = _fill(
        {} if table is None else {"count": table},
        {} if variable is None else {"T_COUNT": str(variable)},
        {"count": flag},
    )
    assert settings.count == next(value for value in (flag, variable, table, 4) if value is not None)


@pytest.mark.parametrize(
    "variable, text, name, value",
    [
        ("T_ON", "true", "on", True),
        ("T_ON", "FALSE", "on", False),
        ("T_ON", "1", "on", True),
        ("T_ON", "0", "on", False),
        ("T_COUNT", "12", "count", 12),
        ("T_TICK", "0.5", "tick", 0.5),
        ("T_TICK", "2", "tick", 2.0),
        ("T_URL", "12", "url", "12"),
        ("T_URL", "true", "url", "true"),
        ("T_NAME", "n", "name", "n"),
        ("T_LABELS", "cluster=blue, zone = 3", "labels", {"cluster": "blue", "zone": "3"}),
        ("T_LABELS", "a=b=c", "labels", {"a": "b=c"}),
        ("T_LABELS", "a=", "labels", {"a": ""}),
        ("T_LABELS", "", "labels", {}),
    ],
)
def test_texts_are_read_by_type(variable: str, text: str, name: str, value: object) -> None:
    """A text of the environment becomes what the type asks for, and stays a text where it asks for one."""
    read = getattr(_fill(environment={variable: text}), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "variable, text",
    [
        ("T_ON", "yes"),
        ("T_ON", "2"),
        ("T_COUNT", "0"),
        ("T_COUNT", "1.5"),
        ("T_COUNT", "many"),
        ("T_COUNT", ""),
        ("T_COUNT", "9" * 5000),
        ("T_TICK", "0"),
        ("T_TICK", "61"),
        ("T_TICK", "nan"),
        ("T_TICK", "inf"),
        ("T_LABELS", "cluster"),
        ("T_LABELS", "=blue"),
        ("T_LABELS", "a=1,a=2"),
        ("T_LABELS", "a=1,b"),
    ],
)
def test_wrong_texts(variable: str, text: str) -> None:
    """A text that is no such value is refused under the variable's name, with what is allowed."""
    with pytest.raises(SettingsError) as caught:
        _fill(environment={variable: text})
    assert caught.value.setting == variable
    assert caught.value.value == text
    assert caught.value.allowed


@pytest.mark.parametrize(
    "name, value",
    [
        ("count", 1.5),
        ("count", True),
        ("count", [1]),
        ("tick", True),
        ("tick", float("nan")),
        ("tick", float("inf")),
        ("on", 1),
        ("url", 5),
        ("labels", {"a": 1}),
        ("labels", ["a=b"]),
        ("labels", 5),
    ],
)
def test_wrong_values_in_the_file(name: str, value: object) -> None:
    """A value of another type in the file is refused under the setting's name."""
    with pytest.raises(SettingsError) as caught:
        _fill({name: value})
    assert caught.value.setting == name
    assert caught.value.allowed


def test_wrong_flag() -> None:
    """A flag is named as the user writes it."""
    with pytest.raises(SettingsError, match="setting --count: 'x' is not allowed; allowed: "):
        _fill(flags={"count": "x"})


def test_own_words_for_what_is_allowed() -> None:
    """A setting's own words say what is allowed, where it has them."""
    with pytest.raises(SettingsError, match="allowed: above 0 up to 60"):
        _fill({"tick": 0})


def test_unknown_settings() -> None:
    """A setting that does not exist is named, with those that do."""
    with pytest.raises(SettingsError, match=r"setting tik: 3 is not allowed; allowed: .* url, tick, count") as caught:
        _fill({"tik": 3})
    assert caught.value.setting == "tik"


def test_missing_setting() -> None:
    """A setting without a default that nobody gave is named."""
    with pytest.raises(SettingsError) as caught:
        fill(Sample, table={}, environment={}, flags={"url": None}, prefix="T_")
    assert caught.value.setting == "url"


def test_foreign_variables_are_left_alone() -> None:
    """Variables with another prefix, or of no setting, are not ours to judge."""
    assert _fill(environment={"COUNT": "x", "T_NEW": "x", "t_count": "x"}) == _fill()


def test_describe() -> None:
    """The description lists each setting with its default and its help, in order."""
    assert describe(Sample) == [
        ("url", "", "where"),
        ("tick", "3.0", "seconds"),
        ("count", "4", ""),
        ("on", "false", ""),
        ("name", "none", ""),
        ("labels", "none", "what the host is"),
    ]
