"""What a host publishes in place of a roster where little has changed: the difference to the one before.

It is about membership alone: who has left, and whose life is new. Facts, and hashes of lives that go on, are as they
were; whatever a reader may have missed of these shows in the digest. The layouts say which roster it is a difference
to, and which it makes of that one, so that a lost one is noticed with the next frame or the next difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from vmpulse_contract import columns, limits, wire
from vmpulse_contract.errors import MistypedMessage, TooManyTombstones, TooManyVms
from vmpulse_contract.identity import VmId
from vmpulse_contract.stream import (
    ROW_HASH_BYTES,
    UNKNOWN_ELAPSED,
    UUID_BYTES,
    Count,
    Epoch,
    Roster,
    Tombstone,
    check_rows,
    ids_of,
    pack_elapsed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TOKEN_BYTES: Final = 8


class RosterChange(Struct, array_like=True, frozen=True):
    """The difference between two rosters of an epoch: that of ``layout``, less that of ``base``.

    ``left`` has 16 bytes for each VM that is not listed any more; ``vms``, ``tokens``, ``elapsed_ms`` and ``hashes`` as
    in a roster the rows of those that are listed newly or in another life; ``tombstones`` the ends since ``base``.
    ``monotonic_ms`` says when ``elapsed_ms`` held.
    """

    layout: Count
    base: Count
    monotonic_ms: Count
    left: bytes
    vms: bytes
    tokens: bytes
    elapsed_ms: bytes
    hashes: bytes
    tombstones: tuple[Tombstone, ...] = ()

    def vm_ids(self) -> list[VmId]:
        """The VMs that are listed newly, or in another life."""
        return ids_of(self.vms)

    def left_ids(self) -> list[VmId]:
        """The VMs that are not listed any more."""
        return ids_of(self.left)


class RosterChangeMessage(Struct, array_like=True, frozen=True):
    """A difference on the stream."""

    version: int
    epoch: Epoch
    seq: Count
    change: RosterChange


def pack_roster_change(
    *,
    layout: int,
    base: int,
    monotonic_ms: int,
    left: Iterable[VmId],
    vms: Sequence[VmId],
    tokens: Iterable[int],
    elapsed_ms: Iterable[int | None],
    hashes: bytes,
    tombstones: tuple[Tombstone, ...],
) -> RosterChange:
    """Build a difference from values. Raises MessageError for one that no reader would take."""
    change = RosterChange(
        layout,
        base,
        monotonic_ms,
        b"".join(left),
        b"".join(vms),
        columns.to_bytes("Q", tokens),
        pack_elapsed(elapsed_ms),
        hashes,
        tombstones,
    )
    check_roster_change(change)
    return change


def check_roster_change(change: RosterChange) -> None:
    """Hold a difference to the limits and to itself: counts agree, and no VM is named twice. Raises MessageError."""
    gone, ragged = divmod(len(change.left), UUID_BYTES)
    if gone > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(gone, "roster change")
    if ragged:
        raise MistypedMessage(f"not a RosterChange: {len(change.left)} bytes of VMs that left are no whole ids")
    if change.layout <= change.base:
        raise MistypedMessage(f"not a RosterChange: layout {change.layout} does not follow {change.base}")
    if len(change.tombstones) > limits.TOMBSTONES_PER_HOST.maximum:
        raise TooManyTombstones(len(change.tombstones), "roster change")
    check_rows(change, "roster change")
    if len({*change.left_ids(), *change.vm_ids()}) != gone + len(change.vms) // UUID_BYTES:
        raise MistypedMessage("not a RosterChange: a VM is named twice")


def read_roster_change(raw: bytes) -> RosterChangeMessage:
    """Decode and check a difference. Raises MessageError."""
    message = wire.read_stream(raw, RosterChangeMessage)
    check_roster_change(message.change)
    return message


class _Row(NamedTuple):
    """One VM's part of a roster, packed."""

    token: bytes
    elapsed_ms: int
    hashes: bytes


def applied(base: Roster, change: RosterChange) -> Roster | None:
    """The roster that a difference makes of the one held.

    None: it is no difference to this one, or a roster by it would be none: its layout is not that of ``base``, its VMs
    are not in the order of their ids, a VM that left is not in it, or it would have too many VMs.
    """
    ids = base.vm_ids()
    if change.base != base.layout or ids != sorted(ids):
        return None
    rows = _rows(base, max(0, change.monotonic_ms - base.monotonic_ms))
    for vm in change.left_ids():
        if rows.pop(vm, None) is None:
            return None
    rows.update(_rows(change, 0))
    if len(rows) > limits.VMS_PER_HOST.maximum:
        return None
    vms = sorted(rows)
    tombstones = (*base.tombstones, *change.tombstones)[-limits.TOMBSTONES_PER_HOST.maximum :]
    return Roster(
        change.layout,
        change.monotonic_ms,
        base.facts,
        b"".join(vms),
        b"".join([rows[vm].token for vm in vms]),
        columns.to_bytes("Q", [rows[vm].elapsed_ms for vm in vms]),
        b"".join([rows[vm].hashes for vm in vms]),
        tombstones,
    )


def _rows(packed: Roster | RosterChange, later_ms: int) -> dict[VmId, _Row]:
    """The rows by VM, as they are so much later. A time that no 64 bits hold is not known."""
    elapsed = columns.from_bytes("Q", packed.elapsed_ms)
    tokens, hashes = packed.tokens, packed.hashes
    return {
        vm: _Row(
            tokens[at * TOKEN_BYTES : (at + 1) * TOKEN_BYTES],
            min(elapsed[at] + later_ms, UNKNOWN_ELAPSED),
            hashes[at * ROW_HASH_BYTES : (at + 1) * ROW_HASH_BYTES],
        )
        for at, vm in enumerate(packed.vm_ids())
    }
