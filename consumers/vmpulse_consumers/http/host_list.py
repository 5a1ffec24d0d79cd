"""Hosts: which one a name means, pages of them, and one host with its VMs and the lives that ended on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from vmpulse_consumers.http.queries import HostQuery
from vmpulse_consumers.http.refusals import Refused, shorten
from vmpulse_consumers.view.rows import HostRow, host_row, name_of, status_of
from vmpulse_contract.identity import VmId, vm_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.view import View
    from vmpulse_contract.stream import Tombstone


class HostPage(Struct, frozen=True):
    """One page of hosts. ``total`` counts all that the filters let through."""

    total: int
    limit: int
    offset: int
    hosts: list[HostRow]


class ListedVm(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A VM as this host lists it. ``owner``: whether it is this host that the view believes."""

    id: str
    status: str
    owner: bool
    name: str | None = None


class Ended(
    Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"exit_code": "exitCode", "exit_reason": "exitReason"}
):
    """A life that ended on this host. ``ended_s``: seconds ago; absent while the agent's clock is not measured."""

    id: str
    exit_code: str
    exit_reason: str
    ended_s: float | None = None


class HostDetail(HostRow, frozen=True, kw_only=True, omit_defaults=True, rename={"listed_vms": "listedVms"}):
    """One host with what it lists."""

    listed_vms: list[ListedVm]
    tombstones: list[Ended]


def labelled(hosts: Iterable[Host], labels: tuple[str, ...]) -> Iterator[Host]:
    """The hosts that have all of *labels*, each ``key:value``."""
    wanted = {tuple(label.split(":", 1)) for label in labels}
    return (host for host in hosts if wanted <= host.facts.labels.items())


def find_host(view: View, name: str) -> Host:
    """Give the host that *name* means. Raises Refused (404; 409 where it means several)."""
    found = [host for host in view.hosts.values() if host.id == name]
    found = found or [host for host in view.hosts.values() if host.named(name)]
    if not found:
        allowed = "a host's id, FQDN or UUID; GET /api/v1/hosts lists them"
        raise Refused(404, f"there is no host {shorten(name)}", "path", allowed)
    if len(found) > 1:
        allowed = f"an id: {', '.join(sorted(host.id for host in found)[:5])}"
        raise Refused(409, f"{len(found)} hosts are named {shorten(name)}", "path", allowed)
    return found[0]


# --- pages ----------------------------------------------------------------------------------------------------------


def host_page(view: View, now: float, query: HostQuery) -> HostPage:
    """Give the page that a query asks for."""
    hosts = [host for host in labelled(view.hosts.values(), query.label) if _matches(host, query)]
    hosts = _ordered(hosts, now, query.sort)
    page = hosts[query.offset : query.offset + query.limit]
    return HostPage(len(hosts), query.limit, query.offset, [host_row(view, host, now) for host in page])


def _matches(host: Host, query: HostQuery) -> bool:
    if query.state and host.state not in query.state:
        return False
    texts = (host.id, host.facts.fqdn or "", host.facts.host_uuid or "")
    return not query.text or any(query.text.casefold() in text.casefold() for text in texts)


def _ordered(hosts: list[Host], now: float, sort: str) -> list[Host]:
    """Put hosts in order; equal ones by id, unknown values last in either direction."""
    descending, key = sort.startswith("-"), _KEYS[sort.removeprefix("-")]
    hosts.sort(key=lambda host: host.id)
    valued = [(value, host) for host in hosts if (value := key(host, now)) is not None]
    valued.sort(key=lambda pair: pair[0], reverse=descending)
    return [host for _, host in valued] + [host for host in hosts if key(host, now) is None]


_KEYS: Final[dict[str, Callable[[Host, float], str | float | None]]] = {
    "host": lambda host, _now: host.id,
    "state": lambda host, _now: host.state.value,
    "vms": lambda host, _now: len(host.vms),
    "age": lambda host, now: host.frame_age(now),
    "silent": lambda host, now: now - host.heard_at,
}


# --- one host -------------------------------------------------------------------------------------------------------


def host_detail(view: View, now: float, name: str) -> HostDetail:
    """Give one host with what it lists. Raises Refused (404, 409)."""
    host = find_host(view, name)
    listed = [
        ListedVm(
            id=vm_text(vm),
            status=status_of(view, host, row, now).label,
            owner=view.vms[vm].owner is host,
            name=name_of(host, row),
        )
        for row, vm in enumerate(host.vms)
    ]
    ended = [_ended(host, tombstone, now) for tombstone in host.tombstones]
    return HostDetail(**structs.asdict(host_row(view, host, now)), listed_vms=listed, tombstones=ended)


def _ended(host: Host, tombstone: Tombstone, now: float) -> Ended:
    offset = host.offset
    return Ended(
        id=vm_text(VmId(tombstone.vm)),
        exit_code=tombstone.exit_code.name.lower(),
        exit_reason=tombstone.exit_reason.name.lower(),
        ended_s=None if offset is None else round(max(0.0, now - offset - tombstone.ended_ms / 1000), 3),
    )
