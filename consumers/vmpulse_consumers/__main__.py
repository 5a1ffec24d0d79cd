"""The program ``vmpulse``: runs a view, and reads one."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, cast

from vmpulse_consumers.errors import ConsumerError, NotInstalled
from vmpulse_contract.errors import ContractError, SettingsError
from vmpulse_edges.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_consumers.cli import Command

COMMANDS: Final = ("view", "vms", "vm", "hosts", "host", "call", "watch", "replay", "broker", "token", "health")
"""Each is the module ``vmpulse_consumers.cli.<name>_command``; one that is not installed is left out."""
DESCRIPTION: Final = "What every VM of the fleet is doing."
EXIT_CODES: Final = """\
exit codes:
  0    done
  1    it did not work: no view, broker or host answers, or it refuses; one line on stderr says why
  2    the command line or a setting is wrong
  130  interrupted (Ctrl-C)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Gives the exit code; argparse itself leaves by SystemExit for --help (0) and usage (2)."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        # Here, so that a closed pipe shows while it can still be caught.
        sys.stdout.flush()
    except SettingsError as error:
        return _fail(error, 2)
    except (ConsumerError, ContractError, EdgeError) as error:
        return _fail(error, 1)
    except BrokenPipeError:
        return _leave_pipe()
    except KeyboardInterrupt:
        return 130
    return code


def _run(arguments: list[str]) -> int:
    # One named subcommand loads its own module only: `vmpulse vms` needs no broker client.
    wanted = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    commands = {name: command for name in wanted if (command := _load(name)) is not None}
    parser = argparse.ArgumentParser(
        prog="vmpulse",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vmpulse {version('vmpulse')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands.values():
        command.add_parser(subparsers)
    args = parser.parse_args(_joined(arguments))
    return commands[args.command].run(args)


def _joined(arguments: list[str]) -> list[str]:
    """Let ``--sort -cpu`` mean ``--sort=-cpu``: argparse would take the value for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sort" and not argument.startswith("--"):
            joined[-1] = f"--sort={argument}"
        else:
            joined.append(argument)
    return joined


def _load(name: str) -> Command | None:
    module = f"vmpulse_consumers.cli.{name}_command"
    try:
        return cast("Command", import_module(module))
    except ModuleNotFoundError as error:
        if error.name == module:
            return None
        missing = str(error.name).partition(".")[0]
        if missing.startswith("vmpulse_"):
            raise
        raise NotInstalled(f"the package {missing} is missing here: install vmpulse[consumers]") from error


def _fail(error: Exception, code: int) -> int:
    # One line, whatever the error repeats of its input.
    sys.stderr.write(f"vmpulse: {' '.join(str(error).split())}\n")
    return code


def _leave_pipe() -> int:
    """Whoever read our output has had enough, which is no failure. What is still buffered is not for them any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
