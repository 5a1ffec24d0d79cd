"""A run: so many mutated messages from one seed, with what the slowest took and how much memory there was at most."""

from __future__ import annotations

import random
import resource
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.mutating import mutated
from tests.fuzz.targets import corpus, targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.targets import Target


class Crash(NamedTuple):
    """A message that a decoder did not answer as it should."""

    target: str
    raw: bytes
    why: str


class Run(NamedTuple):
    """What a run came to. ``slowest_ms`` and ``slowest`` are of one message; ``peak_mb`` of the whole process."""

    messages: int
    crashes: list[Crash]
    slowest_ms: float
    slowest: str
    peak_mb: float


def run(seed: int, messages: int, progress: Callable[[int], None] = lambda _: None) -> Run:
    """Try so many messages, the corpus first; the same for the same seed."""
    chance, known, hostile = random.Random(seed), targets(), corpus()  # noqa: S311 - to be repeated, not kept secret
    others = [seed for target in known for seed in target.seeds] + list(hostile)
    crashes: list[Crash] = []
    slowest, where = 0.0, ""
    for number in range(messages):
        target = known[number % len(known)]
        raw = _message(target, others, hostile, number // len(known), chance)
        took, crash = tried(target, raw)
        if crash is not None:
            crashes.append(crash)
        if took > slowest:
            slowest, where = took, target.name
        if not number % 5000:
            progress(number)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Run(messages, crashes, slowest * 1000, where, peak_mb)


def _message(
    target: Target, others: list[bytes], hostile: tuple[bytes, ...], turn: int, chance: random.Random
) -> bytes:
    if turn < len(hostile):
        return hostile[turn]
    seeds = target.seeds if chance.random() < 0.9 else hostile or target.seeds
    return mutated(chance.choice(seeds), others, chance)


def tried(target: Target, raw: bytes) -> tuple[float, Crash | None]:
    """Give a target one message. Gives the seconds that it took, and what went wrong."""
    began = time.perf_counter()
    try:
        target.decode(raw)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return time.perf_counter() - began, Crash(target.name, raw, "".join(traceback.format_exception(error)))
    return time.perf_counter() - began, None
