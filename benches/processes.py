"""What a process costs, as the kernel counts it: proc(5)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
STAT_FIELDS: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
MEMORY: Final = {"VmRSS": "rss_mib", "Pss": "pss_mib", "Threads": "threads"}


class Usage(NamedTuple):
    """What a process has used since it began: CPU time of user and system together, and how often it was put to work.

    Threads that have ended are not in it; none of the programs measured here ends threads while it is measured.
    """

    cpu_ns: int
    wakes: int

    def since(self, before: Usage) -> Usage:
        """What was used from *before* to this one."""
        return Usage(self.cpu_ns - before.cpu_ns, self.wakes - before.wakes)


def usage(pid: int) -> Usage:
    """Add up the threads. ``schedstat`` counts nanoseconds, ``stat`` only ticks of 10 ms; not every kernel has it."""
    tasks = list((PROC / str(pid) / "task").iterdir())
    return Usage(sum(map(_cpu_ns, tasks)), sum(map(_wakes, tasks)))


def machine_cpu_ns() -> int:
    """CPU time of everything on the machine since it booted, but for waiting."""
    fields = dict(zip(STAT_FIELDS, map(int, (PROC / "stat").read_text().split()[1:]), strict=False))
    return TICK_NS * sum(fields[name] for name in STAT_FIELDS if name not in {"idle", "iowait"})


def memory(pid: int) -> dict[str, float]:
    """Resident memory, this process's share of it (pages shared with others are divided), and its threads."""
    found = {}
    for name in ("status", "smaps_rollup"):
        for line in (PROC / str(pid) / name).read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in MEMORY:
                number = int(rest.split()[0])
                found[MEMORY[key]] = round(number / 1024, 2) if "kB" in rest else number
    return found


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())


def _cpu_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_NS


def _wakes(task: Path) -> int:
    lines = (task / "status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
