"""What the view says to readers: one row for each VM and each host, computed when asked, from one moment's state.

A VM's row speaks of its owner's claim. Its status is Unknown while that host is not heard (promise V6): LOST, stopped
for longer than STOPPED_KNOWN_S, or never confirmed. Freshness: ``fresh`` (a value no older than two ticks and a
second),
``stale`` (older, or its age is not known yet), ``unknown`` (the host is not heard).

On the wire the seed's names are camelCase (``cpuUser``, ``hostUuid``); our own measures keep their unit: ``age_s``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from vmpulse_consumers.view.host import SLACK_S, WIDTH
from vmpulse_consumers.view.host_stats import host_stats
from vmpulse_consumers.view.names import name_in
from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import sections
from vmpulse_contract.errors import MessageError
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import ABSENT, BODIED, GuestDetails, Info, Section, Status
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.view import View


def _wire_name(name: str) -> str:
    first, *rest = name.split("_")
    return name if name.endswith("_s") else first + "".join(map(str.capitalize, rest))


class Freshness(StrEnum):
    """How far a VM's values can be relied on now."""

    FRESH = "fresh"
    STALE = "stale"
    UNKNOWN = "unknown"


class Sections(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_wire_name):
    """The sections held of a VM."""

    info: Info | None = None
    status: Status | None = None
    guest_details: GuestDetails | None = None


class VmRow(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_wire_name, gc=False):
    """One VM. CPU in percent of one CPU, memory in percent, times in seconds, hashes as 16 hex digits."""

    id: str
    host: str
    status: str
    freshness: Freshness
    name: str | None = None
    age_s: float | None = None
    cpu_user: float | None = None
    cpu_sys: float | None = None
    mem_usage: int | None = None
    elapsed_time: float | None = None
    hashes: dict[str, str] = {}
    repairing: tuple[str, ...] = ()
    """Sections whose announced hash is not held yet: what is shown of them is the last that was."""
    split_brain: bool = False
    """Several hosts have said for long that they run it."""
    sections: Sections | None = None
    claims: tuple[Claim, ...] = ()


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_wire_name):
    """What one host says of a VM."""

    host: str
    host_state: HostState
    status: str
    active: bool
    owner: bool


class HostRow(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_wire_name):
    """One host. ``age_s``: of its last frame; ``silent_s``: since anything was heard of it.

    ``stats`` are the host's own, as of that frame; absent while the host is not heard.
    """

    host: str
    state: HostState
    vms: int
    active: int
    silent_s: float
    age_s: float | None = None
    since_s: float
    epoch: str | None = None
    seq: int
    fqdn: str | None = None
    host_uuid: str | None = None
    agent_version: str | None = None
    hypervisor_version: str | None = None
    libvirt_version: str | None = None
    labels: dict[str, str] = {}
    stats: HostStats | None = None


class FleetRow(Struct, frozen=True, kw_only=True):
    """The fleet in one row; counters since the view's start.

    ``degraded``: why the view works worse than it should, as a sentence; "": it does not. ``split_brain``: how many VMs
    several hosts say they run.
    """

    ready: bool
    not_ready: tuple[str, ...]
    broker_ok: bool
    hosts: dict[str, int]
    vms: int
    split_brain: int
    freshness: dict[str, int]
    messages: int
    bytes: int
    gaps: int
    repeats: int
    relists: int
    repairs: int
    rejected: int
    worst_age_s: float | None
    degraded: str


def fresh_limit(host: Host) -> float:
    """The oldest age, in seconds, that still counts as fresh: two ticks and some slack."""
    return 2 * host.facts.tick_ms / 1000 + SLACK_S


def vm_row(view: View, now: float, vm: Vm, *, with_sections: bool = False, with_claims: bool = False) -> VmRow:
    """Give the row of one VM."""
    host = vm.owner
    if host is None:
        return _transit_row(view, vm, now, with_claims=with_claims)
    row = host.index[vm.id]
    at = host.block.start + row
    runtime = view.runtime
    age = age_of(view, host, row, now)
    return VmRow(
        id=vm_text(vm.id),
        host=host.id,
        status=status_of(view, host, row, now).label,
        freshness=freshness_of(host, age, now),
        name=name_of(host, row),
        age_s=None if age is None else round(age, 3),
        cpu_user=_tenths(int(runtime.cpu_user[at])),
        cpu_sys=_tenths(int(runtime.cpu_sys[at])),
        mem_usage=_known_8(int(runtime.mem_usage[at])),
        elapsed_time=elapsed_of(host, row, now),
        hashes=hashes_of(host, row),
        repairing=repairing_of(host, row),
        split_brain=vm.id in view.split,
        sections=sections_of(host, row) if with_sections else None,
        claims=_claims(view, vm, now) if with_claims else (),
    )


def _transit_row(view: View, vm: Vm, now: float, *, with_claims: bool) -> VmRow:
    """The row of a VM that has left one host and was not seen on another: where it was, and nothing measured."""
    transit = vm.transit
    if transit is None:
        # Unreachable: whoever has neither owner nor transit has left the view.
        msg = "a VM without claims is not in the view"
        raise KeyError(msg)
    status = transit.status(now)
    return VmRow(
        id=vm_text(vm.id),
        host=transit.host.id,
        status=status.label,
        freshness=Freshness.UNKNOWN if status is VmStatus.UNKNOWN else Freshness.STALE,
        name=name_in(transit.info),
        split_brain=vm.id in view.split,
        claims=_claims(view, vm, now) if with_claims else (),
    )


def status_of(view: View, host: Host, row: int, now: float) -> VmStatus:
    """The status to say of a VM; UNKNOWN while its host is not heard."""
    return VmStatus(int(view.runtime.status[host.block.start + row])) if host.heard(now) else VmStatus.UNKNOWN


def age_of(view: View, host: Host, row: int, now: float) -> float | None:
    """Seconds since the VM's values were read: the frame's age and the VM's own (promise V7)."""
    frame_age, own = host.frame_age(now), int(view.runtime.stats_age[host.block.start + row])
    return None if frame_age is None or own == UNKNOWN_32 else frame_age + own / 10


def freshness_of(host: Host, age: float | None, now: float) -> Freshness:
    """How far the values can be relied on."""
    if not host.heard(now):
        return Freshness.UNKNOWN
    return Freshness.FRESH if age is not None and age <= fresh_limit(host) else Freshness.STALE


def elapsed_of(host: Host, row: int, now: float) -> float | None:
    """Seconds since the VM's start: the roster's value and the time since, by the agent's monotonic clock."""
    base = host.elapsed[row]
    if base is None or not host.tokens[row]:
        return None
    roster_time = host.roster_ms if host.offset is None else (now - host.offset) * 1000
    return round((base + max(0.0, roster_time - host.roster_ms)) / 1000, 3)


def _tenths(value: int) -> float | None:
    return None if value == UNKNOWN_32 else value / 10


def _known_8(value: int) -> int | None:
    return None if value == UNKNOWN_8 else value


def hashes_of(host: Host, row: int) -> dict[str, str]:
    """The announced hashes of the VM in a host's *row*, by section; what is absent is not in it."""
    announced = host.announced[row * WIDTH : (row + 1) * WIDTH]
    return {
        section.label: f"{value:016x}" for section, value in zip(Section, announced, strict=True) if value != ABSENT
    }


def repairing_of(host: Host, row: int) -> tuple[str, ...]:
    """The sections of the VM in a host's *row* whose announced hash is not held."""
    base = row * WIDTH
    return tuple(
        section.label for section in BODIED if host.announced[base + section] not in {ABSENT, host.held[base + section]}
    )


def _decoded(section: Section, body: bytes | None) -> sections.SectionBody | None:
    if body is None:
        return None
    try:
        return sections.decode(section, body)
    except MessageError:
        # Unreachable: bodies are decoded once at the door. A row must not fail the list if that ever changes.
        return None


def sections_of(host: Host, row: int) -> Sections:
    """What is held of the VM in a host's *row*."""
    return sections_in([host.body(row, section) for section in BODIED])


def sections_in(bodies: Sequence[bytes | None]) -> Sections:
    """What is held of a VM: the bodies of the sections BODIED."""
    info, status, details = map(_decoded, BODIED, bodies)
    return Sections(
        info=info if isinstance(info, Info) else None,
        status=status if isinstance(status, Status) else None,
        guest_details=details if isinstance(details, GuestDetails) else None,
    )


def _claims(view: View, vm: Vm, now: float) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            host=host.id,
            host_state=host.state,
            status=status_of(view, host, host.index[vm.id], now).label,
            active=vm.active_on(host),
            owner=host is vm.owner,
        )
        for host in vm.claims
    )


def name_of(host: Host, row: int) -> str | None:
    """The name of the VM in a host's *row*, if its info is held."""
    return name_in(host.bodies[row * WIDTH + Section.INFO])


def host_row(view: View, host: Host, now: float) -> HostRow:
    """Give the row of one host."""
    age, facts = host.frame_age(now), host.facts
    return HostRow(
        host=host.id,
        state=host.state,
        vms=len(host.vms),
        active=len(host.tokens) - host.tokens.count(0),
        silent_s=round(max(0.0, now - host.heard_at), 3),
        age_s=None if age is None else round(age, 3),
        since_s=round(now - host.since, 3),
        epoch=f"{host.epoch:016x}" if host.confirmed else None,
        seq=host.seq,
        fqdn=facts.fqdn,
        host_uuid=facts.host_uuid,
        agent_version=facts.agent_version,
        hypervisor_version=facts.hypervisor_version,
        libvirt_version=facts.libvirt_version,
        labels=facts.labels,
        stats=host_stats(host, view.runtime, now),
    )


def fleet_row(view: View, now: float) -> FleetRow:
    """Give the fleet's row."""
    counts, not_ready = view.counts, tuple(view.not_ready(now))
    freshness, worst = _ages(view, now)
    for vm in view.transits.values():
        freshness[vm_row(view, now, vm).freshness.value] += 1
    return FleetRow(
        ready=not not_ready,
        not_ready=not_ready,
        broker_ok=view.broker_ok,
        hosts={state.value: sum(host.state is state for host in view.hosts.values()) for state in HostState},
        vms=len(view.vms),
        split_brain=len(view.split),
        freshness=freshness,
        messages=counts.messages.total(),
        bytes=counts.bytes,
        gaps=counts.gaps,
        repeats=counts.repeats,
        relists=counts.relists,
        repairs=counts.repairs,
        rejected=counts.rejected.total(),
        worst_age_s=None if worst is None else round(worst, 3),
        degraded=view.degraded,
    )


def owned_rows(view: View, host: Host) -> Sequence[int]:
    """The rows of a host, in layout order, whose VMs it owns."""
    if host.owned == len(host.vms):
        return range(host.owned)
    vms = view.vms
    return [row for row, vm in enumerate(host.vms) if vms[vm].owner is host]


def _ages(view: View, now: float) -> tuple[dict[str, int], float | None]:
    """Count the VMs by freshness and find the oldest age among those whose host is heard."""
    freshness, oldest = dict.fromkeys((f.value for f in Freshness), 0), []
    for host in view.hosts.values():
        rows = owned_rows(view, host)
        if not host.heard(now):
            freshness[Freshness.UNKNOWN.value] += len(rows)
            continue
        ages = _ages_of(view, host, rows, now)
        fresh = int(np.count_nonzero(ages <= fresh_limit(host)))
        freshness[Freshness.FRESH.value] += fresh
        freshness[Freshness.STALE.value] += len(rows) - fresh
        if len(ages):
            oldest.append(float(ages.max()))
    return freshness, max(oldest, default=None)


def _ages_of(view: View, host: Host, rows: Sequence[int], now: float) -> NDArray[np.float64]:
    """The known ages among *rows*, as ``age_of`` gives them one by one."""
    frame_age = host.frame_age(now)
    if frame_age is None:
        return np.empty(0)
    own = view.runtime.stats_age[host.block.start : host.block.start + host.block.size]
    own = own if len(rows) == len(own) else own[rows]
    ages: NDArray[np.float64] = frame_age + own[own != UNKNOWN_32] / 10
    return ages
