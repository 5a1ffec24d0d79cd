"""Log lines: what others say stays inside the line that tells of it."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

from vmpulse_edges.logs import FIELDS, LineFormatter


def written(said: str, formatter: logging.Formatter, *, as_error: bool = False) -> str:
    """A record about what somebody said, as it is written."""
    error = ValueError(said)
    info = (ValueError, error, None) if as_error else None
    return formatter.format(logging.LogRecord("vmpulse", logging.WARNING, "", 0, "host said %s", (said,), info))


@given(st.text())
def test_nobody_writes_a_line_of_their_own(said: str) -> None:
    """Whatever is said, it is one line, without a character that a terminal would obey."""
    line = written(said, LineFormatter(FIELDS))
    assert line.splitlines() == [line]
    assert line.isprintable()


@pytest.mark.parametrize("category", ["Cc", "Cf", "Zl", "Zp"])
def test_what_nobody_sees_is_written_out(category: str) -> None:
    """Every control, format character and line end that Unicode has, by name or number; none is left as it is."""
    those = [one for one in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(one) == category]
    assert those
    for one in those:
        line = written(f"a{one}b", LineFormatter(FIELDS))
        assert line.endswith(f"host said a{one.encode('unicode_escape').decode('ascii')}b"), hex(ord(one))


@pytest.mark.parametrize("said", ["José", "名前", "Grüße", "שלום", "مرحبا", "\N{THUMBS UP SIGN}", "a b"])
def test_honest_words_are_left_alone(said: str) -> None:
    """Names of people and places stay readable."""
    assert written(said, LineFormatter(FIELDS)).endswith(f"host said {said}")


@given(st.text())
def test_no_line_of_a_traceback_passes_for_a_record(said: str) -> None:
    """The lines after the first are indented, also where the error's own text has line ends."""
    first, *others = written(said, LineFormatter(FIELDS), as_error=True).split("\n")
    assert " WARNING vmpulse host said " in first
    assert others
    assert all(line.startswith("    ") for line in others)


@given(st.text())
def test_json_is_one_line_too(said: str) -> None:
    """And what was said can be had back as it was."""
    line = written(said, JsonFormatter(FIELDS), as_error=True)
    assert "\n" not in line
    assert json.loads(line)["message"] == f"host said {said}"


@pytest.mark.parametrize("said", ["\x1b[2J", "a\nb", "\u202eabc", "\u200fabc", "\u061cabc", "\u2028", "\x9b31m"])
def test_what_terminals_obey_is_written_out(said: str) -> None:
    """Colours, line ends and turned writing are shown as what they are."""
    assert said not in written(said, LineFormatter(FIELDS))
