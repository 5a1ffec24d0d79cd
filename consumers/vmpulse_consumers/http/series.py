"""The metrics of each VM and each host, as lines of text. Values carry only ``vm``: a migration splits no series.

Of a VM whose host is not heard only its info, its age and its status (Unknown) are written, for the last values are no
measurements any more. ``vmpulse_vm_status`` has a sample for the status that holds and none for the other eleven:
dashboards filter and count by label, and 10,000 VMs save 110,000 zeros in each scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vmpulse_consumers.http import census
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.host_stats import HostSaid, host_said, stats_of
from vmpulse_consumers.view.names import name_in
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.values import STATUS_LABELS, VmStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from vmpulse_consumers.http.census import Census
    from vmpulse_consumers.view.view import View
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
_LABELS: Final = [STATUS_LABELS.get(code, STATUS_LABELS[VmStatus.UNKNOWN]) for code in range(256)]


class Snapshot(NamedTuple):
    """What one scrape tells of VMs and hosts, taken at once; nothing in it changes with the view."""

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
        [*found.vms, *(vm for vm, _ in moving)],
        [host.id for host in found.hosts],
        [*found.host.tolist(), *(numbers[transit.host.id] for _, transit in moving)],
        [*_infos(found), *(transit.info for _, transit in moving)],
        np.concatenate([found.status(), statuses]),
        cpu_user,
        cpu_sys,
        mem_usage,
        ages,
        [host.frame_age(now) for host in found.hosts],
        [host_said(host, now) for host in found.hosts],
    )


def _infos(found: Census) -> list[bytes | None]:
    bodies = [host.bodies for host in found.hosts]
    places = zip(found.host.tolist(), found.row.tolist(), strict=True)
    return [bodies[host][row * WIDTH + Section.INFO] for host, row in places]


def write(taken: Snapshot, *, openmetrics: bool) -> Iterator[str]:
    """Write the families of VMs and hosts; *openmetrics* decides how info families are declared."""
    ids = [vm_text(vm) for vm in taken.vms]
    yield _head("vmpulse_vm_info", "Where a VM is and what it is called; 1.", openmetrics=openmetrics)
    yield from _info(taken, ids)
    yield _head("vmpulse_vm_status", "1 for the status that the VM has.")
    statuses = zip(ids, taken.status.tolist(), strict=True)
    yield from (f'vmpulse_vm_status{{vm="{vm}",status="{_LABELS[status]}"}} 1\n' for vm, status in statuses)
    for name, words, values in (
        ("vmpulse_vm_cpu_user_ratio", "CPU time outside the host kernel; 1 is one CPU.", taken.cpu_user / 100),
        ("vmpulse_vm_cpu_sys_ratio", "CPU time in the host kernel; 1 is one CPU.", taken.cpu_sys / 100),
        ("vmpulse_vm_memory_usage_ratio", "Share of the VM's memory in use.", taken.mem_usage / 100),
        ("vmpulse_vm_age_seconds", "Seconds since the VM's values were read on its host.", taken.age),
    ):
        yield _head(name, words)
        yield from _values(name, ids, values)
    yield _head("vmpulse_host_age_seconds", "Seconds since the host made the last frame applied.")
    ages = ((host, age) for host, age in zip(taken.hosts, taken.host_ages, strict=True) if age is not None)
    yield from (f'vmpulse_host_age_seconds{{host="{host}"}} {age:.3f}\n' for host, age in ages)
    hosts = [(host, stats_of(said)) for host, said in zip(taken.hosts, taken.host_said, strict=True) if said]
    for name, words, value_of in _HOST_VALUES:
        yield _head(name, words)
        told = ((host, value_of(stats)) for host, stats in hosts)
        yield from (f'{name}{{host="{host}"}} {value}\n' for host, value in told if value is not None)


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 3)


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib << 20


def _swap_used(stats: HostStats) -> int | None:
    return None if stats.swap_total is None or stats.swap_free is None else stats.swap_total - stats.swap_free


def _head(name: str, words: str, *, openmetrics: bool = False) -> str:
    kind = "info" if openmetrics else "gauge"
    family = name.removesuffix("_info") if openmetrics else name
    return f"# HELP {family} {words}\n# TYPE {family} {kind}\n"


def _info(taken: Snapshot, ids: list[str]) -> Iterable[str]:
    for vm, host, body in zip(ids, taken.host, taken.infos, strict=True):
        name = (name_in(body) or "").translate(_ESCAPES)
        yield f'vmpulse_vm_info{{vm="{vm}",name="{name}",host="{taken.hosts[host]}"}} 1\n'


def _values(name: str, ids: list[str], values: NDArray[np.float64]) -> Iterable[str]:
    """One line for each value that is known."""
    known = np.flatnonzero(~np.isnan(values))
    numbers = np.round(values[known], 3).tolist()
    return (f'{name}{{vm="{ids[at]}"}} {number}\n' for at, number in zip(known.tolist(), numbers, strict=True))
