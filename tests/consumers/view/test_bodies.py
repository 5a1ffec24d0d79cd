"""Common bodies are one object, and what is kept to find them is bounded."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.view.bodies import LARGEST, PLACES, Bodies
from vmpulse_contract.sections import Section, section_hash

COMMON = b"a body that one VM in a thousand has"


def shared(bodies: Bodies, body: bytes) -> bytes:
    """Take in a body that has just arrived, so that no other is the same object."""
    return bodies.shared(section_hash(Section.STATUS, body), bytes(bytearray(body)))


def test_equal_bodies_are_one_object() -> None:
    """Two VMs with the same section share one copy of it."""
    bodies = Bodies()
    assert shared(bodies, b"x" * 100) is shared(bodies, b"x" * 100)


@given(taken=st.lists(st.tuples(st.integers(0, 2 * PLACES), st.binary(max_size=3))))
def test_whatever_their_hashes_bodies_stay_what_they_were(taken: list[tuple[int, bytes]]) -> None:
    """No hash, be it equal to that of other bytes, gives a body that is not the one that was asked for."""
    bodies = Bodies()
    for value, body in taken:
        assert bodies.shared(value, body) == body


def test_a_common_body_among_many_others_is_a_few_objects() -> None:
    """Of 200 VMs that have the same body, among 200,000 that have their own, at most one in three has its own copy."""
    bodies, copies = Bodies(), []
    for number in range(200_000):
        shared(bodies, b"body %d" % number)
        if number % 1000 == 0:
            copies.append(shared(bodies, COMMON))
    assert len(copies) == 200
    assert len(set(map(id, copies))) < len(copies) / 3


def test_what_is_kept_of_bodies_that_nobody_holds_is_bounded() -> None:
    """However many bodies come and go, no more than a place for each of them stays, and nothing of the large ones."""
    bodies = Bodies()
    tracemalloc.start()
    for number in range(4 * PLACES):
        shared(bodies, b"%d" % number + bytes(LARGEST - 10))
        shared(bodies, b"%d" % number + bytes(8 * LARGEST))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.1 * PLACES * LARGEST
