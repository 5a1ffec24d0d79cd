"""``vmpulse host ID``: one host, with its VMs and the lives that ended on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.cli.api_client import add_api_options, open_api, segment
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.replies import HostReply
from vmpulse_consumers.cli.tables import UNKNOWN, Column, console, duration, pairs, shown, table

if TYPE_CHECKING:
    import argparse

    from rich.table import Table

    from vmpulse_consumers.cli import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``host``."""
    parser = subparsers.add_parser("host", help="show one host", description="Show one host, as the view sees it now.")
    parser.add_argument("id", metavar="HOST", help="the host's id, FQDN or UUID")
    add_api_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the host. Raises ConsumerError and SettingsError."""
    with open_api(args) as api:
        # As in vm_command: an empty name would make it the list's path.
        raw = api.get(f"/api/v1/hosts/{segment(args.id or ' ')}")
        if args.json:
            say_json(raw)
        else:
            show(api.read(raw, HostReply))
    return 0


def show(host: HostReply) -> None:
    """Print what is known of a host."""
    out = console()
    out.print(
        pairs(
            {
                "host": host.host,
                "state": host.state,
                "for": duration(host.since_s),
                "silent for": duration(host.silent_s),
                "age": duration(host.age_s),
                "fqdn": host.fqdn,
                "uuid": host.host_uuid,
                "labels": host.labels,
                "agent": host.agent_version,
                "hypervisor": host.hypervisor_version,
                "libvirt": host.libvirt_version,
                "epoch": host.epoch,
                "seq": host.seq,
                "vms": f"{host.vms}, {host.active} active",
                "cpus": host.stats.cpu_count,
                "cpu user": _percent(host.stats.cpu_user),
                "cpu sys": _percent(host.stats.cpu_sys),
                "load": None if host.stats.cpu_load is None else f"{host.stats.cpu_load:.2f}",
                "memory": _used(host.stats.mem_used, host.stats.mem_total),
                "swap": _used(host.stats.swap_used, host.stats.swap_total),
            }
        )
    )
    if host.listed_vms:
        out.print(_vms(host))
    if host.tombstones:
        out.print(_ended(host))


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} %"


def _used(used: int | None, total: int | None) -> str | None:
    if total is None:
        return None
    return f"{UNKNOWN if used is None else used} of {total} MiB"


def _vms(host: HostReply) -> Table:
    return table(
        (Column("ID"), Column("NAME", cut=True), Column("STATUS", cut=True), Column("BELIEVED")),
        [
            [shown(vm.id), shown(vm.name), shown(vm.status), shown("yes" if vm.owner else "no")]
            for vm in host.listed_vms
        ],
    )


def _ended(host: HostReply) -> Table:
    return table(
        (Column("ENDED"), Column("EXIT"), Column("REASON", cut=True), Column("AGO", right=True)),
        [
            [shown(ended.id), shown(ended.exit_code), shown(ended.exit_reason), duration(ended.ended_s)]
            for ended in host.tombstones
        ],
    )
