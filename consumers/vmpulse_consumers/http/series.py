"""The metrics of each VM and each host, as lines of text. Values carry only ``vm``: a migration splits no series.

Of a VM whose host is not heard only its info, its age and its status (Unknown) are written, for the last values are no
measurements any more. ``vmpulse_vm_status`` has a sample for the status that holds and none for the other eleven:
dashboards filter and count by label, and 10,000 VMs save 110,000 zeros in each scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vmpulse_consumers.http import census
from vmpulse_consumers.http.text_columns import id_column, json_column, woven
from vmpulse_consumers.view.host import DRIFT
from vmpulse_consumers.view.host_stats import HostSaid, host_said, stats_of
from vmpulse_consumers.view.names import name_in
from vmpulse_contract.sections import Section
from vmpulse_contract.values import STATUS_LABELS, VmStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from vmpulse_consumers.view.view import View
    from vmpulse_contract.identity import VmId
    from vmpulse_contract.verbs import HostStats

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HOST_VALUES: Final[tuple[tuple[str, str, Callable[[HostStats], float | None]], ...]] = (
    ("vmpulse_host_cpus", "CPUs of the host.", lambda stats: stats.cpu_count),
    ("vmpulse_host_cpu_user_ratio", "Share of all CPUs outside the kernel.", lambda stats: _ratio(stats.cpu_user)),
    ("vmpulse_host_cpu_sys_ratio", "Share of all CPUs in the kernel.", lambda stats: _ratio(stats.cpu_sys)),
    ("vmpulse_host_load", "Load average over a minute.", lambda stats: stats.cpu_load),
    ("vmpulse_host_memory_size_bytes", "Memory of the host.", lambda stats: _bytes(stats.mem_total)),
    ("vmpulse_host_memory_used_bytes", "Memory in use.", lambda stats: _bytes(stats.mem_used)),
    ("vmpulse_host_swap_size_bytes", "Swap space of the host.", lambda stats: _bytes(stats.swap_total)),
    ("vmpulse_host_swap_used_bytes", "Swap space in use.", lambda stats: _bytes(_swap_used(stats))),
)
_LABELS: Final = [STATUS_LABELS.get(code, STATUS_LABELS[VmStatus.UNKNOWN]).encode() for code in range(256)]
VMS_A_PIECE: Final = 1000


class Snapshot(NamedTuple):
    """What one scrape tells of VMs and hosts, taken at once; nothing in it changes with the view."""

    now: float
    vms: list[VmId]
    hosts: list[str]
    host: list[int]
    infos: list[bytes | None]
    status: NDArray[np.uint8]
    cpu_user: NDArray[np.float64]
    cpu_sys: NDArray[np.float64]
    mem_usage: NDArray[np.float64]
    age: NDArray[np.float64]
    host_ages: list[float | None]
    host_said: list[HostSaid | None]


def snapshot(view: View, now: float) -> Snapshot:
    """Take what is to be written; the only part that has to run in the view's loop."""
    found = census.take(view, view.hosts.values(), now)
    unheard = ~found.heard()
    values = found.cpu_user(), found.cpu_sys(), found.mem_usage()
    for column in values:
        column[unheard] = np.nan
    # Who is in transit between two hosts is on its source, and nothing of it is measured.
    numbers = {host.id: number for number, host in enumerate(found.hosts)}
    moving = [(vm.id, vm.transit) for vm in view.transits.values() if vm.transit is not None]
    statuses = np.array([transit.status(now) for _, transit in moving], np.uint8)
    cpu_user, cpu_sys, mem_usage, ages = (
        np.concatenate([column, np.full(len(moving), np.nan)]) for column in (*values, found.age())
    )
    return Snapshot(
        now,
        [*found.vms, *(vm for vm, _ in moving)],
        [host.id for host in found.hosts],
        [*found.host.tolist(), *(numbers[transit.host.id] for _, transit in moving)],
        [*found.kept(Section.INFO), *(transit.info for _, transit in moving)],
        np.concatenate([found.status(), statuses]),
        cpu_user,
        cpu_sys,
        mem_usage,
        ages,
        [host.frame_age(now) for host in found.hosts],
        [host_said(host, now) for host in found.hosts],
    )


class Series:
    """Writes what one snapshot tells, in pieces that take half a millisecond or so."""

    def __init__(self, taken: Snapshot) -> None:
        self.taken = taken
        self._rows = [slice(first, first + VMS_A_PIECE) for first in range(0, len(taken.vms), VMS_A_PIECE)]
        self._ids: dict[int, list[bytes]] = {}

    def values(self, *, openmetrics: bool) -> Iterator[bytes]:
        """Write all families but the ages; *openmetrics* decides how info families are declared."""
        taken = self.taken
        yield _head("vmpulse_vm_info", "Where a VM is and what it is called; 1.", openmetrics=openmetrics)
        yield from map(self._infos, self._rows)
        yield _head("vmpulse_vm_status", "1 for the status that the VM has.")
        yield from map(self._statuses, self._rows)
        for name, words, percent in (
            ("vmpulse_vm_cpu_user_ratio", "CPU time outside the host kernel; 1 is one CPU.", taken.cpu_user),
            ("vmpulse_vm_cpu_sys_ratio", "CPU time in the host kernel; 1 is one CPU.", taken.cpu_sys),
            ("vmpulse_vm_memory_usage_ratio", "Share of the VM's memory in use.", taken.mem_usage),
        ):
            yield _head(name, words)
            yield from (self._numbers(name, rows, percent[rows] / 100) for rows in self._rows)
        hosts = [(host, stats_of(said)) for host, said in zip(taken.hosts, taken.host_said, strict=True) if said]
        for name, words, value_of in _HOST_VALUES:
            yield _head(name, words)
            told = ((host, value_of(stats)) for host, stats in hosts)
            yield "".join(f'{name}{{host="{host}"}} {value}\n' for host, value in told if value is not None).encode()

    def ages(self, now: float) -> Iterator[bytes]:
        """Write the ages, which go on."""
        taken = self.taken
        passed = max(0.0, now - taken.now) * (1 + DRIFT)
        name = "vmpulse_vm_age_seconds"
        yield _head(name, "Seconds since the VM's values were read on its host.")
        yield from (self._numbers(name, rows, taken.age[rows] + passed) for rows in self._rows)
        name = "vmpulse_host_age_seconds"
        yield _head(name, "Seconds since the host made the last frame applied.")
        ages = ((host, age) for host, age in zip(taken.hosts, taken.host_ages, strict=True) if age is not None)
        yield "".join(f'{name}{{host="{host}"}} {age + passed:.3f}\n' for host, age in ages).encode()

    def _infos(self, rows: slice) -> bytes:
        taken = self.taken
        names = [(name_in(info) or "").translate(_ESCAPES).encode() for info in taken.infos[rows]]
        hosts = [taken.hosts[number].encode() for number in taken.host[rows]]
        return _lines("vmpulse_vm_info", self._id_column(rows), [b'",name="'], names, [b'",host="'], hosts, [b'"} 1'])

    def _statuses(self, rows: slice) -> bytes:
        labels = [_LABELS[status] for status in self.taken.status[rows].tolist()]
        return _lines("vmpulse_vm_status", self._id_column(rows), [b'",status="'], labels, [b'"} 1'])

    def _numbers(self, name: str, rows: slice, values: NDArray[np.float64]) -> bytes:
        """One line for each value that is known."""
        ids, known = self._id_column(rows), ~np.isnan(values)
        if not known.all():
            ids = [ids[at] for at in np.flatnonzero(known).tolist()]
        return _lines(name, ids, json_column(np.round(values[known], 3).tolist(), b'"} '))

    def _id_column(self, rows: slice) -> list[bytes]:
        """The ids of some VMs, which nearly all families name."""
        ids = self._ids.get(rows.start)
        if ids is None:
            ids = self._ids[rows.start] = id_column(self.taken.vms[rows])
        return ids


def _lines(name: str, ids: list[bytes], *columns: list[bytes]) -> bytes:
    """Lines of a family whose first label is ``vm``; a column of one entry is the same in all of them."""
    count = len(ids)
    whole = ([f'{name}{{vm="'.encode()], ids, *columns, [b"\n"])
    return woven(*(column if len(column) == count else column * count for column in whole))


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 3)


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib << 20


def _swap_used(stats: HostStats) -> int | None:
    return None if stats.swap_total is None or stats.swap_free is None else stats.swap_total - stats.swap_free


def _head(name: str, words: str, *, openmetrics: bool = False) -> bytes:
    kind = "info" if openmetrics else "gauge"
    family = name.removesuffix("_info") if openmetrics else name
    return f"# HELP {family} {words}\n# TYPE {family} {kind}\n".encode()
