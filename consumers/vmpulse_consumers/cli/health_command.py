"""``vmpulse health``: ask a running view whether it is ready, for health checks. Loads nothing that takes time."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from vmpulse_edges.health_probe import ask, one_line

if TYPE_CHECKING:
    import argparse

    from vmpulse_consumers.cli import Subparsers

VARIABLE: Final = "VMPULSE_API"
DEFAULT_API: Final = "http://127.0.0.1:8080"
"""As in ``api_client``, whose HTTP client takes longer to load than all of this."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``health``."""
    parser = subparsers.add_parser(
        "health",
        help="ask a running view whether it is ready",
        description="Print one line: ready, or why the view at that address is not.",
        epilog="exit codes: 0 ready, 1 not ready or nobody answers, 2 the address is none",
    )
    parser.add_argument(
        "--api", metavar="URL", help=f"the view's address (default: ${VARIABLE}, or else {DEFAULT_API})"
    )


def run(args: argparse.Namespace) -> int:
    """Ask and print. Raises SettingsError."""
    setting, url = ("--api", args.api) if args.api is not None else (VARIABLE, os.environ.get(VARIABLE) or DEFAULT_API)
    ready, text = ask(setting, url, "/readyz")
    sys.stdout.write((_words(text) or "no reason was given") + "\n")
    return 0 if ready else 1


def _words(text: str) -> str:
    """The reasons out of a view's answer; any other text as it is."""
    try:
        answer = json.loads(text)
        reasons = [] if answer["ready"] else list(map(str, answer["reasons"]))
    except (ValueError, TypeError, KeyError):
        return one_line(text)
    return one_line("\n".join(reasons)) if reasons else "ready"
