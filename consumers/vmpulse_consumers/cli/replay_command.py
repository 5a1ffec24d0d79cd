"""``vmpulse replay FILE``: rebuild the view of a capture, and show it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from vmpulse_consumers.capture.file import read_capture
from vmpulse_consumers.capture.records import Header
from vmpulse_consumers.capture.replaying import Replay
from vmpulse_consumers.cli import hosts_command, vms_command
from vmpulse_consumers.cli.replies import HostReply, Page, VmReply
from vmpulse_consumers.errors import CaptureUnreadable
from vmpulse_consumers.view.rows import fleet_row, host_row, vm_row

if TYPE_CHECKING:
    from vmpulse_consumers.cli import Subparsers

T = TypeVar("T")

FAULTS: Final = 20
"""So many are told; the first says most."""
NOTES: Final = """\
A capture is what `vmpulse watch --raw FILE` writes. Times are those of the capture: ages are as of its last record.

examples:
  vmpulse replay fault.capture
  vmpulse replay fault.capture --until 12.5
  vmpulse replay fault.capture --json | jq '.vms[] | select(.status == "Unknown")'

exit codes:
  0    the view is rebuilt, and as it was where the capture's end tells
  1    it is not as it was, or the file is no capture
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
    parser.add_argument("--until", metavar="SECONDS", type=float, help="only the first so many seconds of it")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON: fleet, hosts, and VMs with all of each"
    )


def run(args: argparse.Namespace) -> int:
    """Rebuild, show, and say by the exit code whether it is as it was. Raises CaptureUnreadable."""
    replay = rebuild(Path(args.file), args.until)
    if args.json:
        sys.stdout.write(as_json(replay).decode() + "\n")
    else:
        show(replay)
    for fault in replay.faults[:FAULTS]:
        _say(f"the view failed on {fault}")
    counts = replay.view.counts
    _say(f"{counts.messages.total():,} messages applied, {counts.rejected.total():,} refused, {_same(replay)}")
    return 1 if replay.same is False else 0


def rebuild(path: Path, until: float | None) -> Replay:
    """Give the view of a capture, as after its first *until* seconds. Raises CaptureUnreadable.

    One that was cut off or damaged gives what came before, and that is said.
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
        _say(f"{error}; what came before is shown")
    if replay is None:
        raise CaptureUnreadable(f"{path} is no capture; a capture is what `vmpulse watch --raw FILE` writes")
    return replay


def as_json(replay: Replay) -> bytes:
    """Everything that the view says, as one object."""
    view, at = replay.view, replay.at
    return msgspec.json.encode(
        {
            "same": replay.same,
            "fleet": fleet_row(view, at),
            "hosts": [host_row(view, host, at) for _, host in sorted(view.hosts.items())],
            "vms": [vm_row(view, at, vm, with_sections=True, with_claims=True) for _, vm in sorted(view.vms.items())],
        }
    )


def show(replay: Replay) -> None:
    """Print the tables of ``vmpulse hosts`` and ``vmpulse vms``."""
    view, at = replay.view, replay.at
    hosts = [_reply(host_row(view, host, at), HostReply) for _, host in sorted(view.hosts.items())]
    vms = [_reply(vm_row(view, at, vm), VmReply) for _, vm in sorted(view.vms.items())]
    hosts_command.show(hosts, Page(len(hosts), len(hosts), 0))
    vms_command.show(vms, Page(len(vms), len(vms), 0))


def _reply(row: object, kind: type[T]) -> T:
    """A row as the tables read it: the way that it takes over HTTP."""
    return msgspec.json.decode(msgspec.json.encode(row), type=kind)


def _same(replay: Replay) -> str:
    if replay.same is None:
        return "the end of the capture was not reached: whether this is the captured view is not known"
    return "and this is the captured view" if replay.same else "but this is NOT the captured view: report that as well"


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
