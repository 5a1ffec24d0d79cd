"""What simulated hosts say, by the agent's real session: the templates of which a large fleet is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from vmpulse_agent.hypervisor import SectionReading
from vmpulse_agent.session import Session
from vmpulse_contract import stream
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.devices import DeviceMessage
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import Frame, HostFacts, Roster
from vmpulse_contract.topology import Kind
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.load import STEP_S

if TYPE_CHECKING:
    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

MOST: Final = 50
"""Different hosts; a larger fleet repeats them under other names, with other VM ids, addresses and so on."""
TAILS: Final = 4
"""Different frames of a host, said by turns: values change from tick to tick."""
EPOCH: Final = 1
EVERYTHING: Final = frozenset(Section)


class Template(NamedTuple):
    """A host: its roster, the sections of its VMs in layout order, and how its frames go on after the digest and time.

    ``devices``: what it once says of devices.
    """

    roster: Roster
    sections: tuple[SectionReading, ...]
    tails: tuple[bytes, ...]
    devices: DeviceMessage


class Now:
    """A clock that is put forward by hand, seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


async def templates(hosts: int, vms: int, seed: int) -> list[Template]:
    """Give the templates of a fleet; nothing is awaited but simulated hypervisors, which never wait."""
    clock = Now()
    fleet = Fleet(min(hosts, MOST), vms, seed, clock)
    return [await _template(hypervisor, clock) for hypervisor in fleet.hypervisors]


async def _template(hypervisor: SimulatedHypervisor, clock: Now) -> Template:
    began = clock.now
    its = await hypervisor.facts()
    facts = HostFacts(
        agent_version="simulated", hypervisor_version=its.hypervisor_version, libvirt_version=its.libvirt_version
    )
    session = Session(hypervisor.host, EPOCH, facts, began)
    session.host_sampled(await hypervisor.host_stats(), began)
    session.connected(began)
    session.looked(await hypervisor.look(), began)
    read = {vm: await hypervisor.read(vm, EVERYTHING) for vm in hypervisor.domains}
    for reading in read.values():
        session.section_read(reading, began)
    session.devices_sampled(await hypervisor.device_sample(), began)
    session.begin(began)
    roster = stream.read_roster(_said(session, Kind.ROSTER)).roster
    tails = [await _tail(session, hypervisor, clock) for _ in range(TAILS)]
    session.report_devices(clock.now)
    session.devices_sampled(await hypervisor.device_sample(), clock.now)
    devices = read_columns(_said(session, Kind.DEVICES))
    return Template(roster, tuple(read[vm] for vm in roster.vm_ids()), tuple(tails), devices)


async def _tail(session: Session, hypervisor: SimulatedHypervisor, clock: Now) -> bytes:
    """Let a tick pass, and give what the frame says from its columns on."""
    clock.now += STEP_S
    session.host_sampled(await hypervisor.host_stats(), clock.now)
    session.looked(await hypervisor.look(), clock.now)
    session.tick(clock.now)
    frame = stream.read_frame(_said(session, Kind.FRAME))
    return tail_of(frame)


def tail_of(frame: Frame) -> bytes:
    """Encode the columns and the host's statistics, without a head of an array around them."""
    return b"".join(map(msgspec.msgpack.encode, (*frame.columns, frame.host_stats)))


def _said(session: Session, kind: Kind) -> bytes:
    (body,) = [message.body for message in session.drain() if message.kind is kind]
    return body


def renamed(vm: VmId | bytes, copy: int) -> bytes:
    """Give the id of the same VM in a copy of its host; the bits that mark a random UUID stay.

    The first copy is renamed as well: of thousands of VMs some have the number of another copy in their own id.
    """
    return vm[:10] + copy.to_bytes(2) + vm[12:]
