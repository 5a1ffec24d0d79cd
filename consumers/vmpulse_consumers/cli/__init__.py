"""Subcommands of ``vmpulse``. Each is a module with ``add_parser(subparsers)`` and ``run(args) -> exit code``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse


class Subparsers(Protocol):
    """Where a subcommand adds its parser: what argparse's ``add_subparsers`` gives."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser:
        """Add the parser of one subcommand."""


class Command(Protocol):
    """A subcommand."""

    def add_parser(self, subparsers: Subparsers) -> None:
        """Add the subcommand's own parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Run it; gives the exit code. Raises ConsumerError and SettingsError, which end the program with one line."""
