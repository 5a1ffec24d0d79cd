"""What a host publishes unasked: frames, rosters, change events and the goodbye.

Each body is an array that begins with version, epoch, seq. ``seq`` counts the stream's messages within the epoch, from
1. The host is not in the body: it is the routing key's first word and the broker-checked user_id, and nothing else.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from msgspec import Meta, Struct

from vmpulse_contract import columns, limits, sections, wire
from vmpulse_contract.columns import Column
from vmpulse_contract.errors import MistypedMessage, TooManyLabels, TooManyTombstones, TooManyVms
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason, GoodbyeReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UUID_BYTES: Final = 16
HASH_BYTES: Final = 8
ROW_HASH_BYTES: Final = HASH_BYTES * len(Section)
ROW_BYTES: Final = UUID_BYTES + 8 + 8 + ROW_HASH_BYTES
"""What a VM takes in a roster."""
UNKNOWN_ELAPSED: Final = (1 << 64) - 1

Count = Annotated[int, Meta(ge=0)]
Epoch = Annotated[int, Meta(ge=1)]
"""Never 0: that is how readers say "none yet"."""
Hash = Annotated[int, Meta(ge=1)]
"""The hash of a section that is known; the packed hashes of rosters may also be ABSENT."""
Uuid = Annotated[bytes, Meta(min_length=UUID_BYTES, max_length=UUID_BYTES)]

CPU_UNIT: Final = 0.1
"""Percent of one CPU per unit of a CPU column; a 64-vCPU VM at 6,400 % is 64,000 and fits 16 bits."""
LARGEST_STATUS: Final = 255
"""Statuses fit 8 bits: a reader that keeps them so cannot be made to read 257 as 1."""
AGE_UNIT: Final = 0.1
"""Seconds per unit of the age column; rounded up, for an age may never be too young (promise V7)."""


HOST_CPU_UNIT: Final = 0.1
"""Percent of all CPUs of the host per unit of its CPU shares."""
HOST_LOAD_UNIT: Final = 0.01
"""Runnable tasks per unit of a host's load average."""
Share = Annotated[int, Meta(ge=0, le=1000)]


class HostValues(Struct, array_like=True, frozen=True, gc=False):
    """What changes of a host's own statistics; each None where unknown. What seldom changes is in HostFacts.

    ``cpu_user`` and ``cpu_sys`` in HOST_CPU_UNIT, ``cpu_load`` (over a minute) in HOST_LOAD_UNIT, ``mem_used`` and
    ``swap_used`` in MiB.
    """

    cpu_user: Share | None = None
    cpu_sys: Share | None = None
    cpu_load: Count | None = None
    mem_used: Count | None = None
    swap_used: Count | None = None


class Frame(Struct, array_like=True, frozen=True, gc=False):
    """One host's runtime stats for one tick, as columns in layout order, and the host's own.

    The columns' units: ``status`` VmStatus numbers, ``cpu_user`` and ``cpu_sys`` CPU_UNIT, ``mem_usage`` whole percent,
    ``stats_age`` AGE_UNIT. ``monotonic_ms`` is the agent's monotonic time since its epoch began. ``digest`` covers all
    that the host has announced before this frame. ``host_stats`` None: unknown.
    """

    version: int
    epoch: Epoch
    seq: Count
    layout: Count
    count: Count
    digest: Count
    monotonic_ms: Count
    status: Column
    cpu_user: Column
    cpu_sys: Column
    mem_usage: Column
    stats_age: Column
    host_stats: HostValues | None = None

    @property
    def columns(self) -> tuple[Column, Column, Column, Column, Column]:
        """All columns, in wire order."""
        return self.status, self.cpu_user, self.cpu_sys, self.mem_usage, self.stats_age


def read_frame(raw: bytes) -> Frame:
    """Decode and check a frame: afterwards each column holds exactly ``count`` values. Raises MessageError."""
    frame = wire.read_stream(raw, Frame)
    count = frame.count
    if count > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(count, "frame")
    columns.check(frame.status, count, LARGEST_STATUS)
    for column in (frame.cpu_user, frame.cpu_sys, frame.mem_usage, frame.stats_age):
        columns.check(column, count)
    return frame


class HostFacts(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a host says of itself in its rosters. ``tick_ms`` is its cadence: readers judge silence by it.

    ``mem_total`` and ``swap_total`` in MiB.
    """

    tick_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 3000
    fqdn: str | None = None
    host_uuid: str | None = None
    agent_version: str | None = None
    hypervisor_version: str | None = None
    libvirt_version: str | None = None
    cpu_count: Count | None = None
    mem_total: Count | None = None
    swap_total: Count | None = None
    labels: dict[str, str] = {}


class Tombstone(Struct, array_like=True, frozen=True):
    """The end of one incarnation. ``ended_ms`` is on the epoch's monotonic clock; negative: before the epoch began."""

    vm: Uuid
    token: Count
    exit_code: ExitCode
    exit_reason: ExitReason
    ended_ms: int


class Roster(Struct, array_like=True, frozen=True):
    """All VMs of a host in layout order: active domains and persistent inactive ones, plus recent tombstones.

    Packed as it travels: ``vms`` 16 bytes a VM; ``tokens`` 8 bytes a VM, the start token, 0 for an inactive VM;
    ``elapsed_ms`` 8 bytes a VM, all bits set where unknown; ``hashes`` 32 bytes a VM in Section order, 0 for ABSENT.
    Integers are little-endian. ``monotonic_ms`` says when ``elapsed_ms`` held.
    """

    layout: Count
    monotonic_ms: Count
    facts: HostFacts
    vms: bytes
    tokens: bytes
    elapsed_ms: bytes
    hashes: bytes
    tombstones: tuple[Tombstone, ...] = ()

    @property
    def count(self) -> int:
        """How many VMs the roster names."""
        return len(self.vms) // UUID_BYTES

    def vm_ids(self) -> list[VmId]:
        """The VMs in layout order."""
        return ids_of(self.vms)

    def start_tokens(self) -> array[int]:
        """Start tokens in layout order; 0: inactive."""
        return columns.from_bytes("Q", self.tokens)

    def elapsed(self) -> list[int | None]:
        """Milliseconds since each VM's start, in layout order."""
        return [None if value == UNKNOWN_ELAPSED else value for value in columns.from_bytes("Q", self.elapsed_ms)]

    def announced(self) -> array[int]:
        """Hashes, four a VM, in layout and Section order."""
        return columns.from_bytes("Q", self.hashes)

    def digest(self) -> int:
        """The digest that a frame of this host carries if nothing was announced since."""
        return sections.digest(self.vms, self.hashes)


def pack_roster(
    *,
    layout: int,
    monotonic_ms: int,
    facts: HostFacts,
    vms: Sequence[VmId],
    tokens: Iterable[int],
    elapsed_ms: Iterable[int | None],
    hashes: bytes,
    tombstones: tuple[Tombstone, ...],
) -> Roster:
    """Build a roster from values. Raises LimitBreached for a host beyond the limits."""
    roster = Roster(
        layout,
        monotonic_ms,
        facts,
        b"".join(vms),
        columns.to_bytes("Q", tokens),
        pack_elapsed(elapsed_ms),
        hashes,
        tombstones,
    )
    check_roster(roster)
    return roster


def pack_elapsed(elapsed_ms: Iterable[int | None]) -> bytes:
    """Pack milliseconds as a roster has them."""
    return columns.to_bytes("Q", [UNKNOWN_ELAPSED if value is None else value for value in elapsed_ms])


def ids_of(packed: bytes) -> list[VmId]:
    """The VMs of packed ids, in their order."""
    return [VmId(packed[at : at + UUID_BYTES]) for at in range(0, len(packed), UUID_BYTES)]


def check_roster(roster: Roster) -> None:
    """Hold a roster to the limits and to itself: equal counts, no VM named twice. Raises MessageError."""
    if len(roster.tombstones) > limits.TOMBSTONES_PER_HOST.maximum:
        raise TooManyTombstones(len(roster.tombstones), "roster")
    check_rows(roster, "roster")
    _check_facts(roster.facts)


class Rows(Protocol):
    """What has packed rows of VMs: a roster, or a part of one."""

    @property
    def vms(self) -> bytes:
        """16 bytes a VM."""

    @property
    def tokens(self) -> bytes:
        """8 bytes a VM."""

    @property
    def elapsed_ms(self) -> bytes:
        """8 bytes a VM."""

    @property
    def hashes(self) -> bytes:
        """32 bytes a VM."""


def check_rows(rows: Rows, where: str) -> None:
    """Hold packed rows to the limits and to themselves: equal counts, no VM named twice. Raises MessageError."""
    name, count = type(rows).__name__, len(rows.vms) // UUID_BYTES
    if count > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(count, where)
    sizes = (len(rows.vms), len(rows.tokens), len(rows.elapsed_ms), len(rows.hashes))
    if sizes != (count * UUID_BYTES, count * 8, count * 8, count * ROW_HASH_BYTES):
        raise MistypedMessage(f"not a {name}: {count} VMs do not go with columns of {sizes} bytes")
    if len(set(ids_of(rows.vms))) != count:
        raise MistypedMessage(f"not a {name}: a VM is named twice")


def _check_facts(facts: HostFacts) -> None:
    if len(facts.labels) > limits.LABELS_PER_HOST.maximum:
        raise TooManyLabels(len(facts.labels), "roster facts")
    wire.check_texts(facts, "roster facts")


class RosterMessage(Struct, array_like=True, frozen=True):
    """A roster on the stream."""

    version: int
    epoch: Epoch
    seq: Count
    roster: Roster


def read_roster(raw: bytes) -> RosterMessage:
    """Decode and check a roster. Raises MessageError."""
    message = wire.read_stream(raw, RosterMessage, maps=True)
    check_roster(message.roster)
    return message


class ChangeEvent(Struct, array_like=True, frozen=True):
    """One section of one VM has changed. ``body`` is nil for ``config``, and where it is too big to be pushed."""

    version: int
    epoch: Epoch
    seq: Count
    vm: Uuid
    section: Section
    hash: Hash
    previous: Count
    body: bytes | None = None


def read_change(raw: bytes) -> ChangeEvent:
    """Decode a change event and check its body against its hash and its type. Raises MessageError."""
    change = wire.read_stream(raw, ChangeEvent)
    if change.body is not None:
        sections.check_hash(change.section, change.body, change.hash)
        if change.section in sections.BODIED:
            sections.decode(change.section, change.body)
    return change


class Goodbye(Struct, array_like=True, frozen=True):
    """A clean stop of the agent: planned, no alarm."""

    version: int
    epoch: Epoch
    seq: Count
    reason: GoodbyeReason


def read_goodbye(raw: bytes) -> Goodbye:
    """Decode a goodbye. Raises MessageError."""
    return wire.read_stream(raw, Goodbye)
