"""What the host of the golden messages said from its start on, and its answers: with them, a whole life of a host.

It begins with a roster and a frame of two VMs that are Up; three change events and a frame follow, and then B stops,
which is where ``golden_messages`` go on. The answers of the first half are as of its changes, for its last frame to
come after them; those of the second are as of its end.
"""

from __future__ import annotations

from typing import Final, TypedDict

from tests.contract.golden_messages import (
    DEVICES,
    EPOCH,
    INFO_BODY,
    INFO_HASH,
    ROSTER,
    STATUS_BODY,
    STATUS_HASH,
    TOKEN_A,
    TOKEN_B,
    A,
    B,
)
from vmpulse_contract import columns, sections, verbs, wire
from vmpulse_contract.columns import to_bytes
from vmpulse_contract.sections import ABSENT, GuestDetails, Info, NetIface, Section, Status, WatchdogEvent
from vmpulse_contract.stream import ChangeEvent, Frame, HostFacts, HostValues, Roster, RosterMessage, pack_roster
from vmpulse_contract.values import BootDevice, DisplayType, SessionState, VmStatus, WatchdogAction
from vmpulse_contract.verbs import BalloonInfo, DeviceStats, DiskUsage, NetworkStats, SectionRecord, SectionReply

FACTS: Final = HostFacts(
    tick_ms=6000,
    fqdn="node1.example.com",
    host_uuid="4c4c4544-0042-3510-8052-b4c04f4a4d32",
    agent_version="1.0.0",
    hypervisor_version="7.2.0",
    libvirt_version="9.0.0",
    cpu_count=128,
    mem_total=515_072,
    swap_total=8191,
    labels={"cluster": "blue", "zone": "b"},
)
CDROM: Final = "/var/lib/vms/iso/debian-12.0.0-amd64-netinst.iso"


def _info(cdrom: str | None) -> Info:
    """B's info, every field of it but what depends on the medium."""
    return Info(
        vm_name="db",
        acpi_enable=True,
        display_type=DisplayType.QXL,
        display_port=5901,
        display_secure_port=7901,
        display_ip="192.0.2.1",
        pid=2017,
        vm_type="kvm",
        kvm_enable=True,
        cdrom=cdrom,
        boot=BootDevice.DISK,
    )


INFO_BEFORE, INFO_B = _info(CDROM), _info(None)
CONFIG_BEFORE: Final = b"<domain type='kvm'><name>db</name><description>before</description></domain>"
CONFIG_B: Final = b"<domain type='kvm'><name>db</name><description>after</description></domain>"
STATUS_B: Final = Status(
    time_offset=-5,
    monitor_response=0,
    client_ip="198.51.100.7",
    username="root, Zoë",
    session=SessionState.USER_LOGGED_ON,
    guest_ips=("10.0.0.3",),
    watchdog_event=WatchdogEvent(time=1_700_000_111, action=WatchdogAction.RESET),
)
DETAILS_BEFORE: Final = GuestDetails(apps_list=("kernel-6.1.0", "vim-9.0"))
DETAILS_B: Final = GuestDetails(
    apps_list=("kernel-6.1.0", "postgresql-15.5", "vim-9.0"),
    net_ifaces=(
        NetIface(name="eth0", hw="52:54:00:c9:a7:5d", inet=("10.0.0.3",), inet6=("2001:db8::3", "fe80::5054:ff:fec9")),
        NetIface(name="eth1", hw="52:54:00:c9:a7:5e"),
    ),
)


def _record(section: Section, body: bytes) -> SectionRecord:
    return SectionRecord(sections.section_hash(section, body), body)


RECORDS_BEFORE: Final = {
    Section.INFO: _record(Section.INFO, sections.encode(INFO_BEFORE)),
    Section.CONFIG: _record(Section.CONFIG, CONFIG_BEFORE),
    Section.STATUS: _record(Section.STATUS, sections.encode(STATUS_B)),
    Section.GUEST_DETAILS: _record(Section.GUEST_DETAILS, sections.encode(DETAILS_BEFORE)),
}
RECORDS_B: Final = RECORDS_BEFORE | {
    Section.INFO: _record(Section.INFO, sections.encode(INFO_B)),
    Section.CONFIG: _record(Section.CONFIG, CONFIG_B),
    Section.GUEST_DETAILS: _record(Section.GUEST_DETAILS, sections.encode(DETAILS_B)),
}
RECORDS_A: Final = {
    Section.INFO: SectionRecord(INFO_HASH, INFO_BODY),
    Section.STATUS: SectionRecord(STATUS_HASH, STATUS_BODY),
}


def _roster(monotonic_ms: int, records: dict[Section, SectionRecord]) -> Roster:
    """The roster of the first half; *records* are B's sections."""
    started_ms = 1000  # A's start, as in the roster that follows
    known = ((RECORDS_A, section) for section in Section), ((records, section) for section in Section)
    hashes = [of[section].hash if section in of else ABSENT for of, section in (*known[0], *known[1])]
    return pack_roster(
        layout=2,
        monotonic_ms=monotonic_ms,
        facts=FACTS,
        vms=[A, B],
        tokens=[TOKEN_A, TOKEN_B],
        elapsed_ms=[monotonic_ms - started_ms, 90_000_000 + monotonic_ms],
        hashes=to_bytes("Q", hashes),
        tombstones=(),
    )


ROSTER_FIRST: Final = _roster(30_000, RECORDS_BEFORE)
ROSTER_FIFTH: Final = _roster(35_500, RECORDS_B)


def _frame(seq: int, monotonic_ms: int, digest: int, cpu_user: list[int | None]) -> Frame:
    return Frame(
        version=wire.VERSION,
        epoch=EPOCH,
        seq=seq,
        layout=2,
        count=2,
        digest=digest,
        monotonic_ms=monotonic_ms,
        status=columns.pack([VmStatus.UP, VmStatus.UP]),
        cpu_user=columns.pack(cpu_user),
        cpu_sys=columns.pack([11, 1300]),
        mem_usage=columns.pack([None, 71]),
        stats_age=0,
        host_stats=HostValues(cpu_user=100, cpu_sys=1000, cpu_load=12, mem_used=2048, swap_used=1),
    )


FRAME_FIRST: Final = _frame(2, 30_100, ROSTER_FIRST.digest(), [None, None])
FRAME_SIXTH: Final = _frame(6, 35_800, ROSTER_FIFTH.digest(), [250, 2001])


def _change(seq: int, section: Section, *, pushed: bool = True) -> ChangeEvent:
    new, before = RECORDS_B[section], RECORDS_BEFORE[section]
    return ChangeEvent(wire.VERSION, EPOCH, seq, B, section, new.hash, before.hash, new.body if pushed else None)


CHANGES: Final = {
    "change_details": _change(3, Section.GUEST_DETAILS),
    "change_config": _change(4, Section.CONFIG, pushed=False),
    "change_info": _change(5, Section.INFO),
}
ROSTER_MESSAGE_FIRST: Final = RosterMessage(wire.VERSION, EPOCH, 1, ROSTER_FIRST)


class _Envelope(TypedDict):
    version: int
    epoch: int
    as_of: int
    monotonic_ms: int


FIFTH: Final[_Envelope] = {"version": wire.VERSION, "epoch": EPOCH, "as_of": 5, "monotonic_ms": 35_500}
NINTH: Final[_Envelope] = {"version": wire.VERSION, "epoch": EPOCH, "as_of": 9, "monotonic_ms": 63_500}
DEVICE_STATS: Final = DeviceStats(
    memory_stats=DEVICES.vms[A].stats.memory_stats,
    balloon_info=BalloonInfo(
        balloon_max=2_097_152,
        balloon_min=0,
        balloon_cur=2_097_152,
        balloon_target=2_097_152,
        ballooning_enabled=True,
    ),
    disks_usage=(DiskUsage(path="/", total=21_474_836_480, used=3_221_225_472, fs="ext4"),),
    network={"vnet0": NetworkStats(name="vnet0", mac_addr="52:54:00:c9:a7:5d", rx=1, tx=2, rx_rate=0.5, state="up")},
    disks=DEVICES.vms[A].stats.disks,
    interval=300.0,
    stats_age=1.5,
)
HOST_STATS: Final = verbs.HostStats(
    cpu_user=50.3,
    cpu_sys=1.2,
    cpu_idle=48.5,
    cpu_load=64.31,
    cpu_count=128,
    mem_total=515_072,
    mem_used=150_000,
    mem_free=365_072,
    vm_count=2,
    vm_active=1,
    vm_migrating=0,
    elapsed_time=8_640_000.0,
)
RUNTIME: Final[dict[bytes, verbs.RuntimeRecord]] = {
    A: verbs.RuntimeRecord(
        status=VmStatus.UP,
        cpu_user=6400.0,
        cpu_sys=12.5,
        mem_usage=40,
        elapsed_time=62.5,
        stats_age=0.6,
        hashes=verbs.SectionHashes(info=INFO_HASH, status=STATUS_HASH),
    ),
    B: verbs.RuntimeRecord(status=VmStatus.DOWN, stats_age=0.6),
}


def _of_both(section: Section) -> dict[bytes, SectionRecord]:
    return {vm: of[section] for vm, of in ((A, RECORDS_A), (B, RECORDS_B)) if section in of}


REPLIES_FIRST: Final[dict[str, verbs.AnyReply]] = {
    "roster": verbs.RosterReply(**FIFTH, roster=ROSTER_FIFTH),
    **{
        name: SectionReply(**FIFTH, vms=_of_both(section))
        for name, section in (
            ("info", Section.INFO),
            ("config", Section.CONFIG),
            ("status", Section.STATUS),
            ("details", Section.GUEST_DETAILS),
        )
    },
}
REPLIES: Final[dict[str, verbs.AnyReply]] = {
    "roster": verbs.RosterReply(**NINTH, roster=ROSTER),
    "info": SectionReply(**NINTH, vms={A: RECORDS_A[Section.INFO]}),
    "runtime": verbs.RuntimeReply(**NINTH, vms=RUNTIME),
    "devices": verbs.DeviceReply(**NINTH, vms={A: DEVICE_STATS}),
    "host": verbs.HostStatsReply(**NINTH, stats=HOST_STATS),
}
NOT_READY: Final = "the agent has not had its first look at the hypervisor yet; ask again in a few seconds"
REPLY_ERROR: Final = verbs.Reply(
    version=wire.VERSION, epoch=EPOCH, as_of=0, monotonic_ms=0, error=verbs.Failure("not_ready", NOT_READY)
)
"""Of any verb, before there is something to say."""
