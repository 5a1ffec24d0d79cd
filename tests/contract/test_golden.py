"""Golden bytes: what is on the wire today is what other languages' readers were written against.

A change here breaks them. Where that is meant, raise wire.VERSION or a section's SCHEMA as docs/contract.md says, and
renew the files from the repository's root by

    python -c "from tests.contract.test_golden import renew; renew()"
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from vmpulse_contract import columns, devices, sections, stream, verbs, wire
from vmpulse_contract.columns import Sparse, to_bytes
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, PackedDevices
from vmpulse_contract.identity import VmId, vm_id
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
from vmpulse_contract.verbs import Verb

GOLDEN: Final = Path(__file__).parent / "golden"
A, B = vm_id("00112233-4455-6677-8899-aabbccddeeff"), vm_id("10112233-4455-6677-8899-aabbccddeeff")
EPOCH: Final = 0x0102030405060708

STATUS: Final = sections.Status(guest_ips=("10.0.0.2", "10.0.0.1"), pause_code=PauseCode.EIO, monitor_response=0)
STATUS_BODY: Final = sections.encode(STATUS)
STATUS_HASH: Final = sections.section_hash(Section.STATUS, STATUS_BODY)
INFO_HASH: Final = sections.section_hash(Section.INFO, sections.encode(sections.Info(vm_name="web", pid=4242)))
HASHES: Final = to_bytes("Q", [INFO_HASH, ABSENT, STATUS_HASH, ABSENT, *[ABSENT] * 4])
ROSTER: Final = pack_roster(
    layout=3,
    monotonic_ms=60_000,
    facts=HostFacts(fqdn="node1.example.com", labels={"cluster": "blue"}),
    vms=[A, B],
    tokens=[1_700_000_000_123, 0],
    elapsed_ms=[59_000, None],
    hashes=HASHES,
    tombstones=(Tombstone(B, 1_600_000_000_456, ExitCode.NORMAL, ExitReason.USER_SHUTDOWN, 41_000),),
)
DIGEST: Final = ROSTER.digest()


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


DEVICES: Final = DeviceMessage(
    version=wire.VERSION,
    epoch=EPOCH,
    number=1,
    monotonic_ms=62_000,
    vms={
        A: DeviceRecord(
            1_700_000_000_123,
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
    # Literally, for not every zlib deflates alike; what it inflates to is checked below.
    bytes.fromhex(
        "78016b3c22c020a864ec129a56de3173d5ee3377dffd9f749e8181b1fbfcd38ceae6d5b9a9b9f94595c1258925c5f718"
        "985602b9f125f9258939e7181418185680b86945a9a9e718848d8d97a664166717372e2e4b49bcc7c0babc283531c5bf"
        "a0f82ccb869520a65365496af139461da02e103728b124f5b4c307060e0620580d13f1cdcc3b0d120001846062c56947"
        "15062e90e08accbc92d4a2b2c49cd30e450740020c00719f4764"
    ),
)


class Golden(NamedTuple):
    """One message, and the reader that gives it back."""

    message: object
    read: Callable[[bytes], object]


MESSAGES: Final = {
    "frame": Golden(FRAME, stream.read_frame),
    "frame_40": Golden(BIG_FRAME, stream.read_frame),
    "roster": Golden(RosterMessage(wire.VERSION, EPOCH, 7, ROSTER), stream.read_roster),
    "change": Golden(
        ChangeEvent(wire.VERSION, EPOCH, 8, A, Section.STATUS, STATUS_HASH, ABSENT, STATUS_BODY), stream.read_change
    ),
    "goodbye": Golden(Goodbye(wire.VERSION, EPOCH, 11, GoodbyeReason.STOPPED), stream.read_goodbye),
    "devices": Golden(PACKED_DEVICES, partial(wire.read_stream, kind=PackedDevices)),
    "request": Golden(verbs.Request(vms=(A,)), verbs.read_request),
    "reply_list": Golden(
        verbs.ListReply(
            version=wire.VERSION,
            epoch=EPOCH,
            as_of=9,
            monotonic_ms=63_500,
            vms={A: verbs.ListRecord(status=VmStatus.UP, vm_name="web"), B: verbs.ListRecord(status=VmStatus.DOWN)},
        ),
        partial(verbs.read_reply, Verb.LIST),
    ),
    "reply_status": Golden(
        verbs.SectionReply(
            version=wire.VERSION,
            epoch=EPOCH,
            as_of=9,
            monotonic_ms=63_500,
            vms={A: verbs.SectionRecord(STATUS_HASH, STATUS_BODY)},
            missing=(VmId(b"\xee" * 16),),
        ),
        partial(verbs.read_reply, Verb.GET_STATUS),
    ),
}


def test_devices_read() -> None:
    """The records in the golden file are those that were packed."""
    assert devices.read_devices((GOLDEN / "devices.bin").read_bytes()) == DEVICES


def renew() -> None:
    """Write the files anew: only where the wire is meant to change."""
    for name, golden in MESSAGES.items():
        (GOLDEN / f"{name}.bin").write_bytes(wire.write(golden.message))


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_written(name: str) -> None:
    """Each message is written as the bytes of its file."""
    assert wire.write(MESSAGES[name].message).hex(" ") == (GOLDEN / f"{name}.bin").read_bytes().hex(" ")


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_read(name: str) -> None:
    """The bytes of each file are read as its message."""
    assert MESSAGES[name].read((GOLDEN / f"{name}.bin").read_bytes()) == MESSAGES[name].message


def test_no_file_is_left_over() -> None:
    """Each golden file belongs to a message."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(MESSAGES)


def test_the_golden_frame_uses_every_form() -> None:
    """The frame of 40 VMs holds columns of bytes of several widths and columns with exceptions."""
    kinds = {len(column) if isinstance(column, bytes) else type(column) for column in BIG_FRAME.columns}
    assert kinds == {20, 80, Sparse}
