"""What is true of a simulated fleet, and where a view's picture of it differs.

The truth is taken from the hypervisors, not from the agents, so that a fault of either side comes to light. It is to be
taken while the fleet is frozen: a view that is a tick behind a moving truth is not wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from vmpulse_contract import sections
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import Info, Section, Status
from vmpulse_contract.stream import CPU_UNIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vmpulse_contract.sections import GuestDetails
    from vmpulse_simulator.domain import SimulatedDomain
    from vmpulse_simulator.fleet import Fleet
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

ELAPSED_TOLERANCE_S: Final = 2.0
CPU_TOLERANCE: Final = CPU_UNIT * 1.01
"""One step of the wire; the rest is what adding decimal fractions in binary costs."""
LIVE: Final = "live"


class VmTruth(NamedTuple):
    """What is true of one VM. ``sections`` as JSON with the seed's names; ``hashes`` as 16 hexadecimal digits."""

    host: str
    status: str
    sections: dict[str, Any]
    hashes: dict[str, str]
    cpu_user: float | None = None
    cpu_sys: float | None = None
    mem_usage: int | None = None
    started: float | None = None


class Truth(NamedTuple):
    """What is true of a fleet: VMs by id as text, and how many VMs each host has."""

    vms: dict[str, VmTruth]
    hosts: dict[str, int]


class Seen(NamedTuple):
    """One row of a view's HTTP API, and when it was asked for, on the fleet's clock."""

    at: float
    row: Mapping[str, Any]


class Mismatch(NamedTuple):
    """One thing that a view has wrong. ``subject`` is a VM or a host."""

    subject: str
    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} is {self.found!r:.120}, in truth {self.expected!r:.120}"


# --- taking it -----------------------------------------------------------------------------------------------------


async def take_truth(fleet: Fleet) -> Truth:
    """Take the truth of a frozen fleet, letting others run between hosts."""
    decoded: dict[tuple[Section, bytes], Any] = {}
    vms: dict[str, VmTruth] = {}
    for hypervisor in fleet.hypervisors:
        vms.update(truth_of_host(hypervisor, decoded))
        await asyncio.sleep(0)
    return Truth(vms, {hypervisor.host: len(hypervisor.domains) for hypervisor in fleet.hypervisors})


def truth_of_host(hypervisor: SimulatedHypervisor, decoded: dict[tuple[Section, bytes], Any]) -> dict[str, VmTruth]:
    """Take the truth of one host's VMs. *decoded* lets equal sections share one object."""
    return {vm_text(vm): truth_of_vm(hypervisor, domain, decoded) for vm, domain in hypervisor.domains.items()}


def truth_of_vm(
    hypervisor: SimulatedHypervisor, domain: SimulatedDomain, decoded: dict[tuple[Section, bytes], Any]
) -> VmTruth:
    """Take the truth of one VM."""
    life = domain.life
    look = domain.look(hypervisor.clock())
    bodies = bodies_of(domain)
    hashes = {section.label: f"{sections.section_hash(section, body):016x}" for section, body in bodies.items()}
    hashes[Section.CONFIG.label] = f"{sections.section_hash(Section.CONFIG, domain.config()):016x}"
    return VmTruth(
        host=hypervisor.host,
        status=look.status.label,
        sections={section.label: plain(section, body, decoded) for section, body in bodies.items()},
        hashes=hashes,
        cpu_user=life.load.user / 10 if life else None,
        cpu_sys=life.load.system / 10 if life else None,
        mem_usage=look.mem_usage,
        started=life.started if life else None,
    )


def bodies_of(domain: SimulatedDomain) -> dict[Section, bytes]:
    """The canonical bodies of the sections that the VM has now."""
    status = domain.status()
    if status is not None:
        # The agent adds what it alone can tell: a simulated monitor always answers.
        status = msgspec.structs.replace(status, monitor_response=0)
    contents: tuple[tuple[Section, Info | Status | GuestDetails | None], ...] = (
        (Section.INFO, domain.info()),
        (Section.STATUS, status),
        (Section.GUEST_DETAILS, domain.guest_details()),
    )
    return {section: sections.encode(content) for section, content in contents if content is not None}


def plain(section: Section, body: bytes, decoded: dict[tuple[Section, bytes], Any]) -> Any:
    """A section as JSON would give it back."""
    key = section, body
    if key not in decoded:
        decoded[key] = msgspec.json.decode(msgspec.json.encode(sections.decode(section, body)))
    return decoded[key]


# --- comparing -----------------------------------------------------------------------------------------------------


def compare(truth: Truth, rows: Iterable[Seen]) -> list[Mismatch]:
    """Compare VM by VM and section by section: a VM that is missing is a mismatch, and so is one too many."""
    found: list[Mismatch] = []
    seen: set[str] = set()
    for at, row in rows:
        vm = str(row.get("id"))
        expected = truth.vms.get(vm)
        if expected is None or vm in seen:
            found.append(Mismatch(vm, "membership", "absent" if expected is None else "one row", "a row"))
            continue
        seen.add(vm)
        found.extend(Mismatch(vm, *difference) for difference in differences(expected, row, at))
    found.extend(Mismatch(vm, "membership", "a row", "absent") for vm in truth.vms.keys() - seen)
    return found


def compare_hosts(truth: Truth, rows: Sequence[Mapping[str, Any]]) -> list[Mismatch]:
    """Compare the hosts: each is there once, live, and with as many VMs as it has."""
    states = {str(row.get("host")): (str(row.get("state")).lower(), row.get("vms")) for row in rows}
    expected = {host: (LIVE, count) for host, count in truth.hosts.items()}
    return [
        Mismatch(host, "state and VMs", expected.get(host), states.get(host))
        for host in sorted(expected.keys() | states.keys())
        if expected.get(host) != states.get(host)
    ]


def differences(truth: VmTruth, row: Mapping[str, Any], at: float) -> Iterator[tuple[str, object, object]]:
    """Tell (what, expected, found) of everything that a row has wrong."""
    yield from unequal("host", truth.host, row.get("host"))
    yield from unequal("status", truth.status, row.get("status"))
    yield from distant("cpuUser", truth.cpu_user, row.get("cpuUser"), CPU_TOLERANCE)
    yield from distant("cpuSys", truth.cpu_sys, row.get("cpuSys"), CPU_TOLERANCE)
    yield from distant("memUsage", truth.mem_usage, row.get("memUsage"), 0)
    elapsed = None if truth.started is None else at - truth.started
    yield from distant("elapsedTime", elapsed, row.get("elapsedTime"), ELAPSED_TOLERANCE_S)
    hashes, held = row.get("hashes") or {}, row.get("sections") or {}
    for section in Section:
        label = section.label
        yield from unequal(f"hash of {label}", truth.hashes.get(label), hashes.get(label))
        if section is not Section.CONFIG:
            yield from unequal(f"section {label}", truth.sections.get(label), held.get(label))


def unequal(what: str, expected: object, found: object) -> Iterator[tuple[str, object, object]]:
    """Tell a difference between two values."""
    if expected != found:
        yield what, expected, found


def distant(what: str, expected: float | None, found: Any, tolerance: float) -> Iterator[tuple[str, object, object]]:
    """Tell a difference of more than the tolerance between two numbers; unknown equals only unknown."""
    if expected is None or not isinstance(found, int | float):
        yield from unequal(what, expected, found)
    elif abs(found - expected) > tolerance:
        yield what, expected, found
