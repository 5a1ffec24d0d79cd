"""The host's state machine is its table."""

from __future__ import annotations

import pytest

from vmpulse_consumers.errors import IllegalTransition
from vmpulse_consumers.view.host import Host
from vmpulse_consumers.view.runtime import Block
from vmpulse_consumers.view.states import TABLE, HostInput, HostState, step
from vmpulse_contract.identity import HostId

MISSING = [(state, given) for state in HostState for given in HostInput if given not in TABLE[state]]


@pytest.mark.parametrize("state,given", MISSING)
def test_a_missing_entry_is_a_typed_error_that_changes_nothing(state: HostState, given: HostInput) -> None:
    """What the table does not have is refused, and the host stays as it was."""
    host = Host(HostId("h"), Block(0, 0, 1), now=1.0)
    host.state = state
    with pytest.raises(IllegalTransition) as caught:
        host.given(given, now=2.0)
    assert (caught.value.state, caught.value.given) == (state, given)
    assert (host.state, host.since) == (state, 1.0)


def test_every_state_can_be_reached_and_left() -> None:
    """No state is dead: each is some entry's result, and each has a way out."""
    reached = {new for inputs in TABLE.values() for state, new in inputs.items()}
    assert reached | {HostState.UNKNOWN} == set(HostState)
    assert all(any(new is not state for new in inputs.values()) for state, inputs in TABLE.items())


def test_lost_is_never_dead() -> None:
    """A lost host that is heard again is live again, without anybody's help."""
    assert step(HostState.LOST, HostInput.HEARD) is HostState.LIVE
