"""The host's own statistics, from /proc: pure parsers and one thin reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from vmpulse_contract.verbs import HostStats


class CpuTicks(NamedTuple):
    """Ticks since boot over all CPUs, and how many CPUs there are. Waiting for I/O counts as idle."""

    user: int
    system: int
    idle: int
    cpus: int


class ProcTexts(NamedTuple):
    """The files as read at one moment; empty where one could not be read."""

    stat: str
    loadavg: str
    meminfo: str
    uptime: str


_FIELDS: Final = 8
"""user nice system idle iowait irq softirq steal: proc(5); guest time is contained in user."""


def read(proc: Path = Path("/proc")) -> ProcTexts:
    """Read the files. Not for the event loop."""
    return ProcTexts(*(_read(proc / name) for name in ("stat", "loadavg", "meminfo", "uptime")))


def _read(path: Path) -> str:
    try:
        with path.open("rb", buffering=0) as file:
            return (file.readall() or b"").decode("ascii", "replace")
    except OSError:
        return ""


def cpu_ticks(stat: str) -> CpuTicks | None:
    """Parse /proc/stat."""
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    if not lines or len(lines[0]) <= _FIELDS or not all(word.isdecimal() for word in lines[0][1:]):
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, lines[0][1 : _FIELDS + 1])
    return CpuTicks(user + nice, system + irq + softirq + steal, idle + iowait, len(lines) - 1)


def memory_mib(meminfo: str) -> dict[str, int]:
    """Parse /proc/meminfo; MiB by name."""
    found = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) >> 10
    return found


def first_number(text: str) -> float | None:
    """Parse the first word of /proc/loadavg or /proc/uptime."""
    try:
        return float(text.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        return None


def host_stats(texts: ProcTexts, previous: CpuTicks | None) -> tuple[HostStats, CpuTicks | None]:
    """Give the statistics, and the ticks to hand in next time: CPU shares are over the time in between.

    How many VMs there are is not told here: the session counts those it tells of.
    """
    ticks, memory = cpu_ticks(texts.stat), memory_mib(texts.meminfo)
    user, system, idle = _shares(previous, ticks)
    total, free = memory.get("MemTotal"), memory.get("MemAvailable")
    stats = HostStats(
        cpu_user=user,
        cpu_sys=system,
        cpu_idle=idle,
        cpu_load=first_number(texts.loadavg),
        cpu_count=ticks.cpus if ticks else os.cpu_count(),
        mem_total=total,
        mem_used=None if total is None or free is None else total - free,
        mem_free=free,
        swap_total=memory.get("SwapTotal"),
        swap_free=memory.get("SwapFree"),
        elapsed_time=first_number(texts.uptime),
    )
    return stats, ticks


def _shares(previous: CpuTicks | None, now: CpuTicks | None) -> tuple[float | None, float | None, float | None]:
    """Percent of all CPUs; absent without two readings, or if time did not pass."""
    if previous is None or now is None:
        return None, None, None
    spent = [max(0, after - before) for before, after in zip(previous[:3], now[:3], strict=True)]
    total = sum(spent)
    if total == 0:
        return None, None, None
    user, system, idle = (round(100 * ticks / total, 2) for ticks in spent)
    return user, system, idle
