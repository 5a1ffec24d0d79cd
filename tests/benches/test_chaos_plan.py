"""The plan of a chaos run: the same for the same seed, and never two faults that take hold of the same part."""

from __future__ import annotations

from itertools import islice

import pytest

from benches.chaos.faults import EFFECTS
from benches.chaos.plan import TABLE, Fault, Kind, Part, Plan
from vmpulse_consumers.view.host import LOST_S

GROUPS = 5


def rounds(seed: int, count: int, *kinds: Kind) -> list[tuple[Fault, ...]]:
    """The first rounds of a plan."""
    plan = Plan(seed, GROUPS, kinds)
    return list(islice(iter(plan.next_round, None), count))


def test_seed_decides_everything() -> None:
    """Equal seeds give equal rounds, other seeds others."""
    assert rounds(7, 50) == rounds(7, 50)
    assert rounds(7, 50) != rounds(8, 50)


def test_each_kind_can_be_drawn_and_has_its_turn() -> None:
    """Every kind has a nature and an effect, and comes at least once in as many rounds as there are kinds."""
    assert set(TABLE) == set(EFFECTS) == set(Kind)
    assert {fault.kind for faults in rounds(3, len(Kind)) for fault in faults} == set(Kind)


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_a_round_keep_out_of_each_others_way(seed: int) -> None:
    """The second fault begins while the first lasts, and takes hold of other parts."""
    pairs = [faults for faults in rounds(seed, 40) if len(faults) > 1]
    assert pairs
    for first, second in pairs:
        assert not TABLE[first.kind].parts & TABLE[second.kind].parts
        assert first.begins_s <= second.begins_s <= first.ends_s


@pytest.mark.parametrize("seed", range(20))
def test_faults_are_within_their_bounds(seed: int) -> None:
    """A fault lasts as long as its kind may, and takes hold of groups that are there, if of agents at all."""
    for fault in (fault for faults in rounds(seed, 40) for fault in faults):
        least, most = TABLE[fault.kind].lasts_s
        assert least <= fault.lasts_s <= most
        assert set(fault.groups) <= set(range(GROUPS))
        assert len(set(fault.groups)) == len(fault.groups)
        assert bool(fault.groups) is (Part.AGENTS in TABLE[fault.kind].parts)
        assert bool(fault.bytes_s) is (fault.kind in {Kind.VIEW_SLOW, Kind.AGENTS_SLOW})


def test_many_faults_last_longer_than_silence_may() -> None:
    """Neither nearly all nor nearly none of them do: what short ones do is of interest too."""
    lasting = [fault.lasts_s for faults in rounds(1, 200) for fault in faults]
    assert 0.3 < sum(lasts_s > LOST_S for lasts_s in lasting) / len(lasting) < 0.5


def test_only_the_kinds_that_are_asked_for_come() -> None:
    """A plan of some kinds draws no other."""
    drawn = {fault.kind for faults in rounds(1, 30, Kind.VIEW_KILLED, Kind.AGENTS_CUT) for fault in faults}
    assert drawn == {Kind.VIEW_KILLED, Kind.AGENTS_CUT}
