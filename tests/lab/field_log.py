"""Counters of the guests as libvirt's single calls and /proc give them, all the time: what rates are held against.

None of it goes the agent's way, which is the bulk call.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import libvirt

from tests.lab.lab import CheckFailed
from vmpulse_agent.libvirt_edge import safe_xml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from xml.etree.ElementTree import Element

    from tests.lab.guests import Guest

READ_S: Final = 0.6
SAMPLE_S: Final = 1.0
"""A sample of the agent may read a counter so long after it began, on a machine that does something else as well."""
TICKS: Final = 100
"""Clock ticks a second in /proc: USER_HZ, the same on all Linux systems."""
_CARD: Final = ("rx", "rxPackets", "rxErrors", "rxDropped", "tx", "txPackets", "txErrors", "txDropped")


class Reading(NamedTuple):
    """Counters read between two moments of time.monotonic()."""

    began: float
    ended: float
    values: Mapping[str, int]


class CounterLog:
    """Reads the counters of some guests in a thread of its own, as a context manager.

    Counters are named ``vda.rd_bytes``, ``vnet0.rx``, ``memory.usable``, ``host.user``.
    """

    def __init__(self, uri: str, guests: Iterable[Guest]) -> None:
        self._uri = uri
        self._readings: dict[str, list[Reading]] = {guest.uuid: [] for guest in guests}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10.0)

    def _read_all(self) -> None:
        connection = libvirt.openReadOnly(self._uri)
        with contextlib.closing(connection):
            while not self._ending.wait(READ_S):
                for vm, readings in self._readings.items():
                    with contextlib.suppress(libvirt.libvirtError, OSError):
                        readings.append(_read(connection.lookupByUUIDString(vm)))

    def before(self, vm: str, at: float) -> Reading:
        """The last reading that ended before a moment. Raises CheckFailed if there is none."""
        readings = self._readings[vm]
        number = bisect.bisect_right(readings, at, key=lambda reading: reading.ended)
        if not number:
            raise CheckFailed(f"no reading of {vm} before {at}")
        return readings[number - 1]

    def after(self, vm: str, at: float) -> Reading:
        """The first reading that began after a moment; waits for it. Raises CheckFailed if none comes."""
        readings = self._readings[vm]
        end = time.monotonic() + 10.0
        while not readings or readings[-1].began < at:
            if time.monotonic() > end:
                raise CheckFailed(f"no reading of {vm} after {at}")
            time.sleep(0.05)
        return readings[bisect.bisect_left(readings, at, key=lambda reading: reading.began)]

    def between(self, vm: str, begin: float, end: float) -> list[Reading]:
        """All readings that touch a span of time."""
        return [reading for reading in self._readings[vm] if reading.ended >= begin and reading.began <= end]

    def at(self, vm: str, name: str, moment: float) -> tuple[int, int]:
        """Bounds of a counter that only grows, as a sample that began at a moment must have seen it."""
        late = self.after(vm, moment + SAMPLE_S)
        return self.before(vm, moment).values[name], late.values[name]

    def growth(self, vm: str, name: str, begin: float, end: float) -> tuple[int, int]:
        """Bounds of the growth of a counter between two samples that began at these moments."""
        (first_low, first_high), (last_low, last_high) = self.at(vm, name, begin), self.at(vm, name, end)
        return max(0, last_low - first_high), last_high - first_low

    def fell(self, vm: str, name: str, begin: float, end: float) -> bool:
        """Whether a counter began anew between two samples that began at these moments."""
        readings = self.between(vm, begin - SAMPLE_S, end + SAMPLE_S)
        values = [one.values[name] for one in readings if name in one.values]
        return any(later < earlier for earlier, later in pairwise(values))

    def busiest(self, vm: str, name: str, begin: float, end: float, seconds: float) -> float:
        """The highest rate of a counter over spans of at least so many seconds, per second."""
        return max(self._rates(vm, name, begin, end, seconds), default=0.0)

    def shares(self, vm: str, name: str, begin: float, end: float, seconds: float) -> Iterator[float]:
        """Percent of the host's time that went to one kind of ticks, over spans of at least so many seconds."""
        kinds = ("host.user", "host.system", "host.idle")
        for first, last in self._spans(vm, begin, end, seconds):
            spent = {kind: last.values[kind] - first.values[kind] for kind in kinds}
            yield 100 * spent[name] / max(1, sum(spent.values()))

    def _rates(self, vm: str, name: str, begin: float, end: float, seconds: float) -> Iterator[float]:
        for first, last in self._spans(vm, begin, end, seconds):
            if name not in first.values:
                # The guest's balloon driver has not reported yet.
                continue
            yield (last.values[name] - first.values[name]) / (last.began - first.began)

    def _spans(self, vm: str, begin: float, end: float, seconds: float) -> Iterator[tuple[Reading, Reading]]:
        readings = self.between(vm, begin, end)
        for number, first in enumerate(readings):
            last = next((reading for reading in readings[number:] if reading.began - first.began >= seconds), None)
            if last is not None:
                yield first, last


def _read(domain: libvirt.virDomain) -> Reading:
    began = time.monotonic()
    values = dict(_values(domain))
    return Reading(began, time.monotonic(), values)


def _values(domain: libvirt.virDomain) -> Iterator[tuple[str, int]]:
    devices = safe_xml.parse(domain.XMLDesc(0))
    for disk, path in _by_target(devices, "disk", "source", "file"):
        yield from ((f"{disk}.{name}", value) for name, value in domain.blockStatsFlags(disk).items())
        image = Path(path).stat()
        yield from ((f"{disk}.st_size", image.st_size), (f"{disk}.st_blocks", image.st_blocks))
    for card, _ in _by_target(devices, "interface", "target", "dev"):
        yield from ((f"{card}.{name}", value) for name, value in zip(_CARD, domain.interfaceStats(card), strict=True))
    yield from ((f"memory.{name}", value) for name, value in domain.memoryStats().items())
    yield from _of_host()


def _by_target(domain: Element, kind: str, tag: str, attribute: str) -> Iterator[tuple[str, str]]:
    for device in domain.iterfind(f"devices/{kind}"):
        target, other = device.find("target"), device.find(tag)
        if target is not None and other is not None:
            yield target.get("dev", ""), other.get(attribute, "")


def _of_host() -> Iterator[tuple[str, int]]:
    """Ticks of all CPUs, tasks in hundredths, KiB."""
    line = Path("/proc/stat").read_text("ascii").split("\n", 1)[0]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
    yield from (("host.user", user + nice), ("host.idle", idle + iowait))
    yield "host.system", system + irq + softirq + steal
    yield "host.load", round(100 * float(Path("/proc/loadavg").read_text("ascii").split()[0]))
    memory = meminfo(Path("/proc/meminfo").read_text("ascii"))
    yield from (("host.available", memory["MemAvailable"]), ("host.used", memory["MemTotal"] - memory["MemAvailable"]))


def meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo, of the host or of a guest; KiB by name."""
    return {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}


def process_ticks(pid: int) -> dict[str, int]:
    """Ticks that a process has spent, by their names in /proc/PID/stat."""
    words = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return {"utime": int(words[11]), "stime": int(words[12])}


def uptime(moment: float) -> float:
    """Seconds since the host's boot at a moment of time.monotonic(), by /proc/uptime."""
    return float(Path("/proc/uptime").read_text("ascii").split()[0]) - time.monotonic() + moment
