"""How the command line names RabbitMQ's management API, and the administrator who asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_consumers.broker.management import Management
from vmpulse_consumers.server_url import checked, refuse_clear, trusting
from vmpulse_edges.settings_source import read_secret

if TYPE_CHECKING:
    import argparse

MANAGEMENT_URL: Final = "http://127.0.0.1:15672"
ALLOWED: Final = "http://HOST:15672 or https://HOST:15671, without user and path"


def add_management_options(parser: argparse.ArgumentParser) -> None:
    """Add what all actions share that ask a running broker."""
    parser.add_argument(
        "--management-url",
        metavar="URL",
        default=MANAGEMENT_URL,
        help=f"its management API (default: {MANAGEMENT_URL})",
    )
    parser.add_argument(
        "--management-ca-file",
        metavar="FILE",
        default="",
        help="the authority of an https management API, PEM (default: the system's authorities)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="send the password in clear to an http API beyond loopback, where something else protects the way",
    )
    parser.add_argument(
        "--admin", metavar="USER", default="admin", help="a user with the tag administrator (default: admin)"
    )
    parser.add_argument("--admin-password-file", metavar="FILE", required=True, help="file with its password")


def open_management(args: argparse.Namespace) -> Management:
    """Give the API that the command line means; nobody is asked yet. Raises SettingsError."""
    url = checked("--management-url", args.management_url, ALLOWED)
    if not args.insecure:
        refuse_clear("--management-url", url, "the administrator's password")
    password = read_secret("--admin-password-file", args.admin_password_file) or ""
    return Management(url, args.admin, password, trusting("--management-ca-file", args.management_ca_file))
