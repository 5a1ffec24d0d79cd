"""``vmpulse call HOST VERB [VM...]``: ask one host one question, over the broker, and print the answer."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.cli.call_replies import readable
from vmpulse_consumers.cli.call_tables import show
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.errors import ConsumerError
from vmpulse_consumers.settings import CLI_PREFIX, CallSettings
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_contract.identity import HOST_ID_ALLOWED, VmId, host_id, vm_id
from vmpulse_contract.settings import add_flags
from vmpulse_contract.verbs import SECTION_OF_VERB, Verb
from vmpulse_edges import logs
from vmpulse_edges.broker_settings import address_of
from vmpulse_edges.logs import LogFormat, LogLevel
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId
    from vmpulse_contract.verbs import AnyReply

CONNECTED_S: Final = 10.0
NOTES: Final = """\
needs:
  a broker where a view has run once, and a user of it with a dot in its name and the rights of engine.cli, as
  docs/operating.md lists them; no view has to run

exit codes:
  0    the host's answer is on stdout
  1    no broker or host answers, or it refuses; one line on stderr says why
  2    the command line or a setting is wrong
  130  interrupted (Ctrl-C)
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    words = "ask a host by a detail verb, over the broker"
    parser = subparsers.add_parser(
        "call",
        help=words,
        description=f"{words.capitalize()}, and print its answer.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("host", help="the host's id")
    parser.add_argument("verb", help="one of " + ", ".join(Verb))
    parser.add_argument("vms", nargs="*", metavar="VM", help="VM ids; none: all VMs of the host")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of tables")
    add_flags(parser, CallSettings, CLI_PREFIX)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print, and say by the exit code whether there was an answer."""
    settings = load(CallSettings, args, CLI_PREFIX)
    url = address_of(settings, read_secret("broker_password_file", settings.broker_password_file))
    host, verb, vms = _question(args)
    if vms and verb not in SECTION_OF_VERB and verb is not Verb.GET_ALL_DEVICE_STATS:
        raise SettingsError("VM", args.vms[0], f"no VM ids with {verb}: it answers for the whole host")
    # What goes wrong ends as the program's one line; the broker's client would log it as well.
    logs.configure(LogLevel.ERROR, LogFormat.TEXT)
    answer = readable(verb, asyncio.run(_ask(url, host, verb, vms)))
    if args.json:
        say_json(json.dumps(answer, ensure_ascii=False))
    else:
        show(verb, answer)
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
    """Ask once, over one connection: whoever typed the question can also repeat it."""
    requests = Requests(url, "vmpulse call", declares=False)
    connection = asyncio.create_task(requests.run_once())
    up = asyncio.create_task(requests.up.wait())
    try:
        await asyncio.wait({connection, up}, timeout=CONNECTED_S, return_when=asyncio.FIRST_COMPLETED)
        if connection.done():
            await connection
        if not requests.up.is_set():
            raise ConsumerError(f"the broker at {url} does not answer in time; check that RabbitMQ is well")
        return await requests.ask(host, verb, vms)
    finally:
        up.cancel()
        connection.cancel()
        await asyncio.gather(connection, up, return_exceptions=True)
