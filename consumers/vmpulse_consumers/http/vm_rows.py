"""The rows of a page of VMs: those that ``view.rows.vm_row`` gives one by one, at less than half the cost.

What holds for all VMs of a host is looked up once for it, and values are taken out of the arrays together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.names import name_in
from vmpulse_consumers.view.rows import (
    Freshness,
    VmRow,
    fresh_limit,
    hashes_of,
    repairing_of,
    sections_of,
    vm_row,
)
from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.values import STATUS_LABELS, VmStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.view import View
    from vmpulse_contract.identity import HostId

_UNKNOWN: Final = STATUS_LABELS[VmStatus.UNKNOWN]
_LABELS: Final = [STATUS_LABELS.get(code, _UNKNOWN) for code in range(256)]
_INFO, _CONFIG, _STATUS, _DETAILS = (
    section.label for section in (Section.INFO, Section.CONFIG, Section.STATUS, Section.GUEST_DETAILS)
)


def vm_rows(view: View, now: float, vms: Iterable[Vm], *, with_sections: bool = False) -> list[VmRow]:
    """Give the rows of VMs, in their order."""
    sides: dict[HostId, _Side] = {}
    rows = []
    for vm in vms:
        host = vm.owner
        if host is None:
            rows.append(vm_row(view, now, vm))
            continue
        side = sides.get(host.id)
        if side is None:
            side = sides[host.id] = _Side(view, host, now)
        rows.append(side.row(vm, with_sections=with_sections))
    return rows


class _Side:
    """What holds for all VMs of a host, and their values as plain numbers."""

    def __init__(self, view: View, host: Host, now: float) -> None:
        runtime, block = view.runtime, host.block
        rows = slice(block.start, block.start + block.size)
        self.host = host
        self.split = view.split
        self.heard = host.heard(now)
        self.frame_age = host.frame_age(now)
        self.fresh_limit = fresh_limit(host)
        self.ages: dict[int, tuple[float | None, Freshness]] = {}
        self.status: list[int] = runtime.status[rows].tolist()
        self.cpu_user: list[int] = runtime.cpu_user[rows].tolist()
        self.cpu_sys: list[int] = runtime.cpu_sys[rows].tolist()
        self.mem_usage: list[int] = runtime.mem_usage[rows].tolist()
        self.stats_age: list[int] = runtime.stats_age[rows].tolist()
        self.since_roster_ms = 0.0 if host.offset is None else max(0.0, (now - host.offset) * 1000 - host.roster_ms)

    def row(self, vm: Vm, *, with_sections: bool) -> VmRow:
        """Give the row of one of its VMs."""
        host = self.host
        row = host.index[vm.id]
        age, freshness = self._age(self.stats_age[row])
        user, system, memory = self.cpu_user[row], self.cpu_sys[row], self.mem_usage[row]
        base = row * WIDTH
        info, config, status, details = host.announced[base : base + WIDTH]
        held = host.held
        whole = info == held[base] and status == held[base + Section.STATUS] and details == held[base + WIDTH - 1]
        some_absent = ABSENT in {info, config, status, details}
        elapsed = host.elapsed[row] if host.tokens[row] else None
        return VmRow(
            id=vm_text(vm.id),
            host=host.id,
            status=_LABELS[self.status[row]] if self.heard else _UNKNOWN,
            freshness=freshness,
            name=name_in(host.bodies[base]),
            age_s=age,
            cpu_user=None if user == UNKNOWN_32 else user / 10,
            cpu_sys=None if system == UNKNOWN_32 else system / 10,
            mem_usage=None if memory == UNKNOWN_8 else memory,
            elapsed_time=None if elapsed is None else round((elapsed + self.since_roster_ms) / 1000, 3),
            hashes=hashes_of(host, row) if some_absent else _written(info, config, status, details),
            repairing=() if whole else repairing_of(host, row),
            split_brain=vm.id in self.split,
            sections=sections_of(host, row) if with_sections else None,
        )

    def _age(self, own: int) -> tuple[float | None, Freshness]:
        """Age and freshness of values that were read so long before the frame; most of a host are of one moment."""
        found = self.ages.get(own)
        if found is None:
            age = None if self.frame_age is None or own == UNKNOWN_32 else self.frame_age + own / 10
            freshness = Freshness.FRESH if age is not None and age <= self.fresh_limit else Freshness.STALE
            if not self.heard:
                freshness = Freshness.UNKNOWN
            found = self.ages[own] = (None if age is None else round(age, 3), freshness)
        return found


def _written(info: int, config: int, status: int, details: int) -> dict[str, str]:
    return {
        _INFO: f"{info:016x}",
        _CONFIG: f"{config:016x}",
        _STATUS: f"{status:016x}",
        _DETAILS: f"{details:016x}",
    }
