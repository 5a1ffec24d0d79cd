"""Hypothesis strategies for everything that travels, shared by the tests of the contract and of the agent."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec
from hypothesis import strategies as st

from vmpulse_contract import sections, verbs, wire
from vmpulse_contract.columns import LARGEST, pack
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, PackedDevices
from vmpulse_contract.identity import VmId
from vmpulse_contract.roster_change import RosterChange, RosterChangeMessage, pack_roster_change
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Section, SectionBody, Status, WatchdogEvent
from vmpulse_contract.stream import (
    ChangeEvent,
    Frame,
    Goodbye,
    HostFacts,
    HostValues,
    Roster,
    RosterMessage,
    Tombstone,
    pack_roster,
)
from vmpulse_contract.values import (
    BootDevice,
    DisplayType,
    ExitCode,
    ExitReason,
    GoodbyeReason,
    PauseCode,
    SessionState,
    VmStatus,
    WatchdogAction,
)
from vmpulse_contract.verbs import Verb

EDGES: Final = tuple(
    value
    for bits in (4, 8, 16, 32, 64)
    for value in ((1 << bits) - 3, (1 << bits) - 2, (1 << bits) - 1, 1 << bits)
    if value <= LARGEST
)
"""Values around each width's largest one and its mark for unknown."""

u64 = st.integers(0, (1 << 64) - 1)
epochs = st.integers(1, (1 << 64) - 1)
hashes = st.integers(1, (1 << 64) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
vms: st.SearchStrategy[VmId] = st.binary(min_size=16, max_size=16).map(VmId)
cells = st.one_of(st.none(), st.sampled_from(EDGES), st.integers(0, 300), st.integers(0, LARGEST))
reals = st.floats(0, allow_nan=False, allow_infinity=False)


def values_of(count: int, largest: int = LARGEST) -> st.SearchStrategy[list[int | None]]:
    """Values of one column: all alike, nearly all alike, or anything."""
    cell = cells.filter(lambda value: value is None or value <= largest)
    alike = cell.map(lambda value: [value] * count)
    nearly = st.builds(
        lambda value, odd: [odd.get(at, value) for at in range(count)],
        cell,
        st.dictionaries(st.integers(0, max(0, count - 1)), cell, max_size=4),
    )
    return alike | nearly | st.lists(cell, min_size=count, max_size=count)


shares = st.none() | st.integers(0, 1000)
counts = st.none() | st.integers(0, LARGEST)
host_values = st.builds(HostValues, cpu_user=shares, cpu_sys=shares, cpu_load=counts, mem_used=counts, swap_used=counts)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """A frame of any host."""
    count = draw(st.integers(0, 60))
    return Frame(
        version=wire.VERSION,
        epoch=draw(epochs),
        seq=draw(u64),
        layout=draw(u64),
        count=count,
        digest=draw(u64),
        monotonic_ms=draw(u64),
        status=pack(draw(values_of(count, 254))),
        cpu_user=pack(draw(values_of(count))),
        cpu_sys=pack(draw(values_of(count))),
        mem_usage=pack(draw(values_of(count))),
        stats_age=pack(draw(values_of(count))),
        host_stats=draw(st.none() | host_values),
    )


facts = st.builds(
    HostFacts,
    tick_ms=st.integers(100, 3_600_000),
    fqdn=st.none() | texts,
    host_uuid=st.none() | texts,
    agent_version=st.none() | texts,
    hypervisor_version=st.none() | texts,
    libvirt_version=st.none() | texts,
    cpu_count=counts,
    mem_total=counts,
    swap_total=counts,
    labels=st.dictionaries(texts, texts, max_size=4),
)
tombstones = st.builds(
    Tombstone, vms, u64, st.sampled_from(ExitCode), st.sampled_from(ExitReason), st.integers(-(1 << 63), (1 << 63) - 1)
)


@st.composite
def rosters(draw: st.DrawFn) -> Roster:
    """A roster of any host."""
    ids = draw(st.lists(vms, max_size=12, unique=True))
    count = len(ids)
    elapsed = st.none() | st.integers(0, LARGEST)
    return pack_roster(
        layout=draw(u64),
        monotonic_ms=draw(u64),
        facts=draw(facts),
        vms=ids,
        tokens=draw(st.lists(u64, min_size=count, max_size=count)),
        elapsed_ms=draw(st.lists(elapsed, min_size=count, max_size=count)),
        hashes=draw(st.binary(min_size=count * 32, max_size=count * 32)),
        tombstones=tuple(draw(st.lists(tombstones, max_size=3))),
    )


@st.composite
def roster_changes(draw: st.DrawFn) -> RosterChange:
    """A difference of any two rosters."""
    ids = draw(st.lists(vms, max_size=12, unique=True))
    gone = draw(st.integers(0, len(ids)))
    count = len(ids) - gone
    elapsed = st.none() | st.integers(0, LARGEST)
    base = draw(st.integers(0, LARGEST - 1))
    return pack_roster_change(
        layout=draw(st.integers(base + 1, LARGEST)),
        base=base,
        monotonic_ms=draw(u64),
        left=ids[:gone],
        vms=ids[gone:],
        tokens=draw(st.lists(u64, min_size=count, max_size=count)),
        elapsed_ms=draw(st.lists(elapsed, min_size=count, max_size=count)),
        hashes=draw(st.binary(min_size=count * 32, max_size=count * 32)),
        tombstones=tuple(draw(st.lists(tombstones, max_size=3))),
    )


roster_change_messages = st.builds(RosterChangeMessage, st.just(wire.VERSION), epochs, u64, roster_changes())
roster_messages = st.builds(RosterMessage, st.just(wire.VERSION), epochs, u64, rosters())

signed = st.integers(-(1 << 63), (1 << 63) - 1)
infos = st.builds(
    Info,
    vm_name=st.none() | texts,
    acpi_enable=st.none() | st.booleans(),
    display_type=st.none() | st.sampled_from(DisplayType),
    display_port=st.none() | signed,
    display_secure_port=st.none() | signed,
    display_ip=st.none() | texts,
    pid=st.none() | signed,
    vm_type=st.none() | texts,
    kvm_enable=st.none() | st.booleans(),
    cdrom=st.none() | texts,
    boot=st.none() | st.sampled_from(BootDevice),
)
text_lists = st.lists(texts, max_size=4).map(tuple)
statuses = st.builds(
    Status,
    time_offset=st.none() | signed,
    monitor_response=st.none() | st.sampled_from([0, -1]),
    client_ip=st.none() | texts,
    username=st.none() | texts,
    session=st.none() | st.sampled_from(SessionState),
    guest_ips=st.none() | text_lists,
    pause_code=st.none() | st.sampled_from(PauseCode),
    watchdog_event=st.none()
    | st.builds(
        WatchdogEvent, time=st.none() | st.integers(0, 2**53), action=st.none() | st.sampled_from(WatchdogAction)
    ),
)
interfaces = st.builds(
    NetIface,
    name=st.none() | texts,
    hw=st.none() | texts,
    inet=st.none() | text_lists,
    inet6=st.none() | text_lists,
)
guest_details = st.builds(
    GuestDetails,
    apps_list=st.none() | text_lists,
    net_ifaces=st.none() | st.lists(interfaces, max_size=4).map(tuple),
)
CONTENTS: Final[dict[Section, st.SearchStrategy[SectionBody]]] = {
    Section.INFO: infos,
    Section.STATUS: statuses,
    Section.GUEST_DETAILS: guest_details,
}


def bodies(section: Section) -> st.SearchStrategy[bytes]:
    """The body of a section, as its sender makes it."""
    return CONTENTS[section].map(sections.encode) if section in CONTENTS else st.binary(max_size=40)


@st.composite
def changes(draw: st.DrawFn) -> ChangeEvent:
    """A change event, with its body or without."""
    section = draw(st.sampled_from(Section))
    body = draw(bodies(section)) if section in sections.BODIED and draw(st.booleans()) else None
    new = draw(hashes) if body is None else sections.section_hash(section, body)
    return ChangeEvent(wire.VERSION, draw(epochs), draw(u64), draw(vms), section, new, draw(u64), body)


goodbyes = st.builds(Goodbye, st.just(wire.VERSION), epochs, u64, st.sampled_from(GoodbyeReason))
requests = st.builds(
    verbs.Request, vms=st.lists(vms, max_size=5).map(tuple), deflate=st.just(msgspec.UNSET) | st.booleans()
)


whole_reals = st.integers(0, 1 << 53).map(float)
milliseconds = st.integers(0, 1 << 40).map(lambda number: number / 1000)


def _optional(kind: type[msgspec.Struct], *, whole: bool = False) -> st.SearchStrategy[msgspec.Struct]:
    """A Struct of optional numbers and texts, each there or not; *whole*: as columns hold them."""
    fields: dict[str, st.SearchStrategy[object]] = {}
    for field in msgspec.structs.fields(kind):
        shown = str(field.type)
        numbers = reals if not whole else milliseconds if "scale" in shown else whole_reals
        values = numbers if "float" in shown else texts if "str" in shown else st.integers(0, LARGEST)
        fields[field.name] = values if field.required else st.none() | values
    return st.builds(kind, **fields)


amounts = st.integers(0, LARGEST)
balloons = st.builds(
    verbs.BalloonInfo,
    balloon_max=amounts,
    balloon_min=amounts,
    balloon_cur=amounts,
    balloon_target=amounts,
    ballooning_enabled=st.booleans(),
)


def _devices(*, whole: bool = False) -> st.SearchStrategy[verbs.DeviceStats]:
    return st.builds(
        verbs.DeviceStats,
        memory_stats=st.none() | _optional(verbs.MemoryStats),
        balloon_info=st.none() | balloons,
        disks_usage=st.none() | st.lists(_optional(verbs.DiskUsage), max_size=2).map(tuple),
        network=st.none() | st.dictionaries(texts, _optional(verbs.NetworkStats, whole=whole), max_size=2),
        disks=st.none() | st.dictionaries(texts, _optional(verbs.DiskStats, whole=whole), max_size=2),
        interval=st.none() | (milliseconds if whole else reals),
    )


def _device_messages(stats: st.SearchStrategy[verbs.DeviceStats], most: int) -> st.SearchStrategy[DeviceMessage]:
    records = st.dictionaries(vms, st.builds(DeviceRecord, u64, stats), max_size=most)
    return st.builds(DeviceMessage, st.just(wire.VERSION), epochs, u64, u64, records)


devices = _devices()
device_maps = _device_messages(devices, 3)
"""Of agents that said maps."""
device_messages = _device_messages(_devices(whole=True), 6)


def pack_map(message: DeviceMessage) -> PackedDevices:
    """Device statistics as agents said them before there were columns."""
    packed = zlib.compress(wire.write(message.vms), 1)
    return PackedDevices(message.version, message.epoch, message.number, message.monotonic_ms, packed)


runtime_records = st.builds(
    verbs.RuntimeRecord,
    status=st.sampled_from(VmStatus),
    cpu_user=st.none() | reals,
    cpu_sys=st.none() | reals,
    mem_usage=st.none() | st.integers(0, 100),
    elapsed_time=st.none() | reals,
    stats_age=st.none() | reals,
    hashes=st.builds(
        verbs.SectionHashes,
        info=st.none() | hashes,
        config=st.none() | hashes,
        status=st.none() | hashes,
        guest_details=st.none() | hashes,
    ),
)
list_records = st.builds(verbs.ListRecord, status=st.sampled_from(VmStatus), vm_name=st.none() | texts)
id_lists = st.lists(vms, max_size=3).map(tuple)


def _by_vm(records: st.SearchStrategy[object]) -> st.SearchStrategy[dict[VmId, object]]:
    return st.dictionaries(vms, records, max_size=3)


def _section_records(section: Section) -> st.SearchStrategy[object]:
    return bodies(section).map(lambda body: verbs.SectionRecord(sections.section_hash(section, body), body))


def _parts(verb: Verb) -> dict[str, st.SearchStrategy[object]]:
    if verb in verbs.SECTION_OF_VERB:
        records = _by_vm(_section_records(verbs.SECTION_OF_VERB[verb]))
        return {"vms": records, "missing": id_lists, "remaining": id_lists}
    parts: dict[Verb, dict[str, st.SearchStrategy[object]]] = {
        Verb.LIST: {"vms": _by_vm(list_records)},
        Verb.GET_ALL_RUNTIME_STATS: {"vms": _by_vm(runtime_records)},
        Verb.GET_ALL_DEVICE_STATS: {"vms": _by_vm(devices), "missing": id_lists, "remaining": id_lists},
        Verb.GET_HOST_STATS: {"stats": _optional(verbs.HostStats)},
        Verb.GET_ROSTER: {"roster": rosters()},
    }
    return parts[verb]


def replies(verb: Verb) -> st.SearchStrategy[verbs.AnyReply]:
    """A reply of *verb* that carries an answer."""
    kind = verbs.REPLIES[verb]
    return st.builds(kind, version=st.just(wire.VERSION), epoch=u64, as_of=u64, monotonic_ms=u64, **_parts(verb))
