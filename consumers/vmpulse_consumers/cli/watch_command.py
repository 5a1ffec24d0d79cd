"""``vmpulse watch``: print what happens, one JSON line for each event."""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.cli.api_client import Api, add_address_option, open_api
from vmpulse_consumers.cli.json_lines import printable, say_json
from vmpulse_consumers.cli.seconds import positive_seconds
from vmpulse_consumers.errors import ViewBusy, ViewUnreachable
from vmpulse_consumers.settings import CLI_PREFIX, CaptureSettings
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.fleet import EventType
from vmpulse_contract.settings import add_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_consumers.cli import Subparsers

PATH: Final = "/api/v1/events"
SILENCE_S: Final = 40.0
"""The view says at least every 15 s that it is there."""
BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0)
"""Pause before the first, second, ... try to get a lost stream back."""
NOTES: Final = """\
Each line is one event in CloudEvents' JSON format; docs/events.md describes them. Its id is the token to resume after
it. Where events were missed, a line of type fleet.relist says so: read the lists anew, and go on. When the view is
lost, watch comes back by itself, says so on stderr, and resumes where it was.

examples:
  vmpulse watch
  vmpulse watch --type host.lost --type host.live
  vmpulse watch --vm 123e4567-e89b-12d3-a456-426614174000 | jq .data.status
  vmpulse watch --after 3f9a5c71-1042
  vmpulse watch --raw fault.capture --seconds 60 --broker-password-file /etc/vmpulse/view.password

A capture holds what hosts and guests say, addresses and user names among it: its file is for its owner alone.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``watch``."""
    parser = subparsers.add_parser(
        "watch",
        help="print what happens, as it happens",
        description="Print what happens, as it happens, until interrupted.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    types = ", ".join(kind for kind in EventType if kind is not EventType.FLEET_RELIST)
    parser.add_argument("--type", action="append", help=f"events of this type; may be repeated: {types}")
    parser.add_argument(
        "--host", metavar="ID", action="append", help="events of this host and of VMs on it; may be repeated"
    )
    parser.add_argument("--vm", metavar="ID", action="append", help="events of this VM; may be repeated")
    parser.add_argument("--after", metavar="TOKEN", help="begin after this event (default: with what happens now)")
    add_address_option(parser)
    raw = parser.add_argument_group(
        "capture", "What hosts say, for a report of a fault; over the broker, and whether or not a view runs."
    )
    raw.add_argument("--raw", metavar="FILE", help="write a capture that `vmpulse replay` reads; FILE must not exist")
    raw.add_argument("--seconds", metavar="N", type=positive_seconds, help="end by itself after so long")
    add_flags(raw, CaptureSettings, CLI_PREFIX)


def run(args: argparse.Namespace) -> int:
    """Print events until interrupted. Raises ConsumerError and SettingsError; ViewUnreachable only at the start."""
    if args.raw is not None:
        return _capture(args)
    for option in ("seconds", "config", *CaptureSettings.__struct_fields__):
        given = getattr(args, option)
        if given is not None:
            raise SettingsError(
                f"--{option.replace('_', '-')}", given, "nothing without --raw FILE: it is for captures"
            )
    with open_api(args) as api:
        Watch(api, {"type": args.type, "host": args.host, "vm": args.vm}, args.after).run()
    return 0


def _capture(args: argparse.Namespace) -> int:
    for option in ("type", "host", "vm", "after", "api"):
        given = getattr(args, option)
        if given is not None:
            raise SettingsError(
                f"--{option}", given, "nothing beside --raw, which captures everything, over the broker"
            )
    # Here, so that whoever follows a view's events needs no client of the broker.
    from vmpulse_consumers.cli.capturing import capture  # noqa: PLC0415

    return capture(args)


class Block(NamedTuple):
    """One block of a stream of server-sent events."""

    token: str | None
    event: str | None
    data: str | None


class Watch:
    """Follows one view's events over the ends of its connections."""

    def __init__(self, api: Api, filters: dict[str, list[str] | None], after: str | None) -> None:
        self._api = api
        self._parameters = {name: values for name, values in filters.items() if values is not None}
        self._after = after
        self._begun = False
        self._failures = 0

    def run(self) -> None:
        """Print events, for ever. Raises ViewUnreachable before anything came, and ViewRefused."""
        while True:
            try:
                self._follow()
            except (ViewUnreachable, ViewBusy) as error:
                if not self._begun:
                    raise
                self._wait(str(error))
            else:
                self._wait("the view ended the stream")

    def _follow(self) -> None:
        after = {} if self._after is None else {"after": self._after}
        with self._api.lines(PATH, {**self._parameters, **after}, {}, SILENCE_S) as lines:
            for token, event, data in blocks(lines):
                self._begun, self._failures = True, 0
                if event == "dropped":
                    _note(f"the view drops us: {printable(data or '')}")
                elif data is not None:
                    say_json(data)
                    sys.stdout.flush()
                if token is not None:
                    self._after = token

    def _wait(self, why: str) -> None:
        pause = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        _note(f"{why}; resuming after {self._after} within {pause} s")
        time.sleep(random.uniform(pause / 4, pause))  # noqa: S311 - spreading, not secrecy


def blocks(lines: Iterator[str]) -> Iterator[Block]:
    """Read a stream of server-sent events; comments are left out, and what has neither id nor data."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not line:
            if "id" in fields or "data" in fields:
                yield Block(fields.get("id"), fields.get("event"), fields.get("data"))
            fields = {}


def _note(words: str) -> None:
    sys.stderr.write(f"vmpulse: {' '.join(words.split())}\n")
    sys.stderr.flush()
