"""``vmpulse replay FILE``: rebuild the view of a capture, and show it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from vmpulse_consumers.capture.file import read_capture
from vmpulse_consumers.capture.records import REMEDY, Header
from vmpulse_consumers.capture.replaying import Replay
from vmpulse_consumers.cli import hosts_command, vms_command
from vmpulse_consumers.cli.json_lines import say_json
from vmpulse_consumers.cli.replies import HostReply, Page, VmReply
from vmpulse_consumers.cli.seconds import seconds
from vmpulse_consumers.errors import CaptureUnreadable, NotInCapture
from vmpulse_consumers.view.rows import fleet_row, host_row, vm_row
from vmpulse_contract.errors import BadName
from vmpulse_contract.identity import VmId, vm_id, vm_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_consumers.cli import Subparsers
    from vmpulse_consumers.view import Host, View, Vm

T = TypeVar("T")

NOTES: Final = """\
A capture is what `vmpulse watch --raw FILE` writes. Times are those of the capture: ages are as of its last record.

examples:
  vmpulse replay fault.capture
  vmpulse replay fault.capture --until 12.5
  vmpulse replay fault.capture --vm 123e4567-e89b-12d3-a456-426614174000
  vmpulse replay fault.capture --json | jq '.vms[] | select(.status == "Unknown")'

exit codes:
  0    the view is rebuilt, and as it was where the capture's end tells
  1    it is not as it was, the file is damaged or no capture, or what is to be shown is not in it
  2    the command line is wrong
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``replay``."""
    parser = subparsers.add_parser(
        "replay",
        help="rebuild the view of a capture",
        description="Rebuild the view of a capture, and show its hosts and VMs.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="what `vmpulse watch --raw` has written")
    parser.add_argument("--until", metavar="SECONDS", type=seconds, help="only the first so many seconds of it")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--host", metavar="HOST", help="show this host and its VMs alone: its id, FQDN or UUID")
    only.add_argument("--vm", metavar="ID", type=_uuid, help="show this VM and the hosts that list it alone")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON: fleet, hosts, and VMs with all of each"
    )


def _uuid(text: str) -> VmId:
    try:
        return vm_id(text)
    except BadName as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Rebuild, show, and say by the exit code whether it is as it was. Raises CaptureUnreadable and NotInCapture."""
    rebuilt = rebuild(Path(args.file), args.until)
    _tell(rebuilt)
    shown = _chosen(rebuilt.replay.view, args.host, args.vm)
    if args.json:
        say_json(as_json(rebuilt.replay, shown))
    else:
        show(rebuilt.replay, shown)
    return 1 if rebuilt.damage or rebuilt.replay.same is False else 0


class Rebuilt(NamedTuple):
    """What has become of a capture. ``damage``: where and how it is damaged, as a sentence; empty: it is not."""

    replay: Replay
    damage: str


class Shown(NamedTuple):
    """What is to be shown of a view."""

    hosts: Sequence[Host]
    vms: Sequence[Vm]


def rebuild(path: Path, until: float | None) -> Rebuilt:
    """Give the view of a capture, as after its first *until* seconds. Raises CaptureUnreadable.

    One that was cut off or damaged gives what came before.
    """
    replay: Replay | None = None
    began = 0.0
    try:
        for record in read_capture(path):
            if isinstance(record, Header):
                replay, began = Replay(record.began), record.began
            elif until is not None and record.at - began > until:
                break
            elif replay is not None:
                replay.apply(record)
    except CaptureUnreadable as error:
        if replay is None:
            raise
        return Rebuilt(replay, str(error))
    if replay is None:
        raise CaptureUnreadable(f"{path} is no capture; {REMEDY}")
    return Rebuilt(replay, "")


def _chosen(view: View, host: str | None, vm: VmId | None) -> Shown:
    """What was asked for, in order. Raises NotInCapture."""
    hosts = [known for _, known in sorted(view.hosts.items())]
    if host is not None:
        return _of_host(
            view,
            [known for known in hosts if known.id == host] or [known for known in hosts if known.named(host)],
            host,
        )
    if vm is None:
        return Shown(hosts, [known for _, known in sorted(view.vms.items())])
    if vm not in view.vms:
        raise NotInCapture(f"no host lists the VM {vm_text(vm)}; `vmpulse replay FILE` shows which are listed")
    return Shown([known for known in hosts if known in view.vms[vm].claims], [view.vms[vm]])


def _of_host(view: View, found: list[Host], name: str) -> Shown:
    if len(found) != 1:
        words = f"{len(found)} hosts are named" if found else "there is no host"
        raise NotInCapture(f"{words} {name!r:.100}; `vmpulse replay FILE` shows the ids of all")
    return Shown(found, [view.vms[vm] for vm in sorted(found[0].vms)])


def as_json(replay: Replay, shown: Shown) -> bytes:
    """Everything that the view says of these and of the fleet, as one object."""
    view, at = replay.view, replay.at
    return msgspec.json.encode(
        {
            "same": replay.same,
            "fleet": fleet_row(view, at),
            "hosts": [host_row(view, host, at) for host in shown.hosts],
            "vms": [vm_row(view, at, vm, with_sections=True, with_claims=True) for vm in shown.vms],
        }
    )


def show(replay: Replay, shown: Shown) -> None:
    """Print the tables of ``vmpulse hosts`` and ``vmpulse vms``."""
    view, at = replay.view, replay.at
    hosts = [_reply(host_row(view, host, at), HostReply) for host in shown.hosts]
    vms = [_reply(vm_row(view, at, vm), VmReply) for vm in shown.vms]
    hosts_command.show(hosts, Page(len(hosts), len(hosts), 0))
    vms_command.show(vms, Page(len(vms), len(vms), 0))


def _reply(row: object, kind: type[T]) -> T:
    """A row as the tables read it: the way that it takes over HTTP."""
    return msgspec.json.decode(msgspec.json.encode(row), type=kind)


def _tell(rebuilt: Rebuilt) -> None:
    """Say what was replayed, and whether that is the captured view."""
    replay = rebuilt.replay
    counts = replay.view.counts
    if rebuilt.damage:
        _say(f"{rebuilt.damage}; what came before is shown")
    for fault in replay.faults:
        _say(f"the view failed on {fault}")
    if replay.failed > len(replay.faults):
        _say(f"the view failed {replay.failed:,} times in all")
    messages = f"{counts.messages.total():,} messages applied, {counts.rejected.total():,} refused"
    _say(f"{replay.applied:,} records applied: {messages}, {_same(replay)}")


def _same(replay: Replay) -> str:
    if replay.same is None:
        return "the end of the capture was not reached: whether this is the captured view is not known"
    return "and this is the captured view" if replay.same else "but this is NOT the captured view: report that as well"


def _say(words: str) -> None:
    # A capture may come from anybody: nothing in it may steer a terminal.
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    sys.stderr.write(f"{clean}\n")
