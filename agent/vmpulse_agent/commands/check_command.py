"""``vmpulse-agent check``: what is wrong, and how to mend it, on one screen. Disturbs no agent that runs."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from vmpulse_agent.commands.assembly import host_facts, libvirt_options
from vmpulse_agent.commands.check_broker import check_broker
from vmpulse_agent.commands.check_libvirt import check_libvirt
from vmpulse_agent.commands.check_machine import (
    check_clock,
    check_host,
    check_password,
    check_port,
    check_state_dir,
)
from vmpulse_agent.commands.findings import bounded, exit_code, ok
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.settings import PREFIX, AgentSettings, broker_of, host_of
from vmpulse_contract.settings import add_flags
from vmpulse_edges import logs
from vmpulse_edges.logs import LogLevel
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine

    from vmpulse_agent.commands import Subparsers
    from vmpulse_agent.commands.findings import Finding

FILE_S: Final = 5.0
"""A name or a file that takes longer hangs: a resolver, a network file system."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``check``."""
    parser = subparsers.add_parser(
        "check",
        help="say what would keep an agent with these settings from working",
        description="Look at settings, files, libvirt and broker as `run` would use them, and say what is wrong. Takes "
        "the settings of `run`. Publishes nothing and changes nothing.",
        epilog="exit codes: 0 all is well or only warned of, 1 something fails, 2 a setting is wrong",
    )
    add_flags(parser, AgentSettings, PREFIX)


def run(args: argparse.Namespace) -> int:
    """Check everything, one after the other. Raises SettingsError, without which nothing can be looked at."""
    settings = load(AgentSettings, args, PREFIX)
    # What libraries say on the way is no finding.
    logs.configure(LogLevel.ERROR, settings.log_format)
    return exit_code(asyncio.run(_check(settings)))


async def _check(settings: AgentSettings) -> list[Finding]:
    findings: list[Finding] = []
    for what, begin in _parts(settings):
        for finding in await bounded(what, begin()):
            findings.append(finding)
            sys.stdout.write(f"{finding}\n")
            sys.stdout.flush()
    return findings


Part: TypeAlias = "Callable[[], Coroutine[None, None, list[Finding]]]"


def _parts(settings: AgentSettings) -> list[tuple[str, Part]]:
    """What is looked at, in order: what can be mended here first."""
    return [
        ("settings", lambda: _settings(settings)),
        ("host", _aside("host", lambda: check_host(settings, socket.getfqdn()))),
        ("clock", _aside("clock", check_clock)),
        ("state folder", _aside("state folder", lambda: check_state_dir(settings.state_dir))),
        ("metrics", _aside("metrics", lambda: check_port(settings))),
        *_libvirt_secret(settings.libvirt_password_file),
        ("libvirt", lambda: _libvirt(settings)),
        ("password file", _aside("password file", lambda: check_password(settings.broker_password_file))),
        ("broker", lambda: _broker(settings)),
    ]


def _aside(what: str, work: Callable[[], Finding]) -> Part:
    """Do what may block in a thread that cannot keep the program."""

    async def begin() -> list[Finding]:
        return [await Lane(what, 1).run(what, work, FILE_S)]

    return begin


async def _settings(settings: AgentSettings) -> list[Finding]:
    facts = host_facts(settings, "")
    labels = ", ".join(f"{key}={value}" for key, value in facts.labels.items()) or "none"
    return [ok("settings", f"a look every {settings.tick_s:g} s; labels: {labels}")]


def _libvirt_secret(file: str) -> list[tuple[str, Part]]:
    what = "libvirt secret"
    return [(what, _aside(what, lambda: check_password(file, what, "libvirt_password_file")))] if file else []


async def _libvirt(settings: AgentSettings) -> list[Finding]:
    return await check_libvirt(libvirt_options(settings))


async def _broker(settings: AgentSettings) -> list[Finding]:
    fqdn = await Lane("name", 1).run("name", socket.getfqdn, FILE_S)
    host = host_of(settings, fqdn)
    password = await Lane("password", 1).run(
        "password", lambda: read_secret("broker_password_file", settings.broker_password_file), FILE_S
    )
    return await check_broker(broker_of(settings, host, password), host)
