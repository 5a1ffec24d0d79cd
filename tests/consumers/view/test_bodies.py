"""Bodies are shared by content and live as long as somebody holds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.view.bodies import Bodies


@given(taken=st.lists(st.sampled_from([b"a", b"b", b"c"])), data=st.data())
def test_a_body_lives_exactly_as_long_as_it_is_held(taken: list[bytes], data: st.DataObject) -> None:
    """After any takes and releases, what is there is what is still held, each content once."""
    bodies = Bodies()
    held = [bodies.take(bytes(bytearray(body))) for body in taken]
    keep = data.draw(st.integers(0, len(held)))
    for body in held[keep:]:
        bodies.release(body)
    assert len(bodies) == len(set(taken[:keep]))


def test_equal_bodies_are_one_object() -> None:
    """Two VMs with the same section share one copy of it."""
    bodies = Bodies()
    assert bodies.take(bytes(bytearray(b"x" * 100))) is bodies.take(bytes(bytearray(b"x" * 100)))
