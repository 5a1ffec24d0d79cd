"""``vmpulse-agent sample``: one frame and the sections as JSON, made by the real session, without a broker."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vmpulse_agent import answers
from vmpulse_agent.commands.assembly import host_facts, libvirt_options, policy
from vmpulse_agent.errors import HypervisorError, NoSuchVm
from vmpulse_agent.ledger import CPU_WINDOW_S
from vmpulse_agent.libvirt_edge import LibvirtHypervisor
from vmpulse_agent.session import Session
from vmpulse_agent.settings import PREFIX, AgentSettings, host_of
from vmpulse_contract import columns, sections
from vmpulse_contract.identity import VmId, vm_id, vm_text
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.settings import add_flags
from vmpulse_contract.stream import Frame, read_frame
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import RuntimeReply, Verb
from vmpulse_edges import logs
from vmpulse_edges.settings_source import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_agent.commands import Subparsers
    from vmpulse_agent.hypervisor import Hypervisor
    from vmpulse_agent.session import Outgoing

READERS: Final = 4
ALL_SECTIONS: Final = frozenset(Section)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``sample``."""
    parser = subparsers.add_parser(
        "sample",
        help="print one frame and its sections as JSON, without a broker",
        description="Look twice, a tick apart, and print what would travel as one line of JSON. Nothing is published.",
        epilog="exit codes: 0 done, 1 the hypervisor is away or has no such VM, 2 a setting is wrong",
    )
    parser.add_argument("--once", action="store_true", help="look once and do not wait; CPU shares are unknown then")
    parser.add_argument("--vm", metavar="ID", help="only this VM's part, by its UUID")
    add_flags(parser, AgentSettings, PREFIX)


def run(args: argparse.Namespace) -> int:
    """Look and print. Raises HypervisorError, NoSuchVm, SettingsError, BadName."""
    settings = load(AgentSettings, args, PREFIX)
    only = None if args.vm is None else vm_id(args.vm)
    fqdn = socket.getfqdn()
    session_of = (host_of(settings, fqdn), secrets.randbits(63) | 1, host_facts(settings, fqdn))
    logs.configure(settings.log_level, settings.log_format)
    span_s = 0.0 if args.once else max(settings.tick_s, CPU_WINDOW_S)

    async def sample() -> dict[str, Any]:
        session = Session(*session_of, asyncio.get_running_loop().time(), policy(settings))
        return await observed(session, LibvirtHypervisor(libvirt_options(settings)), span_s, only)

    sys.stdout.write(json.dumps(asyncio.run(sample())) + "\n")
    return 0


async def observed(session: Session, hypervisor: Hypervisor, span_s: float, only: VmId | None) -> dict[str, Any]:
    """Look, and look again after so many seconds unless that is 0; give what is printed, of all VMs or of one.

    Raises HypervisorError, NoSuchVm.
    """
    await hypervisor.open(lambda _: None)
    try:
        messages, unread = await _observe(session, hypervisor, span_s)
    finally:
        await hypervisor.close()
    frame = next(message.body for message in reversed(messages) if message.kind is Kind.FRAME)
    roster = next(message.body for message in reversed(messages) if message.kind is Kind.ROSTER)
    return {
        "host": session.host,
        "facts": msgspec.to_builtins(session.facts),
        "roster": {"layout": session.ledger.layout, "bytes": len(roster)},
        "frame": _frame(read_frame(frame)) | {"bytes": len(frame)},
        "vms": _vms(session, only),
        "unread": sorted(map(vm_text, unread)),
    }


async def _observe(session: Session, hypervisor: Hypervisor, span_s: float) -> tuple[list[Outgoing], list[VmId]]:
    """Do what an agent does from its start to its first frame after a tick. Gives what it said, and VMs not read."""
    clock = asyncio.get_running_loop().time
    looked_at = clock()
    session.looked(await hypervisor.look(), clock())
    known = await hypervisor.facts()
    session.facts = msgspec.structs.replace(
        session.facts,
        host_uuid=known.host_uuid,
        hypervisor_version=known.hypervisor_version,
        libvirt_version=known.libvirt_version,
    )
    session.host_sampled(await hypervisor.host_stats(), clock())
    unread = await _read_all(session, hypervisor)
    session.connected(clock())
    session.begin(clock())
    said = session.drain()
    if span_s:
        await asyncio.sleep(max(0.0, looked_at + span_s - clock()))
        session.host_sampled(await hypervisor.host_stats(), clock())
        session.looked(await hypervisor.look(), clock())
        session.tick(clock())
        said += session.drain()
    return said, unread


async def _read_all(session: Session, hypervisor: Hypervisor) -> list[VmId]:
    """Read all sections, a few domains at a time. Gives the VMs that gave nothing."""
    clock, room, unread = asyncio.get_running_loop().time, asyncio.Semaphore(READERS), list[VmId]()

    async def read(vm: VmId) -> None:
        async with room:
            try:
                session.section_read(await hypervisor.read(vm, ALL_SECTIONS), clock())
            except HypervisorError:
                unread.append(vm)

    vms = session.drain_unread()
    await asyncio.gather(*map(read, vms))
    # Guests are asked aside: now that they have had their time, their answers are in the sections.
    await hypervisor.settle()
    unread.clear()
    await asyncio.gather(*map(read, vms))
    return unread


def _frame(frame: Frame) -> dict[str, Any]:
    """A frame's fields, its columns as lists in layout order, in the units of the wire."""
    plain: dict[str, Any] = {
        "layout": frame.layout,
        "count": frame.count,
        "digest": f"{frame.digest:016x}",
        "monotonicMs": frame.monotonic_ms,
    }
    names = ("status", "cpuUser", "cpuSys", "memUsage", "statsAge")
    plain |= {name: columns.unpack(column, frame.count) for name, column in zip(names, frame.columns, strict=True)}
    if frame.host_stats is not None:
        plain["hostStats"] = {_camel(name): value for name, value in msgspec.structs.asdict(frame.host_stats).items()}
    return plain


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _vms(session: Session, only: VmId | None) -> dict[str, Any]:
    """Each VM as verbs would answer for it, and the bodies of its sections. Raises NoSuchVm."""
    if only is not None and only not in session.ledger.rows:
        raise NoSuchVm(f"the hypervisor has no VM {vm_text(only)}; leave out --vm to see all")
    now = asyncio.get_running_loop().time()
    reply = answers.answer(session, answers.Held(), Verb.GET_ALL_RUNTIME_STATS, (), now)
    if not isinstance(reply, RuntimeReply):
        raise TypeError(type(reply))
    wanted: Iterable[VmId] = session.ledger.rows if only is None else (only,)
    return {vm_text(vm): _vm(session, vm, msgspec.to_builtins(reply.vms[vm])) for vm in sorted(wanted)}


def _vm(session: Session, vm: VmId, plain: dict[str, Any]) -> dict[str, Any]:
    row = session.ledger.rows[vm]
    known = {section for section in Section if row.announced[section] != ABSENT}
    return plain | {
        "status": VmStatus(plain["status"]).label,
        "token": f"{row.token:016x}",
        "hashes": {section.label: f"{row.announced[section]:016x}" for section in sorted(known)},
        "sections": {
            section.label: msgspec.to_builtins(sections.decode(section, row.bodies[section]))
            for section in BODIED
            if section in known
        },
    }
