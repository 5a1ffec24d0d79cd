"""Counters of the guests as libvirt's single calls and /proc give them, all the time: what rates are held against.

None of it goes the agent's way, which is the bulk call.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import libvirt

from tests.lab.lab import CheckFailed
from vmpulse_agent.libvirt_edge import safe_xml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from xml.etree.ElementTree import Element

    from tests.lab.guests import Guest

CARD_S: Final = 0.15
"""Between two readings of cards, which cost no monitor's time."""
OTHERS_EACH: Final = 4
"""Of those readings, each so manieth also reads the rest: monitors must be left to the agent as well."""
SAMPLE_S: Final = 1.0
"""A sample of the agent may read a counter so long after it began, on a machine that does something else as well."""
LATE_S: Final = 0.5
"""The same where rates are bounded: both ends of a span are hardly ever late by more than that differently."""
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
        self._of_cards: dict[str, list[Reading]] = {vm: [] for vm in self._readings}
        self._cards: dict[str, list[str]] = {}
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
            for number in itertools.count():
                if self._ending.wait(CARD_S):
                    return
                for vm in self._readings:
                    with contextlib.suppress(libvirt.libvirtError, OSError):
                        self._read(connection.lookupByUUIDString(vm), vm, all_of_it=not number % OTHERS_EACH)

    def _read(self, domain: libvirt.virDomain, vm: str, *, all_of_it: bool) -> None:
        if all_of_it:
            devices = safe_xml.parse(domain.XMLDesc(0))
            self._cards[vm] = [card for card, _ in _by_target(devices, "interface", "target", "dev")]
            self._readings[vm].append(_reading(_values(domain, devices)))
        self._of_cards[vm].append(_reading(_of_the_cards(domain, self._cards[vm])))

    def _kept(self, vm: str, name: str) -> list[Reading]:
        """The readings in which a counter is."""
        known = self._of_cards if name.partition(".")[0] in self._cards.get(vm, ()) else self._readings
        return known[vm]

    def before(self, vm: str, at: float, name: str = "") -> Reading:
        """The last reading that ended before a moment. Raises CheckFailed if there is none."""
        readings = self._kept(vm, name)
        number = bisect.bisect_right(readings, at, key=lambda reading: reading.ended)
        if not number:
            raise CheckFailed(f"no reading of {vm} before {at}")
        return readings[number - 1]

    def after(self, vm: str, at: float, name: str = "") -> Reading:
        """The first reading that began after a moment; waits for it. Raises CheckFailed if none comes."""
        readings = self._kept(vm, name)
        end = time.monotonic() + 10.0
        while not readings or readings[-1].began < at:
            if time.monotonic() > end:
                raise CheckFailed(f"no reading of {vm} after {at}")
            time.sleep(0.05)
        return readings[bisect.bisect_left(readings, at, key=lambda reading: reading.began)]

    def between(self, vm: str, begin: float, end: float, name: str = "") -> list[Reading]:
        """All readings that touch a span of time."""
        return [reading for reading in self._kept(vm, name) if reading.ended >= begin and reading.began <= end]

    def around(self, vm: str, begin: float, end: float, name: str = "") -> list[Reading]:
        """All readings from the last before a span of time to the first after it."""
        first, last = self.before(vm, begin, name), self.after(vm, end, name)
        return self.between(vm, first.began, last.ended, name)

    def at(self, vm: str, name: str, moment: float) -> tuple[int, int]:
        """Bounds of a counter that only grows, as a sample that began at a moment must have seen it."""
        late = self.after(vm, moment + SAMPLE_S, name)
        return self.before(vm, moment, name).values[name], late.values[name]

    def growth(self, vm: str, name: str, begin: float, end: float, early: float = 0.0) -> tuple[int, int]:
        """Bounds of the growth of a counter between two samples that began at these moments, or *early* before."""
        low_begin, low_end = (self.after(vm, begin + LATE_S, name), self.before(vm, end - early, name))
        high_begin, high_end = (self.before(vm, begin - early, name), self.after(vm, end + LATE_S, name))
        least = low_end.values[name] - low_begin.values[name]
        return max(0, least), high_end.values[name] - high_begin.values[name]

    def shares(self, vm: str, name: str, begin: float, end: float, seconds: float) -> Iterator[float]:
        """Percent of the host's time that went to one kind of ticks, over spans of at least so many seconds."""
        kinds = ("host.user", "host.system", "host.idle")
        for first, last in self._spans(vm, begin, end, seconds):
            spent = {kind: last.values[kind] - first.values[kind] for kind in kinds}
            yield 100 * spent[name] / max(1, sum(spent.values()))

    def _spans(self, vm: str, begin: float, end: float, seconds: float) -> Iterator[tuple[Reading, Reading]]:
        readings = self.between(vm, begin, end)
        for number, first in enumerate(readings):
            last = next((reading for reading in readings[number:] if reading.began - first.began >= seconds), None)
            if last is not None:
                yield first, last


def _reading(values: Iterable[tuple[str, int]]) -> Reading:
    began = time.monotonic()
    found = dict(values)
    return Reading(began, time.monotonic(), found)


def _values(domain: libvirt.virDomain, devices: Element) -> Iterator[tuple[str, int]]:
    for disk, path in _by_target(devices, "disk", "source", "file"):
        yield from ((f"{disk}.{name}", value) for name, value in domain.blockStatsFlags(disk).items())
        image = Path(path).stat()
        yield from ((f"{disk}.st_size", image.st_size), (f"{disk}.st_blocks", image.st_blocks))
    yield from ((f"memory.{name}", value) for name, value in domain.memoryStats().items())
    yield from _of_host()


def _of_the_cards(domain: libvirt.virDomain, cards: Iterable[str]) -> Iterator[tuple[str, int]]:
    for card in cards:
        yield from ((f"{card}.{name}", value) for name, value in zip(_CARD, domain.interfaceStats(card), strict=True))


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
    yield from (("host.swap_free", memory["SwapFree"]), ("host.swap_used", memory["SwapTotal"] - memory["SwapFree"]))


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
