"""``vmpulse call HOST VERB [VM...]``: ask one host one question, over the broker, and print the answer."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import msgspec

from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.errors import ConsumerError
from vmpulse_consumers.settings import CLI_PREFIX, CallSettings, broker_of
from vmpulse_contract import sections
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_contract.identity import HOST_ID_ALLOWED, VmId, host_id, vm_id, vm_text
from vmpulse_contract.sections import BODIED
from vmpulse_contract.settings import add_flags
from vmpulse_contract.verbs import SECTION_OF_VERB, RosterReply, SectionReply, Verb
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId
    from vmpulse_contract.stream import Roster
    from vmpulse_contract.verbs import AnyReply


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("call", help="ask a host by a detail verb, over the broker")
    parser.add_argument("host", help="the host's id")
    parser.add_argument("verb", help="one of " + ", ".join(Verb))
    parser.add_argument("vms", nargs="*", metavar="VM", help="VM ids; none: all VMs of the host")
    parser.add_argument("--json", action="store_true", help="one line of JSON, for machines")
    add_flags(parser, CallSettings, CLI_PREFIX)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print, and say by the exit code whether there was an answer."""
    settings = load(CallSettings, args, CLI_PREFIX)
    url = broker_of(settings, read_secret("broker_password_file", settings.broker_password_file))
    host, verb, vms = _question(args)
    if vms and verb not in SECTION_OF_VERB and verb is not Verb.GET_ALL_DEVICE_STATS:
        raise SettingsError("VM", args.vms[0], f"no VM ids with {verb}: it answers for the whole host")
    reply = asyncio.run(_ask(url, host, verb, vms))
    sys.stdout.write(json.dumps(readable(verb, reply), indent=None if args.json else 2, ensure_ascii=False) + "\n")
    return 0


def _question(args: argparse.Namespace) -> tuple[HostId, Verb, list[VmId]]:
    """Read the arguments. Raises SettingsError, for what is typed wrong is no failure of the host."""
    try:
        host = host_id(args.host)
    except BadName as error:
        raise SettingsError("HOST", args.host, HOST_ID_ALLOWED) from error
    try:
        verb = Verb(args.verb)
    except ValueError as error:
        raise SettingsError("VERB", args.verb, ", ".join(Verb)) from error
    vms = []
    for text in args.vms:
        try:
            vms.append(vm_id(text))
        except BadName as error:
            raise SettingsError("VM", text, "a UUID such as 123e4567-e89b-12d3-a456-426614174000") from error
    return host, verb, vms


async def _ask(url: BrokerUrl, host: HostId, verb: Verb, vms: Sequence[VmId]) -> AnyReply:
    requests = Requests(url, "vmpulse call")
    connection = asyncio.create_task(requests.run())
    up = asyncio.create_task(requests.up.wait())
    try:
        await asyncio.wait({connection, up}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if connection.done():
            await connection
        if not requests.up.is_set():
            raise ConsumerError(f"no broker answers at {url}; check the address and that RabbitMQ runs")
        return await requests.ask(host, verb, vms)
    finally:
        up.cancel()
        connection.cancel()
        await asyncio.gather(connection, up, return_exceptions=True)


def readable(verb: Verb, reply: AnyReply) -> dict[str, object]:
    """Turn a reply into plain JSON values: ids as UUID text, section bodies as their fields."""
    out: dict[str, object] = {"epoch": f"{reply.epoch:016x}", "asOf": reply.as_of, "monotonicMs": reply.monotonic_ms}
    if isinstance(reply, RosterReply):
        return out | ({"roster": _roster(reply.roster)} if reply.roster else {})
    if isinstance(reply, SectionReply):
        section = SECTION_OF_VERB[verb]
        out["vms"] = {
            vm_text(VmId(vm)): {"hash": f"{record.hash:016x}", section.label: _body(section, record.body)}
            for vm, record in reply.vms.items()
        }
    elif hasattr(reply, "vms"):
        out["vms"] = {vm_text(VmId(vm)): msgspec.to_builtins(record) for vm, record in reply.vms.items()}
    else:
        out["stats"] = msgspec.to_builtins(reply.stats)
    for name in ("missing", "remaining"):
        if hasattr(reply, name):
            out[name] = [vm_text(VmId(vm)) for vm in getattr(reply, name)]
    return out


def _body(section: sections.Section, body: bytes) -> object:
    if section in BODIED:
        return msgspec.to_builtins(sections.decode(section, body))
    return body.decode(errors="replace")


def _roster(roster: Roster) -> dict[str, object]:
    rows = zip(roster.vm_ids(), roster.start_tokens(), roster.elapsed(), strict=True)
    hashes = roster.announced()
    width = len(sections.Section)
    return {
        "layout": roster.layout,
        "facts": msgspec.to_builtins(roster.facts),
        "vms": [
            {
                "vm": vm_text(vm),
                "token": f"{token:016x}",
                "elapsedMs": elapsed,
                "hashes": {
                    section.label: f"{value:016x}"
                    for section, value in zip(sections.Section, hashes[at * width :], strict=False)
                    if value != sections.ABSENT
                },
            }
            for at, (vm, token, elapsed) in enumerate(rows)
        ],
        "tombstones": [
            {
                "vm": vm_text(VmId(stone.vm)),
                "token": f"{stone.token:016x}",
                "exitCode": stone.exit_code,
                "exitReason": stone.exit_reason,
                "endedMs": stone.ended_ms,
            }
            for stone in roster.tombstones
        ],
    }
