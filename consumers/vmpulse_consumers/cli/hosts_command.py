"""``vmpulse hosts``: list hosts; ``vmpulse hosts forget`` forgets one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.cli import hosts_forget
from vmpulse_consumers.cli.api_client import add_api_options, open_api
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.paging import add_paging_options, fetch
from vmpulse_consumers.cli.replies import HostReply
from vmpulse_consumers.cli.tables import Column, console, duration, number, shown, table

if TYPE_CHECKING:
    import argparse

    from rich.text import Text

    from vmpulse_consumers.cli import Subparsers
    from vmpulse_consumers.cli.replies import Page

LARGEST: Final = 10_000
COLUMNS: Final = (
    Column("HOST", cut=True),
    Column("STATE"),
    Column("VMS", right=True),
    Column("ACTIVE", right=True),
    Column("CPU %", right=True),
    Column("MEM %", right=True),
    Column("AGE", right=True),
    Column("SILENT", right=True),
    Column("AGENT", cut=True),
    Column("LABELS", cut=True),
)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``hosts``."""
    parser = subparsers.add_parser("hosts", help="list hosts", description="List hosts, as the view sees them now.")
    parser.add_argument(
        "--state",
        action="append",
        help="hosts in this state; may be repeated: unknown, syncing, live, late, lost, stopped, gone",
    )
    parser.add_argument("--label", metavar="KEY:VALUE", action="append", help="hosts with this label; may be repeated")
    parser.add_argument("--text", help="found in id, FQDN or UUID, in any case")
    parser.add_argument(
        "--sort", metavar="KEY", help="host, state, vms, age or silent; -KEY for descending (default: host)"
    )
    add_paging_options(parser, largest=LARGEST)
    add_api_options(parser)
    hosts_forget.add_parser(parser.add_subparsers(dest="action", metavar="[forget]", title="what else hosts are for"))


def run(args: argparse.Namespace) -> int:
    """Print the list, or do what else was asked for. Raises ConsumerError and SettingsError."""
    if args.action is not None:
        return hosts_forget.run(args)
    parameters = {name: getattr(args, name) for name in ("state", "label", "text", "sort")}
    with open_api(args) as api:
        page, raw = fetch(api, "hosts", parameters, args, LARGEST)
        if args.json:
            say_json(raw)
        else:
            show([api.read(row, HostReply) for row in page.hosts or ()], page)
    return 0


def show(hosts: list[HostReply], page: Page) -> None:
    """Print the table, and beside it how much of the fleet it is."""
    console().print(table(COLUMNS, [_cells(host) for host in hosts]))
    if len(hosts) < page.total:
        sys.stderr.write(f"{len(hosts)} of {page.total} hosts; --all shows all of them\n")


def _cells(host: HostReply) -> list[Text]:
    return [
        shown(host.host),
        shown(host.state),
        shown(host.vms),
        shown(host.active),
        number(host.stats.cpu),
        number(host.stats.mem_usage, 0),
        duration(host.age_s),
        duration(host.silent_s),
        shown(host.agent_version),
        shown(host.labels or None),
    ]
