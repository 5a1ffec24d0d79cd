"""Device statistics: rates over two samples, absent rather than wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.devices import device_stats
from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample, DiskCounters, MemoryCounters
from vmpulse_contract import wire
from vmpulse_contract.identity import VmId
from vmpulse_contract.verbs import DeviceReply, DeviceStats, DiskStats, NetworkStats

VM = VmId(bytes(16))
COUNTER = st.none() | st.integers(0, 1 << 63)
DISK = st.builds(
    DiskCounters, st.just("vda"), *[COUNTER] * (len(DiskCounters._fields) - 2), st.none() | st.just("image")
)
MEMORY = st.none() | st.builds(MemoryCounters, *[COUNTER] * len(MemoryCounters._fields))
DOMAIN = st.builds(
    DeviceCounters,
    token=st.integers(1, 3),
    memory=MEMORY,
    balloon=st.none(),
    usage=st.none(),
    disks=st.tuples() | st.tuples(DISK),
    network=st.just((NetworkStats(name="vnet0", rx=1),)),
)
SAMPLE = st.builds(DeviceSample, st.floats(0, 1e6, allow_nan=False), st.dictionaries(st.just(VM), DOMAIN))


def sample(at: float, *disks: DiskCounters, token: int = 7, memory: MemoryCounters | None = None) -> DeviceSample:
    """One domain at one moment."""
    return DeviceSample(at, {VM: DeviceCounters(token, memory=memory, disks=disks)})


def only(stats: dict[VmId, DeviceStats]) -> DiskStats:
    """The one disk of the one domain."""
    return (stats[VM].disks or {})["vda"]


def test_first_sample_has_counters_and_no_rates() -> None:
    """A rate needs two readings: nothing is invented for the first."""
    disk = only(device_stats(None, sample(1.0, DiskCounters("vda", read_ops=3, read_bytes=9, image_id="i"))))
    assert (disk.read_ops, disk.read_bytes, disk.image_id) == (3, 9, "i")
    assert disk.read_rate is disk.read_latency is disk.flush_latency is None


def test_rates_and_latencies() -> None:
    """B/s over the time between samples; ns per operation, 0 where there was none."""
    before = sample(10.0, DiskCounters("vda", 5, 1, 0, 1000, 0, 5000, 0, 0))
    after = sample(14.0, DiskCounters("vda", 9, 1, 2, 1400, 0, 7000, 0, 50))
    disk = only(device_stats(before, after))
    assert (disk.read_rate, disk.read_latency) == (100.0, 500.0)
    assert (disk.write_rate, disk.write_latency) == (0.0, 0.0)
    assert disk.flush_latency == 25.0


def test_new_life_begins_anew() -> None:
    """Another start token: the counters of the old life say nothing."""
    disk = DiskCounters("vda", read_ops=1, read_bytes=1)
    stats = device_stats(sample(1.0, disk, token=1), sample(2.0, disk, token=2))
    assert only(stats).read_rate is None


def test_memory() -> None:
    """Swap and faults as rates, page faults as their sum, free as what the kernel could give."""
    before = sample(0.0, memory=MemoryCounters(swap_in=0, swap_out=8, major_faults=1, minor_faults=10))
    now = MemoryCounters(1000, 400, 700, swap_in=30, swap_out=8, major_faults=4, minor_faults=40)
    memory = device_stats(before, sample(3.0, memory=now))[VM].memory_stats
    assert memory is not None
    assert (memory.mem_total, memory.mem_unused, memory.mem_free) == (1000, 400, 700)
    assert (memory.swap_in, memory.swap_out, memory.majflt, memory.minflt, memory.pageflt) == (10, 0, 1, 10, 11)


@given(st.none() | SAMPLE, SAMPLE)
def test_never_negative_and_always_on_the_wire(previous: DeviceSample | None, current: DeviceSample) -> None:
    """Counters that jump back, clocks that stand still: every value is absent or not negative, and travels."""
    stats = device_stats(previous, current)
    assert stats.keys() == current.domains.keys()
    for domain in stats.values():
        for disk in (domain.disks or {}).values():
            rates = (disk.read_rate, disk.write_rate, disk.read_latency, disk.write_latency, disk.flush_latency)
            assert all(rate is None or rate >= 0 for rate in rates)
    reply = DeviceReply(version=1, epoch=1, as_of=0, monotonic_ms=0, vms=dict.fromkeys((), DeviceStats()))
    assert wire.write(reply)
    assert all(wire.write(domain) for domain in stats.values())
