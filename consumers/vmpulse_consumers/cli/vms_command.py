"""``vmpulse vms``: list VMs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.cli.api_client import add_api_options, open_api
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.paging import add_paging_options, fetch
from vmpulse_consumers.cli.replies import VmReply
from vmpulse_consumers.cli.tables import NARROW, Column, console, duration, number, shown, table
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    import argparse

    from rich.text import Text

    from vmpulse_consumers.cli import Subparsers
    from vmpulse_consumers.cli.replies import Page

LARGEST: Final = 10_000
LARGEST_WITH_SECTIONS: Final = 1000
COLUMNS: Final = (
    Column("ID"),
    Column("NAME", cut=True),
    Column("HOST", cut=True),
    Column("STATUS", cut=True),
    Column("CPU %", right=True),
    Column("MEM %", right=True),
    Column("UP", right=True),
    Column("AGE", right=True),
)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``vms``."""
    parser = subparsers.add_parser("vms", help="list VMs", description="List VMs, as the view sees them now.")
    statuses = ", ".join(status.label for status in VmStatus)
    parser.add_argument("--host", metavar="HOST", help="VMs of this host: its id, FQDN or UUID")
    parser.add_argument(
        "--label", metavar="KEY:VALUE", action="append", help="VMs on hosts with this label; may be repeated"
    )
    parser.add_argument(
        "--status", action="append", help=f"VMs of this status, in any case; may be repeated: {statuses}"
    )
    parser.add_argument(
        "--freshness", action="append", help="how far the values can be relied on: fresh, stale, unknown"
    )
    parser.add_argument("--split-brain", action="store_true", help="only VMs that several hosts say they run")
    parser.add_argument("--text", help="found in name, id, guest IPs or user, in any case")
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="name, host, status, age, cpu, mem, elapsed or id; -KEY for descending (default: host, then id)",
    )
    parser.add_argument("--sections", action="store_true", help="with --json: rows carry their sections, 1000 a page")
    add_paging_options(parser, largest=LARGEST)
    add_api_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list. Raises ConsumerError and SettingsError."""
    names = ("host", "label", "status", "freshness", "text", "sort")
    parameters = {name: getattr(args, name) for name in names}
    parameters |= {name: "true" for name in ("split_brain", "sections") if getattr(args, name)}
    with open_api(args) as api:
        page, raw = fetch(api, "vms", parameters, args, LARGEST_WITH_SECTIONS if args.sections else LARGEST)
        if args.json:
            say_json(raw)
        else:
            show([api.read(row, VmReply) for row in page.vms or ()], page)
    return 0


def show(vms: list[VmReply], page: Page) -> None:
    """Print the table, and beside it how much of the fleet it is."""
    out = console()
    columns = [column for column in COLUMNS if column.title != "UP" or out.width >= NARROW]
    rows = [_cells(vm) for vm in vms]
    out.print(table(columns, [[cells[column.title] for column in columns] for cells in rows]))
    if len(vms) < page.total:
        sys.stderr.write(f"{len(vms)} of {page.total} VMs; --all shows all of them\n")


def _cells(vm: VmReply) -> dict[str, Text]:
    age = duration(vm.age_s)
    age.stylize(shown(vm.freshness).style)
    return {
        "ID": shown(vm.id),
        "NAME": shown(vm.name),
        "HOST": shown(vm.host),
        "STATUS": shown(vm.status),
        "CPU %": number(vm.cpu),
        "MEM %": number(vm.mem_usage, 0),
        "UP": duration(vm.elapsed_time),
        "AGE": age,
    }
