"""Device statistics: counters as read, and rates over the interval, absent rather than wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.device_rates import Interval, followed
from vmpulse_agent.devices import device_stats
from vmpulse_agent.hypervisor import DeviceCounters, DiskCounters, MemoryCounters
from vmpulse_contract import wire
from vmpulse_contract.columns import LARGEST
from vmpulse_contract.verbs import DeviceStats, DiskStats, NetworkStats

COUNTER = st.none() | st.integers(0, 1 << 63)
DISK = st.builds(
    DiskCounters, st.just("vda"), *[COUNTER] * (len(DiskCounters._fields) - 2), st.none() | st.just("image")
)
MEMORY = st.none() | st.builds(MemoryCounters, *[COUNTER] * len(MemoryCounters._fields))
CARD = st.builds(NetworkStats, name=st.sampled_from(["vnet0", "vda"]), rx=COUNTER, tx=COUNTER)
DOMAIN = st.builds(
    DeviceCounters,
    token=st.integers(1, 2),
    memory=MEMORY,
    balloon=st.none(),
    usage=st.none(),
    disks=st.tuples() | st.tuples(DISK),
    network=st.tuples() | st.tuples(CARD),
)
READINGS = st.lists(st.tuples(st.floats(0, 1e6, allow_nan=False), DOMAIN), min_size=1, max_size=6)


def stats_of(*readings: tuple[float, DeviceCounters]) -> DeviceStats:
    """The statistics after these samples, each with when it began."""
    interval: Interval | None = None
    for at, counters in readings:
        interval = followed(interval, counters, at)
    assert interval is not None
    return device_stats(readings[-1][1], interval)


def disks(*disks: DiskCounters, token: int = 7) -> DeviceCounters:
    """A domain with these disks."""
    return DeviceCounters(token, disks=disks)


def only(stats: DeviceStats) -> DiskStats:
    """The one disk."""
    return (stats.disks or {})["vda"]


def test_first_sample_has_counters_and_no_rates() -> None:
    """A rate needs two readings: nothing is invented for the first."""
    stats = stats_of((1.0, disks(DiskCounters("vda", read_ops=3, read_bytes=9, image_id="i"))))
    disk = only(stats)
    assert (disk.read_ops, disk.read_bytes, disk.image_id) == (3, 9, "i")
    assert disk.read_rate is disk.read_rate_max is disk.read_latency is disk.flush_latency is stats.interval is None


def test_rates_and_latencies() -> None:
    """B/s over the time between samples; ns per operation, 0 where there was none."""
    before = disks(DiskCounters("vda", 5, 1, 0, 1000, 0, 5000, 0, 0))
    after = disks(DiskCounters("vda", 9, 1, 2, 1400, 0, 7000, 0, 50))
    stats = stats_of((10.0, before), (14.0, after))
    disk = only(stats)
    assert stats.interval == 4.0
    assert (disk.read_rate, disk.read_latency) == (100.0, 500.0)
    assert (disk.write_rate, disk.write_latency, disk.write_latency_max) == (0.0, 0.0, 0.0)
    assert disk.flush_latency == 25.0


def test_extremes_stand_beside_the_mean() -> None:
    """Of three spans the mean is the growth over all of them, whatever their lengths; the peak is told beside it."""
    readings = [(at, disks(DiskCounters("vda", read_bytes=read))) for at, read in ((0, 0), (30, 300), (31, 9300))]
    disk = only(stats_of(*readings, (60, disks(DiskCounters("vda", read_bytes=9300)))))
    assert (disk.read_rate_min, disk.read_rate, disk.read_rate_max) == (0.0, 155.0, 9000.0)


def test_rates_are_whole() -> None:
    """What is behind a rate's point was not measured; and a counter that leaps costs no VM its record."""
    stats = stats_of(*((at, disks(DiskCounters("vda", read_bytes=read))) for at, read in ((0, 0), (3, 10), (4, 11))))
    disk = only(stats)
    assert (disk.read_rate_min, disk.read_rate, disk.read_rate_max) == (1, 3, 3)
    before, after = (disks(DiskCounters("vda", read_bytes=read)) for read in (0, 1 << 63))
    assert only(stats_of((0.0, before), (1e-6, after))).read_rate == LARGEST


def test_spans_without_operations_are_no_latency() -> None:
    """A quiet span does not make the least latency 0: there was none to measure."""
    quiet = DiskCounters("vda", read_ops=2, read_time_ns=20)
    busy = DiskCounters("vda", read_ops=4, read_time_ns=100)
    disk = only(stats_of((0, disks(DiskCounters("vda", read_ops=0, read_time_ns=0))), *_each(quiet, quiet, busy)))
    assert (disk.read_latency_min, disk.read_latency, disk.read_latency_max) == (10.0, 25.0, 40.0)


def _each(*counters: DiskCounters) -> list[tuple[float, DeviceCounters]]:
    """A sample of each, 30 s apart."""
    return [(30.0 * at, disks(one)) for at, one in enumerate(counters, start=1)]


def test_new_life_begins_anew() -> None:
    """Another start token: the counters of the old life say nothing."""
    disk = DiskCounters("vda", read_ops=1, read_bytes=1)
    stats = stats_of((1.0, disks(disk, token=1)), (2.0, disks(disk, token=2)))
    assert only(stats).read_rate is stats.interval is None


def test_cards() -> None:
    """Cards have rates of both directions beside what was read of them, also one that is named like a disk."""
    first, then = (
        DeviceCounters(7, disks=(DiskCounters("x", read_bytes=0),), network=(NetworkStats(name="x", rx=rx, tx=0),))
        for rx in (0, 3000)
    )
    stats = stats_of((0.0, first), (30.0, then))
    card = (stats.network or {})["x"]
    assert (card.rx, card.rx_rate, card.rx_rate_min, card.rx_rate_max, card.tx_rate) == (3000, 100.0, 100.0, 100.0, 0.0)
    assert (stats.disks or {})["x"].read_rate == 0.0


def test_memory() -> None:
    """Swap and faults as whole rates, page faults as their sum, free as what the kernel could give."""
    before = DeviceCounters(7, MemoryCounters(swap_in=0, swap_out=8, major_faults=1, minor_faults=10, reported=50))
    now = MemoryCounters(1000, 400, 700, swap_in=30, swap_out=8, major_faults=4, minor_faults=40, reported=53)
    memory = stats_of((0.0, before), (5.0, DeviceCounters(7, now))).memory_stats
    assert memory is not None
    assert (memory.mem_total, memory.mem_unused, memory.mem_free) == (1000, 400, 700)
    assert (memory.swap_in, memory.swap_out, memory.majflt, memory.minflt, memory.pageflt) == (10, 0, 1, 10, 11)
    assert (memory.swap_in_min, memory.swap_in_max, memory.pageflt_max) == (10, 10, 11)


@given(st.integers(1, 120), st.integers(0, 119), st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_memory_is_measured_by_the_guests_reports(period: int, phase: int, pauses: list[int]) -> None:
    """A steady load is steady at whatever pace the guest reports, and unknown until it has reported twice."""
    at, readings, seen = 1000, [], set()
    for pause in [0, *pauses]:
        at += pause
        reported = at - (at + phase) % period
        seen.add(reported)
        said = MemoryCounters(swap_in=0, major_faults=100 * reported, reported=reported)
        readings.append((float(at), DeviceCounters(7, said)))
    memory = stats_of(*readings).memory_stats
    assert memory is not None
    told = (memory.majflt_min, memory.majflt, memory.majflt_max, memory.swap_in)
    assert told == ((100, 100, 100, 0) if len(seen) > 1 else (None,) * 4)


def test_memory_without_the_time_of_its_report_has_no_rates() -> None:
    """Sizes are told, but what nobody knows the time of has no rate."""
    memory = stats_of(*((at, DeviceCounters(7, MemoryCounters(9, swap_in=5))) for at in (0.0, 15.0))).memory_stats
    assert memory is not None
    assert (memory.mem_total, memory.swap_in, memory.swap_in_max) == (9, None, None)


@given(READINGS)
def test_never_negative_and_always_on_the_wire(readings: list[tuple[float, DeviceCounters]]) -> None:
    """Counters that jump back, clocks that stand still: each rate is absent or not negative, between its extremes."""
    stats = stats_of(*readings)
    assert wire.read(wire.write(stats), DeviceStats) == stats
    for device in (stats.memory_stats, *(stats.disks or {}).values(), *(stats.network or {}).values()):
        names = () if device is None else device.__struct_fields__
        for name in names:
            if f"{name}_min" in names:
                least, mean, most = (getattr(device, f"{name}{end}") for end in ("_min", "", "_max"))
                assert (least is None) == (mean is None) == (most is None)
                assert mean is None or 0 <= least <= mean <= most
