"""The messages of the golden files that are worked out in docs/contract.md, and what else one host says and answers.

They are one host's, in one epoch; ``golden_life`` has what it said before.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from msgspec import Struct, structs

from vmpulse_contract import columns, sections, verbs, wire
from vmpulse_contract.columns import to_bytes
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, PackedDevices
from vmpulse_contract.identity import VmId, vm_id
from vmpulse_contract.roster_change import RosterChangeMessage, pack_roster_change
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.stream import (
    ChangeEvent,
    Frame,
    Goodbye,
    HostFacts,
    HostValues,
    RosterMessage,
    Tombstone,
    pack_roster,
)
from vmpulse_contract.values import ExitCode, ExitReason, GoodbyeReason, PauseCode, VmStatus

A, B = vm_id("00112233-4455-6677-8899-aabbccddeeff"), vm_id("10112233-4455-6677-8899-aabbccddeeff")
TOKEN_A, TOKEN_B = 1_700_000_000_123, 1_600_000_000_456
STRANGER: Final = VmId(b"\xee" * 16)
"""A VM that the host does not have."""
EPOCH: Final = 0x0102030405060708

STATUS: Final = sections.Status(guest_ips=("10.0.0.2", "10.0.0.1"), pause_code=PauseCode.EIO, monitor_response=0)
STATUS_BODY: Final = sections.encode(STATUS)
STATUS_HASH: Final = sections.section_hash(Section.STATUS, STATUS_BODY)
INFO: Final = sections.Info(vm_name="web", pid=4242)
INFO_BODY: Final = sections.encode(INFO)
INFO_HASH: Final = sections.section_hash(Section.INFO, INFO_BODY)
HASHES: Final = to_bytes("Q", [INFO_HASH, ABSENT, STATUS_HASH, ABSENT, *[ABSENT] * 4])
ROSTER: Final = pack_roster(
    layout=3,
    monotonic_ms=60_000,
    facts=HostFacts(fqdn="node1.example.com", labels={"cluster": "blue"}),
    vms=[A, B],
    tokens=[TOKEN_A, 0],
    elapsed_ms=[59_000, None],
    hashes=HASHES,
    tombstones=(Tombstone(B, TOKEN_B, ExitCode.NORMAL, ExitReason.USER_SHUTDOWN, 41_000),),
)
ROSTER_MESSAGE: Final = RosterMessage(wire.VERSION, EPOCH, 7, ROSTER)
DIGEST: Final = ROSTER.digest()
CHANGE: Final = ChangeEvent(wire.VERSION, EPOCH, 8, A, Section.STATUS, STATUS_HASH, ABSENT, STATUS_BODY)


def _many(odd: dict[int, int | None], common: int | None) -> columns.Column:
    return columns.pack([odd.get(at, common) for at in range(40)])


FRAME: Final = Frame(
    version=wire.VERSION,
    epoch=EPOCH,
    seq=9,
    layout=3,
    count=2,
    digest=DIGEST,
    monotonic_ms=63_000,
    status=columns.pack([VmStatus.UP, VmStatus.DOWN]),
    cpu_user=columns.pack([64_000, None]),
    cpu_sys=columns.pack([125, None]),
    mem_usage=columns.pack([40, None]),
    stats_age=1,
    host_stats=HostValues(cpu_user=503, cpu_sys=12, cpu_load=6431, mem_used=150_000),
)
BIG_FRAME: Final = Frame(
    version=wire.VERSION,
    epoch=EPOCH,
    seq=10,
    layout=4,
    count=40,
    digest=DIGEST,
    monotonic_ms=66_000,
    status=_many({7: VmStatus.PAUSED}, VmStatus.UP),
    cpu_user=columns.pack([at * 17 for at in range(40)]),
    cpu_sys=columns.pack([at % 11 for at in range(40)]),
    mem_usage=_many({1: None, 2: 90}, 35),
    stats_age=_many({39: 473}, 1),
)
"""Every form of a column; it goes with no golden roster."""
TOKEN_C: Final = 1_700_000_003_789
C: Final = vm_id("20112233-4455-6677-8899-aabbccddeeff")
ROSTER_CHANGE: Final = RosterChangeMessage(
    wire.VERSION,
    EPOCH,
    10,
    pack_roster_change(
        layout=4,
        base=3,
        monotonic_ms=66_000,
        left=[A],
        vms=[C],
        tokens=[TOKEN_C],
        elapsed_ms=[2_500],
        hashes=to_bytes("Q", [INFO_HASH, ABSENT, ABSENT, ABSENT]),
        tombstones=(Tombstone(A, TOKEN_A, ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED, 65_500),),
    ),
)
"""A has migrated away, and C has begun; what frame 9 says goes before it."""
GOODBYE: Final = Goodbye(wire.VERSION, EPOCH, 11, GoodbyeReason.STOPPED)

DEVICES: Final = DeviceMessage(
    version=wire.VERSION,
    epoch=EPOCH,
    number=1,
    monotonic_ms=62_000,
    vms={
        A: DeviceRecord(
            TOKEN_A,
            verbs.DeviceStats(
                memory_stats=verbs.MemoryStats(mem_total=2_097_152, mem_free=1_258_291),
                disks={
                    "vda": verbs.DiskStats(
                        read_ops=1200,
                        read_bytes=19_660_800,
                        read_rate=65_536.5,
                        read_rate_min=0.0,
                        read_rate_max=655_365.0,
                    )
                },
                interval=300.0,
            ),
        )
    },
)
PACKED_DEVICES: Final = PackedDevices(
    wire.VERSION,
    EPOCH,
    1,
    62_000,
    # Literally, for not every zlib deflates alike; what it inflates to is checked by a test.
    bytes.fromhex(
        "78016b3c22c020a864ec129a56de3173d5ee3377dffd9f749e8181b1fbfcd38ceae6d5b9a9b9f94595c1258925c5f718"
        "985602b9f125f9258939e7181418185680b86945a9a9e718848d8d97a664166717372e2e4b49bcc7c0babc283531c5bf"
        "a0f82ccb869520a65365496af139461da02e103728b124f5b4c307060e0620580d13f1cdcc3b0d120001846062c56947"
        "15062e90e08accbc92d4a2b2c49cd30e450740020c00719f4764"
    ),
)


def _by_name(kind: type[Struct]) -> Any:
    """A Struct whose every field has a value that follows from its name, so that no two columns can change places."""
    shown = {field.name: str(field.type) for field in structs.fields(kind)}
    return kind(
        **{
            name: name if "str" in of else name > "c" if "bool" in of else zlib.crc32(name.encode()) >> len(name)
            for name, of in shown.items()
        }
    )


DEVICE_COLUMNS: Final = DeviceMessage(
    version=wire.VERSION,
    epoch=EPOCH,
    number=2,
    monotonic_ms=62_000,
    vms={
        A: DeviceRecord(
            TOKEN_A,
            verbs.DeviceStats(
                memory_stats=_by_name(verbs.MemoryStats),
                balloon_info=_by_name(verbs.BalloonInfo),
                disks_usage=(_by_name(verbs.DiskUsage), verbs.DiskUsage(path="/srv", used=7)),
                network={"vnet0": _by_name(verbs.NetworkStats)},
                disks={"vda": _by_name(verbs.DiskStats), "vdb": verbs.DiskStats(read_ops=1, image_id="b")},
                interval=300.5,
            ),
        ),
        B: DeviceRecord(TOKEN_B, verbs.DeviceStats(disks_usage=(), disks={"vda": verbs.DiskStats(read_rate=3.0)})),
    },
)
PACKED_COLUMNS: Final = PackedDevices(
    wire.VERSION,
    EPOCH,
    2,
    62_000,
    bytes.fromhex(
        "789c9b7944814150c9d82534adbc63e6aadd67eebefb2f80c63f22509df1f47c372303c389c6bcf612207d8741f808e3"
        "c7730c09be7ae718a4f6ed3cc7309531f81ce38167eee71864af4602c542fe9d6368ec3538c7c0bae2d73906b60ccd73"
        "0c73f2bdce31a8fd052ad6fcf7ed1c53828a059025290414938a3dc7d057b1f91c03f7ee3fe71878aca2a7814d674bbc"
        "7c8e81f141c93906b9bf8540565111c3d4238c4c9396142496642cd12f2e2a3bc2c1552fc8f61f088e7018964d616767"
        "606098b428adf800c4814bcbf2524b0c96e425e6a6aec84d4c8e4f4c49293ac7d0bc47f19ca8a8e881730cfc9ffbcf31"
        "98d5012d56cb883ac7a0aa7fec1c431753f039064ef7ade718f88e01dde6bbc8f21c834820cf3906e10babcf31549a7f"
        "5f5a5c9258927a2e3dacf8c61d0689238c42931797a524027112883ec2f356f43403308818c0aee25933d90acc82f0fc"
        "dbac91787b1b589178853cba601e3350ef119eae022624b9c71398917877db2c103cb69015103a210222fb712f07926c"
        "722684ce0b85c8fe5460479235b484d0e6ea10d963ffd89064173343e8a5b21059b9b25748aed0f040b87ef28accdcc4"
        "f4d4f8cc948549078e705c99ca02963a000024f54148"
    ),
)
LIST: Final = verbs.ListReply(
    version=wire.VERSION,
    epoch=EPOCH,
    as_of=9,
    monotonic_ms=63_500,
    vms={A: verbs.ListRecord(status=VmStatus.UP, vm_name="web"), B: verbs.ListRecord(status=VmStatus.DOWN)},
)
STATUS_REPLY: Final = verbs.SectionReply(
    version=wire.VERSION,
    epoch=EPOCH,
    as_of=9,
    monotonic_ms=63_500,
    vms={A: verbs.SectionRecord(STATUS_HASH, STATUS_BODY)},
    missing=(STRANGER,),
)
