"""What ``vmpulse call`` says of a reply: plain JSON values, with ids, statuses and reasons in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from vmpulse_contract import sections
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.sections import BODIED
from vmpulse_contract.verbs import (
    SECTION_OF_VERB,
    HostStatsReply,
    ListRecord,
    ListReply,
    RosterReply,
    RuntimeRecord,
    RuntimeReply,
    SectionRecord,
    SectionReply,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_contract.sections import Section
    from vmpulse_contract.stream import Roster, Tombstone
    from vmpulse_contract.verbs import AnyReply, Verb


def readable(verb: Verb, reply: AnyReply) -> dict[str, Any]:
    """Turn a reply into plain JSON values: UUIDs as text, hashes as 16 hex digits, section bodies as their fields."""
    head = {"epoch": _hex(reply.epoch), "asOf": reply.as_of, "monotonicMs": reply.monotonic_ms}
    return head | _own(verb, reply)


def _own(verb: Verb, reply: AnyReply) -> dict[str, Any]:
    """The fields that are the verb's own."""
    if isinstance(reply, RosterReply):
        return {"roster": _roster(reply.roster)} if reply.roster else {}
    if isinstance(reply, HostStatsReply):
        return {"stats": msgspec.to_builtins(reply.stats)}
    if isinstance(reply, ListReply | RuntimeReply):
        return {"vms": {vm_text(VmId(vm)): _with_label(record) for vm, record in reply.vms.items()}}
    if isinstance(reply, SectionReply):
        section = SECTION_OF_VERB[verb]
        vms = {vm_text(VmId(vm)): _section(section, record) for vm, record in reply.vms.items()}
    else:
        vms = {vm_text(VmId(vm)): msgspec.to_builtins(record) for vm, record in reply.vms.items()}
    return {"vms": vms, "missing": _ids(reply.missing), "remaining": _ids(reply.remaining)}


def _with_label(record: ListRecord | RuntimeRecord) -> dict[str, Any]:
    """One VM of ``list`` or ``getAllRuntimeStats``, with its status in VDSM's word."""
    plain: dict[str, Any] = msgspec.to_builtins(record) | {"status": record.status.label}
    if "hashes" in plain:
        plain["hashes"] = {name: _hex(value) for name, value in plain["hashes"].items()}
    return plain


def _section(section: Section, record: SectionRecord) -> dict[str, Any]:
    body = record.body
    content = (
        msgspec.to_builtins(sections.decode(section, body)) if section in BODIED else body.decode(errors="replace")
    )
    return {"hash": _hex(record.hash), section.label: content}


def _roster(roster: Roster) -> dict[str, Any]:
    rows = zip(roster.vm_ids(), roster.start_tokens(), roster.elapsed(), strict=True)
    hashes = roster.announced()
    width = len(sections.Section)
    return {
        "layout": roster.layout,
        "facts": msgspec.to_builtins(roster.facts),
        "vms": [
            {
                "vm": vm_text(vm),
                "token": _hex(token),
                "elapsedMs": elapsed,
                "hashes": _announced(hashes[at * width : (at + 1) * width]),
            }
            for at, (vm, token, elapsed) in enumerate(rows)
        ],
        "tombstones": [_tombstone(stone) for stone in roster.tombstones],
    }


def _announced(hashes: Iterable[int]) -> dict[str, str]:
    return {
        section.label: _hex(value)
        for section, value in zip(sections.Section, hashes, strict=True)
        if value != sections.ABSENT
    }


def _tombstone(stone: Tombstone) -> dict[str, Any]:
    return {
        "vm": vm_text(VmId(stone.vm)),
        "token": _hex(stone.token),
        "exitCode": stone.exit_code.name.lower(),
        "exitReason": stone.exit_reason.name.lower(),
        "endedMs": stone.ended_ms,
    }


def _hex(value: int) -> str:
    return f"{value:016x}"


def _ids(vms: Iterable[bytes]) -> list[str]:
    return [vm_text(VmId(vm)) for vm in vms]
