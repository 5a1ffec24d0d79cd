"""Many VMs at one moment as arrays, so that lists and metrics of them cost no Python object for each VM.

Entry *i* of each array speaks of the VM ``vms[i]``, by its owner's claim, as ``view.rows`` does one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.rows import Freshness, fresh_limit, owned_rows
from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.view import View
    from vmpulse_contract.identity import HostId, VmId

Number = TypeVar("Number", bound=np.generic)

FRESHNESS: Final = tuple(Freshness)
"""The codes of ``freshness``."""
_KNOWN_STATUS: Final = np.array([VmStatus(code) for code in range(256)], np.uint8)
"""Statuses that this version does not know read as UNKNOWN."""


class Census(NamedTuple):
    """VMs that have an owner: those of ``take`` in the order of their hosts' ids and then in layout order.

    ``host`` and ``row`` say where a VM's owner lists it, ``hosts[host]``; ``at`` is its row in the runtime columns.
    What is read from it is as of ``now`` only until the view goes on.
    """

    view: View
    now: float
    hosts: list[Host]
    vms: list[VmId]
    host: NDArray[np.intp]
    row: NDArray[np.intp]
    at: NDArray[np.intp]

    def only(self, chosen: NDArray[np.intp]) -> Census:
        """Some of the VMs, in the order given."""
        of_host = self.host[chosen]
        used = np.flatnonzero(np.bincount(of_host, minlength=len(self.hosts)))
        numbers = np.empty(len(self.hosts), np.intp)
        numbers[used] = np.arange(len(used))
        vms = [self.vms[at] for at in chosen.tolist()]
        hosts = [self.hosts[number] for number in used.tolist()]
        return Census(self.view, self.now, hosts, vms, numbers[of_host], self.row[chosen], self.at[chosen])

    def by_host(self, values: Iterable[float | None]) -> NDArray[np.float64]:
        """Spread one value for each host over its VMs; None is NaN."""
        return np.array(list(values), np.float64)[self.host]

    def heard(self) -> NDArray[np.bool_]:
        """Whether each VM's host is heard."""
        return np.array([host.heard(self.now) for host in self.hosts], np.bool_)[self.host]

    def status(self) -> NDArray[np.uint8]:
        """VmStatus numbers; UNKNOWN where the host is not heard."""
        said = _KNOWN_STATUS[self.view.runtime.status[self.at]]
        return np.where(self.heard(), said, np.uint8(VmStatus.UNKNOWN))

    def age(self) -> NDArray[np.float64]:
        """Ages in seconds; NaN: unknown."""
        own = self.view.runtime.stats_age[self.at]
        frames = self.by_host(host.frame_age(self.now) for host in self.hosts)
        return np.where(own == UNKNOWN_32, np.nan, frames + own / 10)

    def freshness(self) -> NDArray[np.uint8]:
        """Positions in FRESHNESS."""
        fresh = self.age() <= self.by_host(map(fresh_limit, self.hosts))
        codes = np.where(fresh, FRESHNESS.index(Freshness.FRESH), FRESHNESS.index(Freshness.STALE))
        return np.where(self.heard(), codes, FRESHNESS.index(Freshness.UNKNOWN)).astype(np.uint8)

    def cpu_user(self) -> NDArray[np.float64]:
        """Percent of one CPU; NaN: unknown."""
        return _known(self.view.runtime.cpu_user[self.at], UNKNOWN_32) / 10

    def cpu_sys(self) -> NDArray[np.float64]:
        """Percent of one CPU; NaN: unknown."""
        return _known(self.view.runtime.cpu_sys[self.at], UNKNOWN_32) / 10

    def mem_usage(self) -> NDArray[np.float64]:
        """Percent of the VM's memory; NaN: unknown."""
        return _known(self.view.runtime.mem_usage[self.at], UNKNOWN_8)

    def elapsed(self) -> NDArray[np.float64]:
        """Seconds since each VM's start; NaN: unknown, or not running."""
        if not self.hosts:
            return np.empty(0)
        base = self.listed([np.array(host.elapsed, np.float64) for host in self.hosts])
        tokens = self.listed([np.asarray(host.tokens) for host in self.hosts])
        since = self.by_host(_since_roster_ms(host, self.now) for host in self.hosts)
        return np.where(tokens == 0, np.nan, base + since) / 1000

    def announced(self) -> NDArray[np.uint64]:
        """Announced hashes, a row for each VM and a column for each section; ABSENT where not known."""
        return self._hashes([host.announced for host in self.hosts])

    def held(self) -> NDArray[np.uint64]:
        """Held hashes, alike."""
        return self._hashes([host.held for host in self.hosts])

    def kept(self, section: Section) -> list[bytes | None]:
        """The bodies held of a section, as they are kept: guestDetails as each host's ``details`` packs them."""
        # A call for each of 10,000 VMs costs more than this list.
        held = [host.bodies[section::WIDTH] for host in self.hosts]
        return [held[host][row] for host, row in zip(self.host.tolist(), self.row.tolist(), strict=True)]

    def _hashes(self, hashes: list[array[int]]) -> NDArray[np.uint64]:
        if not hashes:
            return np.empty((0, WIDTH), np.uint64)
        return self.listed([np.asarray(each).reshape(-1, WIDTH) for each in hashes])

    def listed(self, values: list[NDArray[Number]]) -> NDArray[Number]:
        """Pick out of what each host has for all VMs that it lists, in layout order."""
        starts = np.cumsum([0, *(len(each) for each in values)])
        found: NDArray[Number] = np.concatenate(values)[starts[self.host] + self.row]
        return found


def take(view: View, hosts: Iterable[Host], now: float) -> Census:
    """Look at the VMs that *hosts* own."""
    ordered = sorted(hosts, key=lambda host: host.id)
    vms: list[VmId] = []
    rows: list[int] = []
    counts: list[int] = []
    for host in ordered:
        owned = owned_rows(view, host)
        vms += host.vms if len(owned) == len(host.vms) else [host.vms[row] for row in owned]
        rows += owned
        counts.append(len(owned))
    of_host = np.repeat(np.arange(len(ordered), dtype=np.intp), counts)
    starts = np.array([host.block.start for host in ordered], np.intp)
    row = np.array(rows, np.intp)
    return Census(view, now, ordered, vms, of_host, row, starts[of_host] + row)


def of(view: View, vms: Iterable[Vm], now: float) -> Census:
    """Look at some VMs, in the order given; all of them have an owner."""
    hosts: dict[HostId, Host] = {}
    numbers: dict[HostId, int] = {}
    ids: list[VmId] = []
    of_host: list[int] = []
    rows: list[int] = []
    for vm in vms:
        host = vm.owner
        if host is None:
            msg = "a VM without an owner is on no host"
            raise KeyError(msg)
        hosts[host.id] = host
        ids.append(vm.id)
        of_host.append(numbers.setdefault(host.id, len(numbers)))
        rows.append(host.index[vm.id])
    starts = np.array([host.block.start for host in hosts.values()], np.intp)
    host_array, row = np.array(of_host, np.intp), np.array(rows, np.intp)
    return Census(view, now, list(hosts.values()), ids, host_array, row, starts[host_array] + row)


def _known(values: NDArray[np.uint8] | NDArray[np.uint32], unknown: int) -> NDArray[np.float64]:
    return np.where(values == unknown, np.nan, values.astype(np.float64))


def _since_roster_ms(host: Host, now: float) -> float:
    return 0.0 if host.offset is None else max(0.0, (now - host.offset) * 1000 - host.roster_ms)
