"""``vmpulse broker guard``: close connections of hosts that do what no agent does, until told to stop."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.broker.guard import Guard
from vmpulse_consumers.cli.management_options import add_management_options, open_management
from vmpulse_consumers.cli.seconds import positive_seconds
from vmpulse_consumers.errors import ManagementRefused, ManagementUnreachable
from vmpulse_edges import logs
from vmpulse_edges.logs import LogFormat, LogLevel

if TYPE_CHECKING:
    from vmpulse_consumers.broker.management import Management
    from vmpulse_consumers.cli import Subparsers

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0
"""RabbitMQ's own statistics are 5 s apart."""
DESCRIPTION: Final = """\
Look at a running broker again and again, and close each connection of a host that does what no agent does: holds
messages back in a transaction, acknowledges or reads nothing, or says more than twice what a view applies. RabbitMQ
keeps such messages in memory without a bound, and takes no publishes of anybody when it is full. A host that does
so three times within ten minutes is let in no more, until `vmpulse broker apply` gives it its connections back.
Engine users, and all other virtual hosts, are left alone.
"""
NOTES: Final = """\
needs:
  RabbitMQ's management plugin with its statistics, and a user with the tag administrator: the tag monitoring lets one
  look, but not close the connections of others. On this virtual host every user without a dot in its name counts as a
  host's, except for --admin

examples:
  vmpulse broker guard --admin-password-file admin.password
  vmpulse broker guard --management-url https://BROKER:15671 --management-ca-file ca.pem --admin-password-file FILE

exit codes:
  0    stopped as told (SIGTERM, Ctrl-C)
  1    at the start the broker refuses us; one that is only away is waited for, and later everything is tried again
  2    the command line is wrong
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``guard``."""
    parser = subparsers.add_parser(
        "guard",
        help="close connections of hosts that flood the broker or fill its memory",
        description=DESCRIPTION,
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--vhost", metavar="NAME", default="/", help="the virtual host (default: /)")
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=positive_seconds,
        default=EVERY_S,
        help=f"between two looks (default: {EVERY_S:g})",
    )
    parser.add_argument(
        "--log-format",
        choices=[form.value for form in LogFormat],
        default=LogFormat.TEXT.value,
        help="text for people, json for machines (default: text)",
    )
    add_management_options(parser)


def run(args: argparse.Namespace) -> int:
    """Guard until SIGTERM or SIGINT. Raises SettingsError, and ManagementRefused at the start."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # At once, also out of a request to an API that hangs.
        signal.signal(number, signal.default_int_handler)
    try:
        with open_management(args) as broker:
            logs.configure(LogLevel.INFO, LogFormat(args.log_format))
            # It has a line for each request.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            Watch(broker, args.vhost, args.every).run()
    except KeyboardInterrupt:
        log.info("stopped")
    return 0


class Watch:
    """Lets a guard look for ever, whether or not the management API is there."""

    def __init__(self, broker: Management, vhost: str, every_s: float) -> None:
        self._broker = broker
        self._vhost = vhost
        self._every_s = every_s
        self._guard = Guard(broker, vhost, time.monotonic)
        self._let_in = False
        self._amiss = False

    def run(self) -> None:
        """Look until interrupted. Raises ManagementRefused before the first look."""
        while True:
            try:
                self._look()
            except (ManagementUnreachable, ManagementRefused) as error:
                if isinstance(error, ManagementRefused) and not self._let_in:
                    raise
                self._tell(error)
            time.sleep(self._every_s)

    def _look(self) -> None:
        if not self._let_in:
            self._broker.expect_administrator(self._vhost)
        self._guard.look()
        if self._amiss or not self._let_in:
            again = " again" if self._let_in else ""
            words = "guarding virtual host %s of %s%s, a look each %g s"
            log.info(words, self._vhost, self._broker.url, again, self._every_s)
        self._let_in, self._amiss = True, False

    def _tell(self, error: Exception) -> None:
        """Once for each time that it is away."""
        if not self._amiss:
            log.warning("not guarding: %s; trying again each %g s", error, self._every_s)
        self._amiss = True
