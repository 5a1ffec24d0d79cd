"""``vmpulse-agent``: the program on hypervisor hosts, or one line that says what is missing for it."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from vmpulse_agent.errors import AgentError, NotInstalled
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_edges.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_agent.commands import Command

COMMANDS: Final = ("run", "check", "sample", "health")
"""Each is the module ``vmpulse_agent.commands.<name>_command``, and only the one that is named is loaded: ``health`` is
a health check, which has to be quick and to work where there is no libvirt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; gives its exit code."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        # Here, so that a closed pipe shows while it can still be caught.
        sys.stdout.flush()
    except (SettingsError, BadName) as error:
        return _fail(error, 2)
    except (AgentError, EdgeError) as error:
        return _fail(error, 1)
    except BrokenPipeError:
        # Whoever read our output has had enough, which is no failure. What is still buffered is not for them any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _run(arguments: list[str]) -> int:
    wanted = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    commands = {name: _load(name) for name in wanted}
    parser = argparse.ArgumentParser(
        prog="vmpulse-agent",
        description="Tells a virtualization engine what the VMs of this host do.",
        epilog="exit codes: 0 all went well, 1 it cannot work or is not well, 2 a setting is wrong",
    )
    parser.add_argument("--version", action=_Version, help="show the program's version and exit")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands.values():
        command.add_parser(subparsers)
    args = parser.parse_args(arguments)
    return commands[args.command].run(args)


class _Version(argparse.Action):
    """Shows the version; looking it up takes longer than a health check."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - see the class

        sys.stdout.write(f"vmpulse-agent {version('vmpulse')}\n")
        parser.exit()


def _load(name: str) -> Command:
    try:
        # Here and not above: the distribution can be installed without what the agent needs.
        return cast("Command", import_module(f"vmpulse_agent.commands.{name}_command"))
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing.startswith("vmpulse_"):
            raise
        raise NotInstalled(f"the package {missing} is missing here: install vmpulse[agent]") from error


def _fail(error: Exception, code: int) -> int:
    # One line, whatever the error repeats of its input.
    sys.stderr.write(f"vmpulse-agent: {' '.join(str(error).split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
