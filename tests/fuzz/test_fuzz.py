"""A short run of what `make fuzz` does for a million messages, and what is known to hurt."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import running
from tests.fuzz.mutating import LARGEST, mutated
from tests.fuzz.targets import Target, corpus, targets

ALL = {target.name: target for target in targets()}
SEEDS = [seed for target in ALL.values() for seed in target.seeds]
LONGEST_S = 1.0
"""Of one message, on a machine that does something else as well; most take microseconds."""


@pytest.mark.parametrize("name", ALL)
def test_what_is_known_to_hurt_is_refused_quickly(name: str) -> None:
    """Bombs, nesting, repeated keys, NaN, entities, control characters: every decoder answers with its own error."""
    assert len(corpus()) >= 10
    for raw in corpus():
        took, crash = running.tried(ALL[name], raw)
        assert crash is None, crash.why
        assert took < LONGEST_S


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_what_decoders_take(name: str) -> None:
    """What is mutated begins as something right, or nothing deep would be reached."""
    for raw in ALL[name].seeds:
        took, crash = running.tried(ALL[name], raw)
        assert crash is None, crash.why
        assert took < LONGEST_S


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=200, deadline=None)
@given(chance=st.randoms(use_true_random=False), data=st.data())
def test_mutated_messages_crash_nothing(name: str, chance: random.Random, data: st.DataObject) -> None:
    """Whatever is said, a decoder reads it or refuses it; the shortest message that crashes one is shown."""
    target = ALL[name]
    raw = mutated(data.draw(st.sampled_from(target.seeds)), SEEDS, chance)
    _, crash = running.tried(target, raw)
    assert crash is None, crash.why


def test_a_run_tells_of_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that fails on one byte is found, with the message and the traceback."""

    def fragile(raw: bytes) -> None:
        if b"\x01" in raw:
            raise IndexError(len(raw))

    _only(monkeypatch, fragile)
    found = running.run(seed=1, messages=2000)
    assert found.crashes
    assert all(b"\x01" in crash.raw and "IndexError" in crash.why for crash in found.crashes)


def test_a_run_is_the_same_for_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a finding can be repeated."""
    said: list[bytes] = []
    _only(monkeypatch, said.append)
    running.run(seed=7, messages=500)
    first = said.copy()
    said.clear()
    running.run(seed=7, messages=500)
    assert said == first
    assert max(map(len, said)) <= LARGEST


def _only(monkeypatch: pytest.MonkeyPatch, decode: Callable[[bytes], object]) -> None:
    monkeypatch.setattr(running, "targets", lambda: [Target("only", (b"\x93\x02\x03\x04",), decode)])
