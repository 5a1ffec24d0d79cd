"""``vmpulse-agent health``: ask a running agent, or simulator, whether it is well. Loads no driver."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from vmpulse_edges.health_probe import ask, one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from vmpulse_agent.commands import Subparsers

HOST: Final = "VMPULSE_AGENT_METRICS_HOST"
PORT: Final = "VMPULSE_AGENT_METRICS_PORT"
ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - read, not listened on


def add_parser(subparsers: Subparsers) -> None:
    """Add ``health``."""
    parser = subparsers.add_parser(
        "health",
        help="ask a running agent whether it is well",
        description="Print one line: ok, or why the agent at that address is not well.",
        epilog="exit codes: 0 all is well, 1 not well or nobody answers, 2 the address is none",
    )
    parser.add_argument(
        "--url", help=f"where the agent serves its metrics (default: ${HOST} and ${PORT}, or http://127.0.0.1:9178)"
    )


def run(args: argparse.Namespace) -> int:
    """Ask and print. Raises SettingsError."""
    well, text = ask("--url", args.url or default_url(os.environ), "/healthz")
    sys.stdout.write((one_line(text) or "no reason was given") + "\n")
    return 0 if well else 1


def default_url(environment: Mapping[str, str]) -> str:
    """Where an agent with the same environment listens."""
    host = environment.get(HOST, "127.0.0.1")
    shown = ANY.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{environment.get(PORT) or 9178}"
