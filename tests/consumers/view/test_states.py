"""The state machines are their tables: hosts, claims, places, split brains, and succession."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from vmpulse_consumers.errors import IllegalTransition
from vmpulse_consumers.view.claims import CLAIMS, SUCCESSION, ClaimInput, ClaimState, Standing, takes_over
from vmpulse_consumers.view.host import Host
from vmpulse_consumers.view.ownership import PLACES, PlaceInput, PlaceState, Vm
from vmpulse_consumers.view.runtime import Block
from vmpulse_consumers.view.splits import SPLITS, SplitInput, SplitState
from vmpulse_consumers.view.states import TABLE, HostInput, HostState, step
from vmpulse_contract.identity import HostId, VmId

TABLES: dict[str, tuple[Any, type[StrEnum], type[StrEnum], StrEnum]] = {
    "host": (TABLE, HostState, HostInput, HostState.UNKNOWN),
    "claim": (CLAIMS, ClaimState, ClaimInput, ClaimState.NONE),
    "place": (PLACES, PlaceState, PlaceInput, PlaceState.NOWHERE),
    "split": (SPLITS, SplitState, SplitInput, SplitState.SINGLE),
}
LAST = {HostState.GONE}
"""States without a way out."""
MISSING = [
    (name, state, given)
    for name, (table, states, inputs, _) in TABLES.items()
    for state, given in product(states, inputs)
    if given not in table[state]
]


@pytest.mark.parametrize("name,state,given", MISSING)
def test_a_missing_entry_is_a_typed_error(name: str, state: StrEnum, given: StrEnum) -> None:
    """What a table does not have is refused, and the error names both."""
    with pytest.raises(IllegalTransition) as caught:
        step(TABLES[name][0], state, given)
    assert (caught.value.state, caught.value.given) == (state, given)


@pytest.mark.parametrize("state,given", [(state, given) for name, state, given in MISSING if name == "host"])
def test_a_missing_entry_changes_nothing_of_a_host(state: HostState, given: HostInput) -> None:
    """The host stays as it was."""
    host = Host(HostId("h"), Block(0, 0, 1), now=1.0)
    host.state = state
    with pytest.raises(IllegalTransition):
        host.given(given, now=2.0)
    assert (host.state, host.since) == (state, 1.0)


def test_a_missing_entry_changes_nothing_of_a_place() -> None:
    """A VM that is nowhere cannot be given up, and stays nowhere."""
    host = Host(HostId("h"), Block(0, 0, 1), now=1.0)
    vm = Vm(VmId(bytes(16)))
    with pytest.raises(IllegalTransition):
        vm.end_transit(host)
    assert (vm.place, vm.owner, vm.transit, vm.claims) == (PlaceState.NOWHERE, None, None, ())


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached_and_left(name: str) -> None:
    """No state is dead: each is the first or some entry's result, and each but the last has a way out."""
    table, states, _, first = TABLES[name]
    reached = {new for inputs in table.values() for new in inputs.values()} | {first}
    assert reached == set(states) == set(table)
    assert all(any(new is not state for new in table[state].values()) for state in set(states) - LAST)


def test_lost_is_never_dead() -> None:
    """A lost host that is heard again is live again, without anybody's help."""
    assert step(TABLE, HostState.LOST, HostInput.HEARD) is HostState.LIVE


def test_succession_is_said_for_each_pair() -> None:
    """Whether a challenger takes over is said for each standing of either, but for an owner that has just turned."""
    assert set(SUCCESSION) == set(product(set(Standing) - {Standing.TURNED}, Standing))
    with pytest.raises(IllegalTransition):
        takes_over(Standing.TURNED, Standing.RUNNING)


def test_nobody_takes_over_from_an_equal() -> None:
    """Saying the same again moves nothing."""
    assert not any(takes_over(standing, standing) for standing in set(Standing) - {Standing.TURNED})


def test_no_down_claim_takes_over_from_anybody() -> None:
    """Where a VM is defined says nothing of where it runs, whoever is silent."""
    down = {Standing.DOWN, Standing.DOWN_SILENT}
    assert not any(takes_over(owner, challenger) for owner, challenger in SUCCESSION if challenger in down)
