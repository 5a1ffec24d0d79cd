"""How many bytes a frame takes for each VM, and how long it takes to write and to read.

The host is a realistic one of 40 VMs: 1 to 16 vCPUs of any load, one VM with 64 vCPUs at 6,400 %, one paused, one
inactive (its values are unknown), one whose monitor hangs (its age has grown). The host's own statistics are in it. The
frame is the real session's, a day into its epoch. Run it by ``python -m benches.frame [SEED]``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from random import Random
from time import perf_counter
from typing import Final

import msgspec

from vmpulse_agent.hypervisor import DomainLook, Look, SectionReading
from vmpulse_agent.session import Session
from vmpulse_contract import columns, stream, wire
from vmpulse_contract.identity import HostId, VmId, vm_text
from vmpulse_contract.sections import GuestDetails, Info, Status
from vmpulse_contract.stream import CPU_UNIT, Frame, HostFacts
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

VMS: Final = 40
TICK_S: Final = 3.0
DAY_S: Final = 86_400.0
HUNG_FOR_S: Final = 47.25
SECOND_NS: Final = 1_000_000_000
ROUNDS: Final = 2000


def realistic_frame(seed: int) -> tuple[list[VmId], bytes]:
    """Give the ids and the frame of a host, as its session publishes it."""
    random = Random(seed)  # noqa: S311 - values to measure with, no secrets
    ids = sorted(VmId(random.randbytes(16)) for _ in range(VMS))
    big, paused, inactive, hung = random.sample(range(VMS), 4)
    before, after = [], []
    for at, vm in enumerate(ids):
        vcpus = 64 if at == big else random.choice([1, 2, 2, 4, 4, 8, 16])
        load = 1.0 if at == big else 0.0 if at == paused else random.betavariate(1.2, 2.5)
        system = 0.03 if at == big else random.betavariate(1.2, 8)
        grown = int(vcpus * load * TICK_S * SECOND_NS)
        memory = random.randint(15, 97)
        status = VmStatus.PAUSED if at == paused else VmStatus.UP
        token = random.getrandbits(50) + 1
        first = DomainLook(vm, token, status, 10**8, 10**14, 10**13, memory)
        second = first._replace(
            cpu_time_ns=10**14 + grown, cpu_system_ns=10**13 + int(grown * system), answered=at != hung
        )
        if at == inactive:
            first = second = DomainLook(vm, 0, VmStatus.DOWN)
        before.append(first)
        after.append(second)
    session = Session(HostId("node1"), random.getrandbits(63) + 1, HostFacts(), 0.0)
    session.host_sampled(realistic_host(random), 0.0)
    session.connected(0.0)
    # The hung VM answered twice, long ago; the others since.
    last_answer = DAY_S - HUNG_FOR_S
    session.looked(Look(last_answer - TICK_S, before), last_answer - TICK_S)
    for vm in ids:
        reading = SectionReading(vm, Info(pid=1), b"<domain/>", Status(), GuestDetails())
        session.section_read(reading, last_answer - TICK_S)
    session.looked(Look(last_answer, [look._replace(answered=True) for look in after]), last_answer)
    earlier = [look._replace(answered=then.answered) for look, then in zip(before, after, strict=True)]
    session.looked(Look(DAY_S - TICK_S - 0.02, earlier), DAY_S - TICK_S)
    session.begin(DAY_S - TICK_S)
    session.looked(Look(DAY_S - 0.02, after), DAY_S)
    session.drain()
    session.seq = 28_800  # a day of ticks
    session.tick(DAY_S)
    (frame,) = [message for message in session.drain() if message.kind is Kind.FRAME]
    return ids, frame.body


def realistic_host(random: Random) -> HostStats:
    """Give the statistics of a busy host of 1 TiB that has begun to swap, none of them small."""
    return HostStats(
        cpu_user=round(random.uniform(30, 60), 2),
        cpu_sys=round(random.uniform(13, 30), 2),
        cpu_load=round(random.uniform(10, 100), 2),
        cpu_count=128,
        mem_total=1 << 20,
        mem_used=random.randint(1 << 19, 1 << 20),
        swap_total=1 << 16,
        swap_free=random.randint(1 << 14, 1 << 15),
    )


def as_maps(ids: list[VmId], frame: Frame) -> list[dict[str, object]]:
    """Give the same values as the map for each VM that a poller would be answered with."""
    names = ("status", "cpuUser", "cpuSys", "memUsage", "statsAge")
    scales = (None, CPU_UNIT, CPU_UNIT, None, stream.AGE_UNIT)
    unpacked = [columns.unpack(column, frame.count) for column in frame.columns]
    return [
        {"vmId": vm_text(vm)}
        | {
            name: value if scale is None else round(value * scale, 1)
            for name, scale, value in zip(names, scales, values, strict=True)
            if value is not None
        }
        for vm, *values in zip(ids, *unpacked, strict=True)
    ]


def _microseconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    for _ in range(ROUNDS):
        work()
    return round((perf_counter() - began) / ROUNDS * 1e6, 2)


def measure(seed: int) -> dict[str, float]:
    """Measure the frame of one seed."""
    ids, raw = realistic_frame(seed)
    frame = stream.read_frame(raw)
    assert frame.count == len(ids)
    values = [columns.unpack(column, frame.count) for column in frame.columns]
    head = (wire.VERSION, frame.epoch, frame.seq, frame.layout, frame.count, frame.digest, frame.monotonic_ms)

    def written() -> bytes:
        status, user, system, memory, ages = map(columns.pack, values)
        return wire.write(Frame(*head, status, user, system, memory, ages, frame.host_stats))

    assert written() == raw
    maps = as_maps(ids, frame)
    as_msgpack, as_json = len(msgspec.msgpack.encode(maps)), len(msgspec.json.encode(maps))
    return {
        "bytes_per_vm": round(len(raw) / len(ids), 3),
        "bytes": len(raw),
        "vms": len(ids),
        "seed": seed,
        "encode_us": _microseconds(written),
        "decode_us": _microseconds(lambda: stream.read_frame(raw)),
        "msgpack_maps_bytes": as_msgpack,
        "json_bytes": as_json,
        "msgpack_maps_ratio": round(as_msgpack / len(raw), 2),
        "json_ratio": round(as_json / len(raw), 2),
    }


def main() -> None:
    """Print the one JSON line."""
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))


if __name__ == "__main__":
    main()
