"""``vmpulse hosts forget HOST``: tell the view that a host is gone for good."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from vmpulse_consumers.cli.api_client import add_api_options, open_api, segment
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.replies import ForgottenReply, HostReply
from vmpulse_consumers.cli.tables import console, shown

if TYPE_CHECKING:
    from vmpulse_consumers.cli import Subparsers

DESCRIPTION = """\
Tell the view that a host is gone for good. What it has said of its VMs is forgotten with it: those that no other host
lists are gone. A host that is heard is refused, and one that speaks again is met anew.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``forget``."""
    parser = subparsers.add_parser(
        "forget",
        help="forget a host that is gone for good",
        description=DESCRIPTION,
        # What stands before ``forget`` holds too.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("host", metavar="HOST", help="the host's id, FQDN or UUID")
    parser.add_argument("--yes", action="store_true", default=False, help="do not ask before")
    add_api_options(parser)


def run(args: argparse.Namespace) -> int:
    """Forget the host, if that is wanted. Raises ConsumerError and SettingsError."""
    # As in vm_command: an empty name would make it the list's path.
    path = f"/api/v1/hosts/{segment(args.host or ' ')}"
    with open_api(args) as api:
        if sys.stdin.isatty() and not args.yes and not _confirmed(api.read(api.get(path), HostReply)):
            sys.stderr.write("nothing was forgotten\n")
            return 1
        raw = api.post(f"{path}/forget")
        if args.json:
            say_json(raw)
        else:
            forgotten = api.read(raw, ForgottenReply)
            console().print(shown(f"{forgotten.host} is forgotten; VMs that it listed: {forgotten.vms}"))
    return 0


def _confirmed(host: HostReply) -> bool:
    words = shown(f"forget {host.host} ({host.state}; VMs that it lists: {host.vms})?")
    sys.stderr.write(f"{words.plain} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}
