"""How a view takes up what one before it has kept.

A host that was heard then is SYNCING: its VMs are shown as they were, stale and of no age, until its roster is fetched
or it is known to be silent (15 s from the first canary on). One that was LOST or STOPPED is so again. No epoch is
confirmed, since the agent may have been restarted meanwhile; hashes and bodies are held, so that what has not changed
is not fetched again.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from vmpulse_consumers.view.claims import ClaimState
from vmpulse_consumers.view.host import LOST_S, STILL_SHOWN, WIDTH, Host
from vmpulse_consumers.view.memory import CLAIM_CODES, OWNED, SPLIT, HostMemory, SectionMemory, TransitMemory
from vmpulse_consumers.view.ownership import LEFT_UNKNOWN, Transit, Vm
from vmpulse_consumers.view.states import HostInput, HostState
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import section_hash
from vmpulse_contract.stream import Tombstone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmpulse_consumers.view.memory import Kept
    from vmpulse_consumers.view.view import View

INPUT_OF_STATE: Final = {
    HostState.LOST: HostInput.REMEMBERED_LOST,
    HostState.STOPPED: HostInput.REMEMBERED_STOPPED,
}
"""All others were heard, or about to be."""
PIECE_VMS: Final = 2048
"""VMs of the hosts of a piece together, but for one that has more; 100,000 VMs with bodies take 1.1 s in all."""
PIECE_SECTIONS: Final = 50_000
ENDED: Final[Callable[[Tombstone], int]] = attrgetter("ended_ms")


def restoring(view: View, kept: Kept, now: float) -> Iterator[None]:
    """Fill a view that has heard nothing yet, in pieces of some ms, so that whoever does it can do other things too.

    Each host that was heard is asked for its roster, paced as ever. The view is not to be used before the end.
    """
    view.started = now
    view.listening.knows_fleet = bool(kept.hosts)
    sections: dict[str, list[SectionMemory]] = {}
    for number, section in enumerate(kept.sections):
        sections.setdefault(section.host, []).append(section)
        if not number % PIECE_SECTIONS:
            yield
    pieces = list(_pieces(kept.hosts))
    for piece in pieces:
        for record in piece:
            host = _host(view, record, now)
            _hold(view, host, sections.pop(host.id, ()))
            if host.state is HostState.SYNCING:
                view.asking.relist(host)
        yield
    # The owners first: who owned a VM then goes on owning it, unless another claim is stronger.
    for owned in (OWNED, 0):
        for piece in pieces:
            for record in piece:
                _claim(view, view.hosts[HostId(record.host)], record.marks, owned)
            yield
    for record in kept.hosts:
        _split(view, view.hosts[HostId(record.host)], record.marks, now)
    _transits(view, kept.transits, now)


def _pieces(records: Iterable[HostMemory]) -> Iterator[list[HostMemory]]:
    """Hosts of at most PIECE_VMS together, or one that has more."""
    piece: list[HostMemory] = []
    size = 0
    for record in records:
        if piece and size + record.roster.count > PIECE_VMS:
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += record.roster.count
    yield piece


def _host(view: View, record: HostMemory, now: float) -> Host:
    host_id = HostId(record.host)
    host = view.hosts[host_id] = Host(host_id, view.runtime.allocate(record.roster.count), now)
    given = INPUT_OF_STATE.get(record.state, HostInput.REMEMBERED)
    host.given(given, now)
    host.retired.extend(record.retired)
    if record.epoch:
        host.retired.append(record.epoch)
    host.replace_roster(record.roster, 0)
    host.unproved = {
        vm: CLAIM_CODES[code]
        for vm, code, token in zip(host.vms, record.claims, host.tokens, strict=True)
        if token and CLAIM_CODES[code] is not ClaimState.RUNNING
    }
    start = host.block.start
    view.runtime.status[start : start + len(host.vms)] = np.frombuffer(record.statuses, np.uint8)
    if host.state is HostState.SYNCING:
        host.spoke_at = STILL_SHOWN
    else:
        # What it was last said to do is long over.
        host.since = now - LOST_S
    return host


def _hold(view: View, host: Host, sections: Iterable[SectionMemory]) -> None:
    """Hold the bodies that go with their hash and with what is announced (promise V5).

    Any other may be of an earlier life: records of hosts and of sections can be of different batches.
    """
    for kept in sections:
        row = host.index.get(kept.vm)
        if row is None or kept.body is None or host.announced[row * WIDTH + kept.section] != kept.hash:
            continue
        if section_hash(kept.section, kept.body) == kept.hash:
            host.hold(kept.vm, kept.section, kept.hash, kept.body, view.bodies)


def _claim(view: View, host: Host, marks: bytes, owned: int) -> None:
    """Make the claims of a host, of VMs that it owned or of the others."""
    ends = {end.vm: end for end in sorted(host.tombstones, key=ENDED)}
    for vm_id, mark in zip(host.vms, marks, strict=True):
        if mark & OWNED != owned:
            continue
        vm = view.vms.setdefault(vm_id, Vm(vm_id))
        vm.claim(host)
        vm.remember(host)
        vm.kept_place = vm.owner
        if vm.owner is host and not vm.active_on(host):
            vm.end = ends.get(vm_id)


def _split(view: View, host: Host, marks: bytes, now: float) -> None:
    """Take up what was a split brain."""
    if max(marks, default=0) < SPLIT:
        return
    for vm_id, mark in zip(host.vms, marks, strict=True):
        if mark & SPLIT:
            view.placement.splits.remember(view.vms[vm_id], now)


def _transits(view: View, kept: Iterable[TransitMemory], now: float) -> None:
    """VMs that had left and were seen nowhere: still so, unless a claim says that it runs somewhere."""
    for record in kept:
        vm_id, source = VmId(record.vm), view.hosts.get(HostId(record.host))
        if source is None:
            continue
        vm = view.vms.setdefault(vm_id, Vm(vm_id))
        if vm.owner is None or not vm.active_on(vm.owner):
            vm.remember_transit(Transit(source, record.token, now, LEFT_UNKNOWN, record.info))
            view.transits[vm_id] = vm
            vm.kept_place = vm.transit
