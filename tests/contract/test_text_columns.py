"""Columns of texts: what was written is read, and what does not hold together is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import text_columns
from vmpulse_contract.errors import MistypedMessage, TextTooLong


@given(st.lists(st.none() | wirelings.texts, max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_texts_round_trip(texts: list[str | None], first: int, end: int) -> None:
    """A column gives its texts back, in whole and in part, and knows whether one is unknown."""
    column = text_columns.pack(texts)
    text_columns.check(column, len(texts), "here")
    assert list(text_columns.unpack_some(column, 0, len(texts))) == texts
    first, end = sorted((min(first, len(texts)), min(end, len(texts))))
    assert list(text_columns.unpack_some(column, first, end)) == texts[first:end]
    assert text_columns.has_unknown(column, len(texts)) == (None in texts)


def test_texts_are_counted_and_bounded() -> None:
    """More or fewer texts than rows are refused, and a text that is too long, whichever form it comes in."""
    for column in ((), ("a",), ("a", "b", "c")):
        with pytest.raises(MistypedMessage, match="does not hold 2"):
            text_columns.check(column, 2, "here")
    for long in ("x" * 257, ("a", "x" * 257)):
        with pytest.raises(TextTooLong, match="here"):
            text_columns.check(long, 2, "here")
