"""``vmpulse token``: make a token for the HTTP API; the view's file gets its hash."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import TokensUnusable
from vmpulse_consumers.http.access import AccessScope, token_hash
from vmpulse_contract.errors import SettingsError

if TYPE_CHECKING:
    from vmpulse_consumers.cli import Subparsers

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
TOKEN_BYTES: Final = 32
NOTES: Final = """\
The token goes to stdout and is shown nowhere else; FILE gets a line with its hash. The view reads FILE
(`http_tokens_file`) again when it changes: a line that is removed is a token that is taken back.

examples:
  vmpulse token grafana --scope read --file /etc/vmpulse/tokens > grafana.token
  vmpulse token prometheus --scope metrics --file /etc/vmpulse/tokens > /etc/prometheus/vmpulse.token
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``token``."""
    parser = subparsers.add_parser(
        "token",
        help="make a token for the HTTP API",
        description="Make a token for the HTTP API.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="who it is for")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[scope.value for scope in AccessScope],
        help="what it is for; may be repeated",
    )
    parser.add_argument("--file", metavar="FILE", type=Path, required=True, help="the view's http_tokens_file")


def run(args: argparse.Namespace) -> int:
    """Make it. Raises SettingsError and TokensUnusable."""
    if not NAME.fullmatch(args.name):
        raise SettingsError("NAME", args.name, "1 to 64 of letters, digits, dots, - and _")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = f"{args.name} {','.join(dict.fromkeys(args.scope))} {token_hash(token)}\n"
    try:
        with os.fdopen(os.open(args.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640), "a+", encoding="utf-8") as file:
            file.seek(0)
            whole = file.read()
            file.write(line if not whole or whole.endswith("\n") else f"\n{line}")
    except OSError as error:
        raise TokensUnusable(f"{args.file} cannot be written: {error.strerror}; name another --file") from error
    sys.stdout.write(f"{token}\n")
    return 0
