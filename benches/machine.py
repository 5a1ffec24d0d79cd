"""How busy the machine is, whoever makes it so: proc(5)."""

from __future__ import annotations

from benches.processes import PROC


class Idle:
    """How much of the machine's CPUs nobody used, since this was made."""

    def __init__(self) -> None:
        self._before = _ticks()

    def share(self) -> float:
        """From 0 to 1."""
        idle, total = (now - before for now, before in zip(_ticks(), self._before, strict=True))
        return round(idle / max(1, total), 2)


def _ticks() -> tuple[int, int]:
    """Idle ones, and all: user, nice, system, idle, iowait, irq, softirq, steal."""
    fields = [int(word) for word in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
