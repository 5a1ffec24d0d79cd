"""``vmpulse broker``: RabbitMQ's users, rights and policies, written, applied and compared."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_consumers.broker.drift import drift, unlisted_hosts
from vmpulse_consumers.broker.strangers import strangers
from vmpulse_consumers.broker.user_list import defined, passwords_in, read_hosts, wanted_rights
from vmpulse_consumers.cli import broker_guard
from vmpulse_consumers.cli.management_options import add_management_options, open_management
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.identity import HOST_ID
from vmpulse_edges.broker_definitions import definitions
from vmpulse_edges.health_probe import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmpulse_consumers.broker.management import Management
    from vmpulse_consumers.broker.strangers import Stranger
    from vmpulse_consumers.cli import Subparsers
    from vmpulse_contract.rights import Rights

GUEST: Final = "guest"
"""RabbitMQ's own administrator."""
MOST_SHOWN: Final = 100
PRUNE: Final = """\
remove what nobody asked for: users of hosts that are not listed, whose connections end; policies that are not ours and
hold for our names alone; bindings between our exchanges and others; queues vmpulse.rpc.* that are not exclusive. Other
administrators, queues and shovels are only named
"""
DESCRIPTION: Final = """\
RabbitMQ's users, rights and policies: one user for each host, named like the host, that can speak for itself alone; the
engine's users with the least that each needs; and bounds for queues. `guard` keeps hosts from filling the broker's
memory.
"""
NOTES: Final = """\
FILE lists hosts, one name a line; `#` begins a comment. FOLDER has a file with the password of each user, named like
the user; those that are missing are made, for their owner alone.

examples:
  vmpulse broker definitions --hosts hosts.txt --passwords /etc/vmpulse/broker > definitions.json
  vmpulse broker apply --hosts hosts.txt --passwords /etc/vmpulse/broker --admin-password-file admin.password
  vmpulse broker check --hosts hosts.txt --admin-password-file admin.password
  vmpulse broker guard --admin-password-file admin.password

exit codes:
  0    done; nothing differs; `guard`: stopped as told
  1    the broker refuses, a file cannot be used, or `check` found what differs
  2    the command line is wrong
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``broker`` with its actions."""
    parser = subparsers.add_parser(
        "broker",
        help="RabbitMQ's users, rights and policies",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    shown = actions.add_parser("definitions", help="print the definitions that a node loads at its start")
    applied = actions.add_parser("apply", help="put them into a running broker")
    checked = actions.add_parser("check", help="compare a running broker with them, and name what differs")
    for action in (shown, applied, checked):
        _add_list_options(action, passwords=action is not checked)
    for action in (applied, checked):
        add_management_options(action)
    applied.add_argument("--prune", action="store_true", help=PRUNE)
    broker_guard.add_parser(actions)


def _add_list_options(parser: argparse.ArgumentParser, *, passwords: bool) -> None:
    parser.add_argument("--hosts", metavar="FILE", required=True, type=Path, help="the list of hosts")
    parser.add_argument(
        "--passwords", metavar="FOLDER", required=passwords, type=Path, help="where each user's password is, or is made"
    )
    parser.add_argument("--view", metavar="NAME", default="main", help="the view's name (default: main)")
    parser.add_argument("--vhost", metavar="NAME", default="/", help="the virtual host (default: /)")
    parser.add_argument(
        "--simulator", action="store_true", help="with engine.simulator, which may speak for any host: for trials only"
    )


class Wanted(NamedTuple):
    """What the command line asks for. ``passwords`` is empty where none are given; ``made``: those that are new."""

    rights: dict[str, Rights]
    passwords: dict[str, str]
    made: list[str]
    vhost: str

    def document(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """The definitions; *hashes* that fit are kept."""
        passwords = self.passwords or dict.fromkeys(self.rights, "")
        return definitions(defined(self.rights, passwords, hashes), self.vhost)


def run(args: argparse.Namespace) -> int:
    """Do it. Raises ConsumerError and SettingsError."""
    if args.action == "guard":
        return broker_guard.run(args)
    wanted = _wanted(args)
    if wanted.made:
        _say(f"made {len(wanted.made)} passwords in {args.passwords}")
    if args.action == "definitions":
        sys.stdout.write(json.dumps(wanted.document({}), indent=2) + "\n")
        return 0
    with open_management(args) as broker:
        return _apply(wanted, broker, prune=args.prune) if args.action == "apply" else _check(wanted, broker)


def _wanted(args: argparse.Namespace) -> Wanted:
    if not HOST_ID.fullmatch(args.view):
        raise SettingsError("--view", args.view, "1 to 63 of a-z, 0-9, - and _")
    hosts = read_hosts(args.hosts)
    for taken in {GUEST, getattr(args, "admin", GUEST)}.intersection(hosts):
        # It would get a host's rights and another password, and nobody could administer the broker any more.
        raise SettingsError("--hosts", taken, "hosts that are named like no administrator of the broker")
    rights = wanted_rights(hosts, args.view, simulator=args.simulator)
    passwords, made = ({}, []) if args.passwords is None else passwords_in(args.passwords, rights)
    return Wanted(rights, passwords, made, args.vhost)


def _apply(wanted: Wanted, broker: Management, *, prune: bool) -> int:
    found = broker.definitions()
    hashes = {user["name"]: user.get("password_hash", "") for user in found.get("users", ())}
    document = wanted.document(hashes)
    before = drift(document, found, wanted.passwords, wanted.vhost, broker.user)
    broker.put(document)
    gone = unlisted_hosts(document, found, wanted.vhost)
    if prune:
        _prune(gone, strangers(document, found, wanted.vhost), broker)
    elif gone:
        _say(f"users with a host's rights that are not listed: {len(gone)}, among them {gone[0]}; --prune removes them")
    left = drift(document, broker.definitions(), wanted.passwords, wanted.vhost, broker.user)
    _say(f"{broker.url}: {len(wanted.rights)} users; {len(before)} things differed, {len(left)} do now")
    _show(left)
    return 0


def _prune(hosts: list[str], others: list[Stranger], broker: Management) -> None:
    """Users first: one that is still there could bind anew what is removed."""
    for name in hosts:
        broker.delete_user(name)
        _say(f"removed user {name}")
    for stranger in others:
        if stranger.place:
            broker.remove(stranger.place)
            _say(f"removed: {stranger.words}")


def _check(wanted: Wanted, broker: Management) -> int:
    found = broker.definitions()
    amiss = drift(wanted.document({}), found, wanted.passwords, wanted.vhost, broker.user)
    _show(amiss)
    if not amiss:
        _say(f"{broker.url}: {len(wanted.rights)} users, nothing differs")
    return 1 if amiss else 0


def _show(amiss: list[str]) -> None:
    for one in amiss[:MOST_SHOWN]:
        sys.stdout.write(f"{one_line(one)}\n")
    if len(amiss) > MOST_SHOWN:
        sys.stdout.write(f"and {len(amiss) - MOST_SHOWN} more\n")


def _say(words: str) -> None:
    sys.stderr.write(f"{one_line(words)}\n")
