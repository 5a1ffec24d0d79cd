"""Differences of rosters: what is one, and what it makes of a roster."""

from __future__ import annotations

from typing import Final

import msgpack
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.contract import golden_messages as golden
from tests.contract.wirelings import rosters, tombstones
from vmpulse_contract import limits, stream
from vmpulse_contract.columns import from_bytes, to_bytes
from vmpulse_contract.errors import MessageError, MistypedMessage
from vmpulse_contract.identity import VmId
from vmpulse_contract.roster_change import RosterChange, applied, pack_roster_change, read_roster_change
from vmpulse_contract.stream import UNKNOWN_ELAPSED, HostFacts, Roster, Tombstone, pack_roster
from vmpulse_contract.values import ExitCode, ExitReason

HEAD: Final = [1, 1, 1]
CHANGE: Final = [5, 4, 1000, b"L" * 16, b"A" * 16 + b"B" * 16, bytes(16), bytes(16), bytes(64), []]
MOST: Final = limits.VMS_PER_HOST.maximum


def read(change: list[object]) -> RosterChange:
    """A difference as it is read."""
    return read_roster_change(msgpack.packb([*HEAD, change])).change


def but(at: int, value: object) -> list[object]:
    """The difference above with another element."""
    return [*CHANGE[:at], value, *CHANGE[at + 1 :]]


def test_a_difference_is_read() -> None:
    """It says who left and whose life is new."""
    change = read(CHANGE)
    assert (change.layout, change.base) == (5, 4)
    assert change.left_ids() == [b"L" * 16]
    assert change.vm_ids() == [b"A" * 16, b"B" * 16]


def test_later_additions_are_passed_over() -> None:
    """Elements at the end that a newer sender says change nothing; tombstones may be left out."""
    assert read([*CHANGE, {"later": 1}]) == read(CHANGE[:8]) == read(CHANGE)


@pytest.mark.parametrize(
    "change",
    [
        but(0, 4),
        but(0, 3),
        but(0, -1),
        but(1, None),
        but(2, -5),
        but(3, b"L" * 15),
        but(3, b"A" * 16),
        but(3, b"L" * 32),
        but(4, b"A" * 32),
        but(4, b"A" * 48),
        but(5, bytes(8)),
        but(6, bytes(24)),
        but(7, bytes(32)),
        but(8, [[b"x", 1, 0, 0, 0]]),
        CHANGE[:7],
        [],
    ],
)
def test_what_is_no_difference_is_refused(change: list[object]) -> None:
    """Layouts that do not rise, ragged or repeated ids, ids that both left and began, and columns that disagree."""
    with pytest.raises(MistypedMessage):
        read(change)


def test_the_golden_difference_goes_with_the_golden_roster() -> None:
    """What goes before it makes of it a roster of the VM that stayed and the one that began."""
    made = applied(golden.ROSTER, golden.ROSTER_CHANGE.change)
    assert made is not None
    assert (made.layout, made.vm_ids(), list(made.start_tokens())) == (4, [golden.B, golden.C], [0, golden.TOKEN_C])
    assert (made.elapsed(), made.facts) == ([None, 2_500], golden.ROSTER.facts)
    assert [stone.vm for stone in made.tombstones] == [golden.B, golden.A]


def roster_of(*vms: bytes, layout: int = 4, elapsed_ms: int | None = None, tombs: int = 0) -> Roster:
    """A roster of these VMs, in this order."""
    return pack_roster(
        layout=layout,
        monotonic_ms=600,
        facts=HostFacts(fqdn="h1"),
        vms=[VmId(vm) for vm in vms],
        tokens=range(1, len(vms) + 1),
        elapsed_ms=[elapsed_ms] * len(vms),
        hashes=b"".join(bytes([at % 256]) * 32 for at in range(1, len(vms) + 1)),
        tombstones=tuple(
            Tombstone(b"T" * 16, token, ExitCode.NORMAL, ExitReason.SUCCESS, token) for token in range(tombs)
        ),
    )


def test_a_difference_to_another_layout_is_not_applied() -> None:
    """The layouts say which roster it is a difference to."""
    change = read(CHANGE)
    assert applied(roster_of(b"L" * 16), change) is not None
    assert applied(roster_of(b"L" * 16, layout=3), change) is None


def test_a_roster_in_another_order_takes_no_difference() -> None:
    """The order that comes out is that of ids, so that is what has to go in."""
    assert applied(roster_of(b"C" * 16, b"L" * 16), read(CHANGE)) is not None
    assert applied(roster_of(b"L" * 16, b"C" * 16), read(CHANGE)) is None


def test_who_is_not_there_cannot_leave() -> None:
    """A VM that left and was not listed shows that the difference is to something else."""
    assert applied(roster_of(b"C" * 16), read(CHANGE)) is None


def test_no_roster_grows_beyond_the_limit() -> None:
    """A difference that would make one too long is not applied, however small it is itself."""
    most = [number.to_bytes(16, "big") for number in range(MOST - 1)]
    grown = applied(roster_of(*most, b"L" * 16), read(CHANGE))
    assert grown is None
    assert applied(roster_of(*most[1:], b"L" * 16), read(CHANGE)) is not None


def test_the_newest_tombstones_are_kept() -> None:
    """As many as a roster may have, and the new ones among them."""
    most = limits.TOMBSTONES_PER_HOST.maximum
    stone = Tombstone(b"N" * 16, 9, ExitCode.ERROR, ExitReason.GENERIC_ERROR, 700)
    change = msgspec.structs.replace(read(CHANGE), tombstones=(stone,))
    made = applied(roster_of(b"L" * 16, tombs=most), change)
    assert made is not None
    assert len(made.tombstones) == most
    assert (made.tombstones[0].token, made.tombstones[-1]) == (1, stone)


@pytest.mark.parametrize(
    "elapsed, expected",
    [(1000, 1400), (None, None), (UNKNOWN_ELAPSED - 1, None), (UNKNOWN_ELAPSED - 401, UNKNOWN_ELAPSED - 1)],
)
def test_elapsed_times_go_on(elapsed: int | None, expected: int | None) -> None:
    """Those of lives that go on grow by the time between; what is not known, or no 64 bits hold, is not known."""
    made = applied(roster_of(b"L" * 16, b"Z" * 16, elapsed_ms=elapsed), read(CHANGE))
    assert made is not None
    assert made.elapsed() == [0, 0, expected]


def test_no_time_runs_backwards() -> None:
    """A difference that seems to be from before its base makes nobody younger."""
    made = applied(roster_of(b"L" * 16, b"Z" * 16, elapsed_ms=1000), read(but(2, 500)))
    assert made is not None
    assert made.elapsed()[2] == 1000


def in_order(roster: Roster) -> Roster:
    """The same with its rows in the order of ids."""
    rows = sorted(range(roster.count), key=lambda row: roster.vms[row * 16 : row * 16 + 16])
    return msgspec.structs.replace(
        roster,
        **{
            name: b"".join(getattr(roster, name)[row * size : (row + 1) * size] for row in rows)
            for name, size in (("vms", 16), ("tokens", 8), ("elapsed_ms", 8), ("hashes", 32))
        },
    )


def rows_of(roster: Roster) -> dict[VmId, tuple[int, bytes]]:
    """Token and hashes by VM."""
    return {
        vm: (token, roster.hashes[at * 32 : at * 32 + 32])
        for at, (vm, token) in enumerate(zip(roster.vm_ids(), roster.start_tokens(), strict=True))
    }


@given(rosters().map(in_order), rosters().map(in_order), st.lists(tombstones, max_size=3), st.data())
def test_the_difference_of_two_rosters_makes_the_second_of_the_first(
    first: Roster, second: Roster, ended: list[Tombstone], data: st.DataObject
) -> None:
    """Rows that are in both stay unless they are said anew, those only in the first left, all others are said."""
    assume(first.layout < second.layout)
    before, after = rows_of(first), rows_of(second)
    again = data.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    kept = {vm: row for vm, row in before.items() if vm not in after and vm not in again}
    gone = sorted(set(before) - set(after) - set(kept))
    said = [vm for vm in second.vm_ids() if vm not in kept]
    change = pack_roster_change(
        layout=second.layout,
        base=first.layout,
        monotonic_ms=second.monotonic_ms,
        left=gone,
        vms=said,
        tokens=[after[vm][0] for vm in said],
        elapsed_ms=[None for _ in said],
        hashes=b"".join(after[vm][1] for vm in said),
        tombstones=tuple(ended),
    )
    made = applied(first, change)
    assert made is not None
    stream.check_roster(made)
    assert rows_of(made) == kept | after
    assert made.vm_ids() == sorted(made.vm_ids())
    assert (made.layout, made.monotonic_ms, made.facts) == (second.layout, second.monotonic_ms, first.facts)
    assert made.tombstones == (*first.tombstones, *ended)


@given(rosters(), st.binary(max_size=200))
def test_any_difference_is_applied_to_any_roster_or_not(roster: Roster, packed: bytes) -> None:
    """Whatever is a difference by itself makes a valid roster of another, or none."""
    vms = packed[: len(packed) // 16 * 16]
    count = len(vms) // 16
    try:
        change = read([2**64 - 1, roster.layout, 5, b"", vms, bytes(8 * count), bytes(8 * count), bytes(32 * count)])
    except MessageError:
        return
    made = applied(roster, change)
    if made is not None:
        stream.check_roster(made)
        assert to_bytes("Q", from_bytes("Q", made.tokens)) == made.tokens
