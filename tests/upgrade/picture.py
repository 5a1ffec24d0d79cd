"""What a view says, and what is to be said of the golden host and of one that today's agent serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.contract import golden_life as life
from tests.contract.golden_messages import INFO, STATUS, A, B
from tests.real_broker import agent_of, at_work, simulated_host
from tests.upgrade.conftest import TODAYS
from tests.upgrade.golden_host import BEGINNING, GoldenHost
from tests.waiting import eventually
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.host_agent import HostAgent
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.store import Keeper
from vmpulse_consumers.view.rows import Sections, VmRow, vm_row
from vmpulse_contract import broker_url, sections
from vmpulse_contract.broker_url import BrokerUrl
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.rights import VIEW
from vmpulse_contract.sections import GuestDetails, Section, Status
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

WITHIN_S: Final = 12.0
"""On a machine that may be busy with other tests."""


class Said(NamedTuple):
    """What a view says of a VM, without times and hashes."""

    status: str
    cpu_user: float | None
    cpu_sys: float | None
    mem_usage: int | None
    sections: Sections


def _canonical_status(status: Status) -> Status:
    read = sections.decode(Section.STATUS, sections.encode(status))
    assert isinstance(read, Status)
    return read


def _details() -> GuestDetails:
    read = sections.decode(Section.GUEST_DETAILS, sections.encode(life.DETAILS_B))
    assert isinstance(read, GuestDetails)
    return read


SECTIONS_A: Final = Sections(info=INFO, status=_canonical_status(STATUS))
SECTIONS_B: Final = Sections(info=life.INFO_B, status=_canonical_status(life.STATUS_B), guest_details=_details())
AFTER_FIRST_HALF: Final = {
    A: Said("Up", 25.0, 1.1, None, SECTIONS_A),
    B: Said("Up", 200.1, 130.0, 71, SECTIONS_B),
}
AFTER_SECOND_HALF: Final = {
    A: Said("Up", 6400.0, 12.5, 40, SECTIONS_A),
    B: Said("Down", None, None, None, Sections()),
}


def url_of(broker: PrivateBroker, user: str) -> BrokerUrl:
    """The broker's address for one of its users."""
    return broker_url.parse("url", broker.url(user))


@contextlib.asynccontextmanager
async def view_at_work(broker: PrivateBroker, store: Path | None = None) -> AsyncIterator[ViewService]:
    """A view as its own user; its queue stays for the next one."""
    keeper = None if store is None else Keeper(store)
    service = ViewService(url_of(broker, VIEW), "main", keeper=keeper)
    await service.restore()
    async with at_work(service.run()):
        yield service
    if keeper is not None:
        await asyncio.to_thread(keeper._thread.shutdown)  # a process would end here, and the file be closed


@contextlib.asynccontextmanager
async def todays_agent(broker: PrivateBroker, hypervisor: SimulatedHypervisor) -> AsyncIterator[HostAgent]:
    """Today's agent as its host's user; it ends with a goodbye."""
    link = AmqpLink(url_of(broker, hypervisor.host), f"test {hypervisor.host}")
    agent = agent_of(hypervisor, link)
    async with at_work(link.run()), at_work(agent.run()):
        yield agent


@contextlib.asynccontextmanager
async def todays_host(broker: PrivateBroker) -> AsyncIterator[SimulatedHypervisor]:
    """A host of today's version, for beside the others."""
    hypervisor = simulated_host(TODAYS)
    async with todays_agent(broker, hypervisor):
        yield hypervisor


def row_of(view: ViewService, vm: VmId) -> VmRow | None:
    """What the view says of a VM; None if it knows none."""
    known = view.view.vms.get(vm)
    return None if known is None else vm_row(view.view, view.clock(), known, with_sections=True)


def said_of(view: ViewService, host: HostId) -> dict[VmId, Said]:
    """What the view says of the host's VMs that are whole and fresh."""
    rows = {vm: row for vm in (A, B) if (row := row_of(view, vm)) is not None and row.host == host}
    return {
        vm: Said(row.status, row.cpu_user, row.cpu_sys, row.mem_usage, row.sections or Sections())
        for vm, row in rows.items()
        if row.freshness == "fresh" and not row.repairing
    }


def complete(view: ViewService, hypervisor: SimulatedHypervisor) -> bool:
    """Whether the view says of each VM what today's hypervisor shows, freshly."""
    now = time.monotonic()
    for vm, domain in hypervisor.domains.items():
        row = row_of(view, vm)
        if row is None or row.sections is None or row.repairing:
            return False
        said = (row.host, row.status, row.freshness, row.sections.info)
        if said != (hypervisor.host, domain.look(now).status.label, "fresh", domain.info()):
            return False
    return True


def told(view: ViewService, since: int, vms: Iterable[VmId]) -> list[dict[str, Any]]:
    """The fleet events after number *since* that are about these VMs."""
    entries, wanted = view.teller.log.read(since, events=100_000, size=1 << 30), set(vms)
    return [json.loads(entry.text) for entry in entries if entry.vm in wanted]


def summary(events: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Events as type and what became of whom, for comparing."""
    words = ("status", "section")
    return [(event["type"], *(event["data"][word] for word in words if word in event["data"])) for event in events]


async def ready(view: ViewService) -> int:
    """Wait until the view is ready, and tells what happens from now on; gives the number of its last event."""
    await eventually(lambda: not view.view.not_ready(view.clock()) and view.teller.begun, WITHIN_S, "the view is ready")
    return view.teller.log.last


async def begin(golden: GoldenHost, view: ViewService, expected: Mapping[VmId, Said] = AFTER_FIRST_HALF) -> None:
    """Let a golden host say its first half to a view that has never heard of it, until all of it is seen."""
    await eventually(view.stream.consumed.is_set, WITHIN_S, "the view listens")
    await golden.say(*BEGINNING)
    await eventually(lambda: known(view, golden.host), WITHIN_S, "its roster was fetched")
    await golden.say("frame_sixth")
    await eventually(lambda: said_of(view, golden.host) == expected, WITHIN_S, f"{said_of(view, golden.host)}")


def known(view: ViewService, host: HostId) -> bool:
    """Whether a host's agent has been confirmed."""
    found = view.view.hosts.get(host)
    return found is not None and found.confirmed
