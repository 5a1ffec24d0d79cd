"""What is true of a simulated fleet, and where a view's picture of it differs.

The truth is taken from the hypervisors, not from the agents, so that a fault of either side comes to light. It is to be
taken while the fleet is frozen: a view that is a tick behind a moving truth is not wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
FRESH: Final = "fresh"
AGE_S: Final = 7.0
"""Two ticks and a round trip: what a host may be late without being LATE."""


class VmTruth(NamedTuple):
    """What is true of one VM. ``sections`` as JSON with the seed's names; ``hashes`` as 16 hexadecimal digits."""

    host: str
    name: str
    status: str
    sections: dict[str, Any]
    hashes: dict[str, str]
    cpu_user: float | None = None
    cpu_sys: float | None = None
    mem_usage: int | None = None
    started: float | None = None


class EndedTruth(NamedTuple):
    """A life that ended under the eyes of an agent, so that it has a tombstone. ``reason`` as the API names it."""

    vm: str
    reason: str


class HostTruth(NamedTuple):
    """What is true of one host. ``epoch``: of the agent that runs, as 16 hexadecimal digits; None: none runs."""

    vms: int
    epoch: str | None
    ended: tuple[EndedTruth, ...] = ()


class Truth(NamedTuple):
    """What is true of a fleet: VMs by id as text, and hosts by id."""

    vms: dict[str, VmTruth]
    hosts: dict[str, HostTruth]


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


async def take_truth(fleet: Fleet, epochs: Mapping[str, int]) -> Truth:
    """Take the truth of a frozen fleet in which nothing is on its way, letting others run between hosts.

    Args:
        fleet: the fleet.
        epochs: of the agents, by host.
    """
    decoded: dict[tuple[Section, bytes], Any] = {}
    vms: dict[str, VmTruth] = {}
    for hypervisor in fleet.hypervisors:
        for vm, true in truth_of_host(hypervisor, decoded).items():
            # Where it runs; a definition that a migration has left behind says nothing of the VM.
            if vm not in vms or true.started is not None:
                vms[vm] = true
        await asyncio.sleep(0)
    return Truth(
        vms,
        {str(hypervisor.host): host_truth(hypervisor, epochs.get(hypervisor.host)) for hypervisor in fleet.hypervisors},
    )


def host_truth(hypervisor: SimulatedHypervisor, epoch: int | None) -> HostTruth:
    """Take the truth of one host."""
    ended = tuple(EndedTruth(vm_text(end.vm), end.exit.reason.name.lower()) for end in hypervisor.remembered())
    return HostTruth(len(hypervisor.domains), None if epoch is None else f"{epoch:016x}", ended)


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
        name=domain.name,
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
    """Compare the hosts: each is there once, live, in its agent's epoch, and with as many VMs as it has."""
    found: list[Mismatch] = []
    seen: set[str] = set()
    for row in rows:
        host = str(row.get("host"))
        expected = truth.hosts.get(host)
        if expected is None or host in seen:
            found.append(Mismatch(host, "membership", "absent" if expected is None else "one row", "a row"))
            continue
        seen.add(host)
        found.extend(Mismatch(host, *difference) for difference in host_differences(expected, row))
    found.extend(Mismatch(host, "membership", "a row", "absent") for host in sorted(truth.hosts.keys() - seen))
    return found


def compare_tombstones(truth: HostTruth, detail: Mapping[str, Any]) -> list[Mismatch]:
    """Compare a host's tombstones: each life that ended under an agent's eyes has its own, with the true reason.

    A missing one is a mismatch of its VM. Older ones than the hypervisor remembers are no mistake.
    """
    stones = detail.get("tombstones") or ()
    found = Counter(EndedTruth(str(stone.get("id")), str(stone.get("exitReason"))) for stone in stones)
    missing = Counter(truth.ended) - found
    return [Mismatch(end.vm, "tombstone", end.reason, told_of(end.vm, stones)) for end in missing.elements()]


def told_of(vm: str, stones: Iterable[Mapping[str, Any]]) -> list[object]:
    """The reasons that a host's tombstones give for one VM."""
    return [stone.get("exitReason") for stone in stones if stone.get("id") == vm]


def host_differences(truth: HostTruth, row: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Tell (what, expected, found) of everything that a host's row has wrong."""
    yield from unequal("state", LIVE, row.get("state"))
    yield from unequal("epoch", truth.epoch, row.get("epoch"))
    yield from unequal("VMs", truth.vms, row.get("vms"))


def differences(truth: VmTruth, row: Mapping[str, Any], at: float) -> Iterator[tuple[str, object, object]]:
    """Tell (what, expected, found) of everything that a row has wrong."""
    yield from unequal("host", truth.host, row.get("host"))
    yield from unequal("name", truth.name, row.get("name"))
    yield from untrusted(row)
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


def untrusted(row: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Tell what keeps a row from being relied on: it is old or of unknown age, or parts of it are being repaired."""
    yield from unequal("freshness", FRESH, row.get("freshness"))
    age = row.get("age_s")
    if not isinstance(age, int | float) or not 0 <= age <= AGE_S:
        yield "age_s", f"at most {AGE_S:g}", age
    if row.get("repairing"):
        yield "repairing", "nothing", row["repairing"]


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
