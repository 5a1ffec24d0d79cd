"""What outlives a view: marks of what has changed, and the records that are kept of it.

The view marks what is new; a store takes the records in batches (``drain``), writes them, and gives a batch back that
it could not write (``again``). A batch is one moment's picture of what it names. Never kept: runtime values, which
every frame brings anew, and device statistics.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from msgspec import Struct, structs

from vmpulse_consumers.view.claims import ClaimState
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import wire
from vmpulse_contract.errors import MistypedMessage
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import BODIED, Section
from vmpulse_contract.stream import Count, Roster, Uuid, check_roster, pack_elapsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.runtime import Runtime

HOSTS_A_BATCH: Final = 100
VMS_A_BATCH: Final = 4096
"""Of the hosts of a batch together, but for one that has more; they take 2 ms of the event loop."""
SECTIONS_A_BATCH: Final = 2000
"""They take another 3 ms."""
CLAIM_CODES: Final = (ClaimState.RUNNING, ClaimState.MET, ClaimState.BEGUN)
"""How ``HostMemory.claims`` says it; RUNNING stands for whatever follows from the roster."""


OWNED: Final = 1
"""In ``HostMemory.marks``: the host owns the VM."""
SPLIT: Final = 2
"""In ``HostMemory.marks``: the VM is a split brain."""


class HostMemory(Struct, array_like=True, frozen=True):
    """What is kept of one host.

    ``epoch``: the confirmed one, 0 for none; ``roster``: what it lists and has announced; ``statuses``, ``claims``
    and ``marks``: a byte for each VM, a VmStatus, one of CLAIM_CODES, and the sum of OWNED and SPLIT.
    """

    host: str
    state: HostState
    epoch: Count
    retired: tuple[Count, ...]
    roster: Roster
    statuses: bytes
    claims: bytes
    marks: bytes

    def check(self) -> None:
        """Hold it to itself, as whatever is read from a file. Raises MessageError."""
        check_roster(self.roster)
        lengths = {len(self.statuses), len(self.claims), len(self.marks)}
        if lengths != {self.roster.count} or (self.claims and max(self.claims) >= len(CLAIM_CODES)):
            raise MistypedMessage(f"not a HostMemory: its columns do not go with {self.roster.count} VMs")


class SectionMemory(NamedTuple):
    """A held hash with its body; with None for a body it is kept no more."""

    host: HostId
    vm: VmId
    section: Section
    hash: int
    body: bytes | None


class TransitMemory(Struct, array_like=True, frozen=True):
    """A VM that has left ``host``, where its life was ``token``, and was not seen elsewhere; ``info`` as held then."""

    vm: Uuid
    host: str
    token: Count
    info: bytes | None


class Batch(NamedTuple):
    """What to write at once: records to put, and keys of what is kept no more."""

    hosts: tuple[HostMemory, ...] = ()
    forgotten: tuple[HostId, ...] = ()
    sections: tuple[SectionMemory, ...] = ()
    transits: tuple[TransitMemory, ...] = ()
    settled: tuple[VmId, ...] = ()
    failed: tuple[tuple[HostId, Exception], ...] = ()
    """Hosts whose record could not be put together, by a fault of ours: it costs them their memory, and nobody else."""

    def __bool__(self) -> bool:
        return any(self[:])


class Kept(NamedTuple):
    """All that a store has kept."""

    hosts: tuple[HostMemory, ...] = ()
    sections: tuple[SectionMemory, ...] = ()
    transits: tuple[TransitMemory, ...] = ()


class Memory:
    """Marks of what has changed since it was kept last. ``keeping``: whether anybody keeps it; else none is made."""

    def __init__(self) -> None:
        self.keeping = False
        self._hosts: dict[HostId, None] = {}
        self._forgotten: dict[HostId, None] = {}
        self._sections: dict[tuple[HostId, VmId, Section], None] = {}
        self._transits: dict[VmId, None] = {}

    def __bool__(self) -> bool:
        return bool(self._hosts or self._forgotten or self._sections or self._transits)

    # --- marks --------------------------------------------------------------------------------------------------

    def host(self, host: HostId) -> None:
        """What is kept of a host has changed, its sections apart."""
        if self.keeping:
            self._hosts[host] = None

    def section(self, host: HostId, vm: VmId, section: Section) -> None:
        """A body is held anew, or no more."""
        if self.keeping:
            self._sections[host, vm, section] = None

    def vm_left(self, host: HostId, vm: VmId) -> None:
        """A host no longer lists a VM, or lists another life of it."""
        for section in BODIED:
            self.section(host, vm, section)

    def transit(self, vm: VmId) -> None:
        """A VM is in transit, or no more."""
        if self.keeping:
            self._transits[vm] = None

    def forgotten(self, host: HostId) -> None:
        """A host is GONE, and with it all that is kept of it."""
        if self.keeping:
            self._hosts.pop(host, None)
            self._sections = {key: None for key in self._sections if key[0] != host}
            self._forgotten[host] = None

    def again(self, batch: Batch) -> None:
        """A batch was not written: mark everything in it anew."""
        for kept in batch.hosts:
            self._hosts[HostId(kept.host)] = None
        self._forgotten.update(dict.fromkeys(batch.forgotten))
        self._sections.update({(kept.host, kept.vm, kept.section): None for kept in batch.sections})
        self._transits.update(dict.fromkeys([*(VmId(kept.vm) for kept in batch.transits), *batch.settled]))

    # --- records ------------------------------------------------------------------------------------------------

    def drain(self, hosts: Mapping[HostId, Host], vms: Mapping[VmId, Vm], runtime: Runtime) -> Batch:
        """Hand out the next batch: a bounded part of what is marked, as it is now."""
        forgotten = tuple(self._forgotten)
        self._forgotten.clear()
        changed, records, failed = self._changed(hosts), [], []
        for host in changed:
            try:
                records.append(remembered(host, vms, runtime))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the batch
                failed.append((host.id, error))
        sections = _taken(self._sections, SECTIONS_A_BATCH)
        moved = _taken(self._transits, SECTIONS_A_BATCH)
        transits = {vm: record for vm in moved if (record := _transit(vms.get(vm))) is not None}
        return Batch(
            tuple(records),
            forgotten,
            tuple(_section(hosts.get(host), host, vm, section) for host, vm, section in sections),
            tuple(transits.values()),
            tuple(vm for vm in moved if vm not in transits),
            tuple(failed),
        )

    def _changed(self, hosts: Mapping[HostId, Host]) -> list[Host]:
        """Take the hosts marked longest, as many as a batch may have."""
        found: list[Host] = []
        room = VMS_A_BATCH
        for key in list(islice(self._hosts, HOSTS_A_BATCH)):
            host = hosts.get(key)
            if host is not None and found and len(host.vms) > room:
                break
            del self._hosts[key]
            if host is not None:
                found.append(host)
                room -= len(host.vms)
        return found


Key = TypeVar("Key")


def _taken(marks: dict[Key, None], most: int) -> list[Key]:
    """Take the oldest marks."""
    keys = list(islice(marks, most))
    for key in keys:
        del marks[key]
    return keys


def remembered(host: Host, vms: Mapping[VmId, Vm], runtime: Runtime) -> HostMemory:
    """Put together what is kept of a host."""
    # Elapsed times are on the clock of an epoch that may be over when they are read.
    roster = structs.replace(host.roster(), elapsed_ms=pack_elapsed(None for _ in host.vms))
    statuses = runtime.status[host.block.start : host.block.start + host.block.size].tobytes()
    claims = bytes(CLAIM_CODES.index(host.unproved.get(vm, ClaimState.RUNNING)) for vm in host.vms)
    marks = bytes(OWNED * (vms[vm].owner is host) + SPLIT * vms[vm].split for vm in host.vms)
    return HostMemory(host.id, host.state, host.epoch, tuple(host.retired), roster, statuses, claims, marks)


def _section(host: Host | None, host_id: HostId, vm: VmId, section: Section) -> SectionMemory:
    row = None if host is None else host.index.get(vm)
    if host is None or row is None:
        return SectionMemory(host_id, vm, section, 0, None)
    return SectionMemory(host_id, vm, section, host.held[row * WIDTH + section], host.body(row, section))


def _transit(vm: Vm | None) -> TransitMemory | None:
    if vm is None or vm.transit is None:
        return None
    left = vm.transit
    return TransitMemory(vm.id, left.host.id, left.token, left.info)


def read_host(raw: bytes) -> HostMemory:
    """Read a host's record as it was written by ``wire.write``. Raises MessageError."""
    kept = wire.read(raw, HostMemory)
    kept.check()
    return kept


def read_transit(raw: bytes) -> TransitMemory:
    """Read a transit's record as it was written by ``wire.write``. Raises MessageError."""
    return wire.read(raw, TransitMemory)
