"""The program ``vmpulse-simulator``: fleets that do not exist."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from vmpulse_agent.errors import AgentError
from vmpulse_contract import broker_url, settings
from vmpulse_contract.errors import SettingsError
from vmpulse_edges.errors import EdgeError
from vmpulse_simulator.demo import Demo
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.settings import PREFIX, DemoSettings, FleetSettings, RunSettings, given
from vmpulse_simulator.signals import run_until_told
from vmpulse_simulator.standalone import ASKING, Standalone
from vmpulse_simulator.view_api import checked_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_contract.broker_url import BrokerUrl

S = TypeVar("S", bound=FleetSettings)

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
DEMO: Final = (
    "Run a private RabbitMQ, a fleet of simulated hosts with the real agent, and a view, until Ctrl-C. "
    "With --seconds-limit stop by itself, compare the view with the truth VM by VM, print one line of JSON, and fail "
    "unless every host is live, nothing differs and nothing is older than 7 s."
)
RUN: Final = (
    "Run a fleet of simulated hosts with the real agent against a broker that is already there, until Ctrl-C or "
    "SIGTERM, on which every agent says goodbye. SIGUSR1 has the fleet hold still and the view at --api compared with "
    "the truth VM by VM: one line of JSON on stdout, with the demo's keys and whether all of it was clean; what was "
    "not goes to stderr. Then the fleet goes on. /metrics and /healthz of the agents are on --metrics-port."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; gives the exit code."""
    options = vars(command_line().parse_args(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # The link tells the same, with the remedy.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        return demo(options) if options["command"] == "demo" else run(options)
    except SettingsError as error:
        return fail(error, EXIT_SETTINGS)
    except (SimulatorError, AgentError, EdgeError, OSError) as error:
        return fail(error, EXIT_FAILED)


def demo(options: dict[str, object]) -> int:
    """Run ``demo``."""
    return run_until_told(Demo(filled(DemoSettings, options)).run())


def run(options: dict[str, object]) -> int:
    """Run ``run``."""
    # Before there is anything to compare, asking must not end the program, as this signal does by itself.
    signal.signal(ASKING, signal.SIG_IGN)
    chosen = filled(RunSettings, options)
    password = read_secret(chosen.broker_password_file) if chosen.broker_password_file else None
    broker = broker_url.parse("--broker-url", chosen.broker_url, password)
    chosen = msgspec.structs.replace(chosen, api=checked_url("--api", chosen.api))
    try:
        return run_until_told(started(chosen, broker))
    except BaseExceptionGroup as group:
        # Its tasks fail one at a time, and the first failure cancels the others.
        raise group.exceptions[0] from group


async def started(chosen: RunSettings, broker: BrokerUrl) -> int:
    """Run a fleet, which belongs to one event loop, until cancelled."""
    return await Standalone(chosen, broker).run()


def filled(kind: type[S], options: dict[str, object]) -> S:
    """Build the settings from the environment and the flags; what is empty counts as not given."""
    return settings.fill(kind, table={}, environment=given(os.environ, PREFIX), flags=given(options), prefix=PREFIX)


def read_secret(file: str) -> str:
    """Read a password file. Raises SettingsError."""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError("--broker-password-file", file, f"a file that can be read ({error.strerror})") from error


def command_line() -> argparse.ArgumentParser:
    """The command line, with each setting as an option."""
    parser = argparse.ArgumentParser(
        prog="vmpulse-simulator", description="Fleets that do not exist, for trying and testing."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, kind in (("demo", DEMO, DemoSettings), ("run", RUN, RunSettings)):
        command = commands.add_parser(name, help=text.partition(",")[0], description=text)
        for setting, default, description in settings.describe(kind):
            flag = "--" + setting.replace("_", "-")
            command.add_argument(flag, metavar="VALUE", help=f"{description} (default {default})".replace("%", "%%"))
    return parser


def fail(error: Exception, code: int) -> int:
    """Say what is wrong, and give the exit code."""
    sys.stderr.write(f"vmpulse-simulator: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
