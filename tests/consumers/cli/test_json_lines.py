"""JSON for people's terminals too: what is written shows, and reads back as what it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.cli.json_lines import printable, say_json


@given(st.text(st.characters()))
def test_nothing_but_what_shows_is_written_and_it_reads_back(text: str) -> None:
    """Whatever a name has in it, controls, turned writing, line ends or half characters."""
    written = printable(json.dumps({"name": text}, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == {"name": text}


def test_a_terminal_is_not_steered(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence of one character, turned writing and an invisible tag beyond 16 bits are written out."""
    say_json('"a\x9b2J\u202eb\U000e0041"'.encode())
    assert capsys.readouterr().out == '"a\\u009b2J\\u202eb\\udb40\\udc41"\n'
