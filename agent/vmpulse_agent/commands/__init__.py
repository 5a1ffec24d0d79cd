"""Subcommands of ``vmpulse-agent``: each a module ``<name>_command`` with ``add_parser`` and ``run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import argparse

EXIT_CODES: Final = (
    "exit codes: 0 stopped as told, 1 cannot work (broker, hypervisor, port, another agent), 2 a setting is wrong"
)


class Subparsers(Protocol):
    """Where a subcommand adds its parser: what argparse's ``add_subparsers`` gives."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser:
        """Add the parser of one subcommand."""


class Command(Protocol):
    """A subcommand."""

    def add_parser(self, subparsers: Subparsers) -> None:
        """Add the subcommand's own parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Run it; gives the exit code. Raises AgentError, EdgeError and SettingsError, which end the program."""
