"""One page of VMs: filtered and ordered on arrays, so that rows are built for the page alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from msgspec import Struct

from vmpulse_consumers.http import census
from vmpulse_consumers.http.census import FRESHNESS, Census
from vmpulse_consumers.http.host_list import labelled
from vmpulse_consumers.http.queries import SECTIONS_MAXIMUM, STATUSES, VmQuery
from vmpulse_consumers.http.refusals import Refused
from vmpulse_consumers.http.vm_rows import vm_rows
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.rows import VmRow, name_of, vm_row
from vmpulse_contract.identity import vm_id, vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.values import STATUS_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.view import View
    from vmpulse_contract.identity import VmId

ID_TEXT: Final = re.compile(r"[0-9a-f-]+")
END: Final = b"]}"
"""What a page ends with."""


class VmPage(Struct, frozen=True):
    """One page of VMs. ``total`` counts all that the filters let through."""

    total: int
    limit: int
    offset: int
    vms: list[VmRow]


def vm_page(view: View, now: float, query: VmQuery) -> Iterator[bytes]:
    """Give the page that a query asks for, a VmPage as JSON, of the moment *now*.

    It is written piece by piece as these are asked for; the view may go on meanwhile. Raises Refused (400) if VMs are
    asked for after one in another order, or too many of them with sections.
    """
    if query.sections and query.limit > SECTIONS_MAXIMUM:
        allowed = f"1 to {SECTIONS_MAXIMUM} with sections=true"
        raise Refused(400, f"limit={query.limit} is given with sections=true", "parameter limit", allowed)
    by_id = query.sort.removeprefix("-") == "id"
    if query.after is not None and not by_id:
        raise Refused(400, f"after is given with sort={query.sort}", "parameter after", "with sort=id or sort=-id")
    if by_id and not _filtered(query):
        return _page_by_id(view, now, query, list(view.vms))
    hosts = list(labelled(view.hosts.values(), query.label))
    if query.host is not None:
        hosts = [host for host in hosts if host.named(query.host)]
    found = census.take(view, hosts, now)
    matching, moving = _matching(found, query), _in_transit(view, now, query, hosts)
    if by_id:
        return _page_by_id(view, now, query, [found.vms[at] for at in matching.tolist()] + [vm.id for vm in moving])
    ordered, last = _ordered(found, matching, query.sort), query.offset + query.limit
    page = found.only(ordered[query.offset : last])
    behind = moving[max(0, query.offset - len(ordered)) : max(0, last - len(ordered))]
    return _page(query, len(ordered) + len(moving), page, {len(page.vms): behind})


def _filtered(query: VmQuery) -> bool:
    return bool(query.host or query.label or query.status or query.freshness or query.split_brain or query.text)


def _page_by_id(view: View, now: float, query: VmQuery, ids: list[VmId]) -> Iterator[bytes]:
    """The page out of some VMs, among which those in transit may be anywhere."""
    owned: list[Vm] = []
    moving: dict[int, list[Vm]] = {}
    for vm in map(view.vms.__getitem__, page_of_ids(ids, query)):
        if vm.owner is None:
            moving.setdefault(len(owned), []).append(vm)
        else:
            owned.append(vm)
    return _page(query, len(ids), census.of(view, owned, now), moving)


def _page(query: VmQuery, total: int, found: Census, moving: Mapping[int, list[Vm]]) -> Iterator[bytes]:
    begin = msgspec.json.encode(VmPage(total, query.limit, query.offset, [])).removesuffix(END)
    return _framed(begin, vm_rows(found, moving, with_sections=query.sections))


def _framed(begin: bytes, rows: Iterator[bytes]) -> Iterator[bytes]:
    yield begin + next(rows, b"").removeprefix(b",")
    yield from rows
    yield END


def _in_transit(view: View, now: float, query: VmQuery, hosts: list[Host]) -> list[Vm]:
    """VMs that have left one of *hosts* and were not seen anywhere yet, by id; nobody owns them, so they come last."""
    asked = {host.id for host in hosts}
    moved = [vm for vm in view.transits.values() if vm.transit is not None and vm.transit.host.id in asked]
    return sorted((vm for vm in moved if _passes(vm_row(view, now, vm), query)), key=lambda vm: vm.id)


def _passes(row: VmRow, query: VmQuery) -> bool:
    if query.status and row.status.casefold() not in {label.casefold() for label in query.status}:
        return False
    if query.freshness and row.freshness not in query.freshness:
        return False
    if query.split_brain and not row.split_brain:
        return False
    wanted = (query.text or "").casefold()
    return wanted in (row.name or "").casefold() or wanted in row.id


def _matching(found: Census, query: VmQuery) -> NDArray[np.intp]:
    """The entries that pass the filters, in the census's order."""
    kept = np.ones(len(found.vms), np.bool_)
    if query.status:
        kept &= np.isin(found.status(), [STATUSES[label.casefold()] for label in query.status])
    if query.freshness:
        kept &= np.isin(found.freshness(), [FRESHNESS.index(kind) for kind in query.freshness])
    if query.split_brain:
        kept &= np.array([vm in found.view.split for vm in found.vms], np.bool_)
    chosen = np.flatnonzero(kept)
    if not query.text:
        return chosen
    contains = _text_filter(found, query.text.casefold())
    return np.array([at for at in chosen.tolist() if contains(at)], np.intp)


# --- text -----------------------------------------------------------------------------------------------------------


class _Texts(Struct):
    username: str | None = None
    guest_ips: tuple[str, ...] = msgspec.field(default=(), name="guestIPs")


_TEXTS: Final = msgspec.msgpack.Decoder(_Texts)


def _text_filter(found: Census, wanted: str) -> Callable[[int], bool]:
    """Tell of an entry whether *wanted* stands in its name, id, guest IPs or user."""
    hosts, of_host, rows = [found.hosts[number] for number in found.host.tolist()], found.vms, found.row.tolist()
    like_id = ID_TEXT.fullmatch(wanted) is not None

    def contains(at: int) -> bool:
        host, row = hosts[at], rows[at]
        name = name_of(host, row)
        if name is not None and wanted in name.casefold():
            return True
        return (like_id and wanted in vm_text(of_host[at])) or _in_status(host, row, wanted)

    return contains


def _in_status(host: Host, row: int, wanted: str) -> bool:
    body = host.bodies[row * WIDTH + Section.STATUS]
    if body is None:
        return False
    try:
        texts = _TEXTS.decode(body)
    except msgspec.MsgspecError:
        return False
    return wanted in (texts.username or "").casefold() or any(wanted in ip for ip in texts.guest_ips)


# --- order ----------------------------------------------------------------------------------------------------------


def page_of_ids(ids: list[VmId], query: VmQuery) -> list[VmId]:
    """The ids of a page in the order of ids; no others are put in order."""
    halves = np.frombuffer(b"".join(ids), ">u8").astype(np.uint64).reshape(-1, 2)
    after = None if query.after is None else np.frombuffer(vm_id(query.after), ">u8").astype(np.uint64)
    if query.sort.startswith("-"):
        halves, after = ~halves, None if after is None else ~after
    left = np.arange(len(ids))
    if after is not None:
        left = np.flatnonzero((halves[:, 0] > after[0]) | ((halves[:, 0] == after[0]) & (halves[:, 1] > after[1])))
    needed = query.offset + query.limit
    if needed < len(left):
        high = halves[left, 0]
        left = left[high <= np.partition(high, needed - 1)[needed - 1]]
    left = left[np.lexsort((halves[left, 1], halves[left, 0]))][query.offset : needed]
    return [ids[at] for at in left.tolist()]


def _ordered(found: Census, chosen: NDArray[np.intp], sort: str) -> NDArray[np.intp]:
    """Put entries in order; equal ones by host and id, unknown values last in either direction."""
    descending, key = sort.startswith("-"), sort.removeprefix("-")
    ids = np.frombuffer(b"".join(found.vms), ">u8").reshape(-1, 2)[chosen]
    hosts = found.host[chosen]
    if key == "host":
        return chosen[np.lexsort((ids[:, 1], ids[:, 0], -hosts if descending else hosts))]
    chosen = chosen[np.lexsort((ids[:, 1], ids[:, 0], hosts))]
    if key == "name":
        return _by_name(found, chosen, descending=descending)
    values = _KEYS[key](found)[chosen]
    return chosen[np.argsort(np.where(np.isnan(values), np.inf, -values if descending else values), kind="stable")]


def _by_name(found: Census, chosen: NDArray[np.intp], *, descending: bool) -> NDArray[np.intp]:
    hosts, rows = found.host[chosen].tolist(), found.row[chosen].tolist()
    names = [name_of(found.hosts[host], row) for host, row in zip(hosts, rows, strict=True)]
    with_name = [(name.casefold(), at) for name, at in zip(names, chosen.tolist(), strict=True) if name is not None]
    with_name.sort(key=lambda pair: pair[0], reverse=descending)
    without = [at for name, at in zip(names, chosen.tolist(), strict=True) if name is None]
    return np.array([at for _, at in with_name] + without, np.intp)


_LABEL_RANK: Final = {
    code: rank for rank, code in enumerate(sorted(STATUS_LABELS, key=lambda code: STATUS_LABELS[code]))
}
_STATUS_RANK: Final = np.array([_LABEL_RANK.get(code, np.nan) for code in range(256)])
"""Statuses order by their labels, as people read them."""


def _status_rank(found: Census) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = _STATUS_RANK[found.status()]
    return ranks


_KEYS: Final[dict[str, Callable[[Census], NDArray[np.float64]]]] = {
    "status": _status_rank,
    "age": Census.age,
    "cpu": lambda found: found.cpu_user() + found.cpu_sys(),
    "mem": Census.mem_usage,
    "elapsed": Census.elapsed,
}
