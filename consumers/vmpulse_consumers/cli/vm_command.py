"""``vmpulse vm ID``: one VM, with its sections and what each host says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.cli.api_client import add_api_options, open_api, segment
from vmpulse_consumers.cli.device_tables import show_device_stats
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.replies import DevicesReply, VmReply
from vmpulse_consumers.cli.tables import Column, console, duration, number, pairs, shown, table

if TYPE_CHECKING:
    import argparse

    from rich.table import Table

    from vmpulse_consumers.cli import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``vm``."""
    parser = subparsers.add_parser("vm", help="show one VM", description="Show one VM, as the view sees it now.")
    parser.add_argument("id", metavar="ID", help="the VM's UUID, with or without dashes")
    parser.add_argument(
        "--devices", action="store_true", help="show its device statistics instead, as its host reported them last"
    )
    add_api_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the VM. Raises ConsumerError and SettingsError."""
    with open_api(args) as api:
        # A path that ends in "/" would be the list's; a blank is an id that the view refuses with the right words.
        raw = api.get(f"/api/v1/vms/{segment(args.id or ' ')}{'/devices' if args.devices else ''}")
        if args.json:
            say_json(raw)
        elif args.devices:
            show_devices(api.read(raw, DevicesReply))
        else:
            show(api.read(raw, VmReply))
    return 0


def show(vm: VmReply) -> None:
    """Print what is known of a VM."""
    out = console()
    out.print(
        pairs(
            {
                "id": vm.id,
                "name": vm.name,
                "host": vm.host,
                "status": vm.status,
                "freshness": vm.freshness,
                "split brain": "yes" if vm.split_brain else None,
                "age": duration(vm.age_s),
                "cpu user": _percent(vm.cpu_user),
                "cpu sys": _percent(vm.cpu_sys),
                "memory": _percent(vm.mem_usage),
                "up": duration(vm.elapsed_time),
                "hashes": vm.hashes,
                "repairing": vm.repairing,
            }
        )
    )
    for name, content in vm.sections.items():
        out.print(shown(name), style="bold")
        out.print(pairs(content))
    if len(vm.claims) > 1:
        out.print(_claims(vm))


def show_devices(devices: DevicesReply) -> None:
    """Print the device statistics of a VM."""
    out = console()
    out.print(pairs({"id": devices.id, "host": devices.host, "age": duration(devices.age_s)}))
    show_device_stats(devices.device_stats)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{number(value)} %"


def _claims(vm: VmReply) -> Table:
    columns = (Column("CLAIM OF", cut=True), Column("HOST STATE"), Column("STATUS"), Column("BELIEVED"))
    return table(
        columns,
        [
            [shown(claim.host), shown(claim.host_state), shown(claim.status), shown("yes" if claim.owner else "no")]
            for claim in vm.claims
        ],
    )
