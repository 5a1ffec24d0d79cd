"""What a private broker needs before it can start: free ports, configuration, users."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vmpulse_contract.rights import Rights
from vmpulse_edges import broker_definitions
from vmpulse_edges.broker_definitions import DefinedUser, password_hash

ALL = Rights(".*", ".*", ".*")
"""Whatever a test has to do that is not about rights."""
ADMINISTRATOR = ALL._replace(tags=("administrator",))
LOOPBACK = "127.0.0.1"
# Below the usual ephemeral range (32768 and up): a client that reconnects in a loop to a dead port of that range may be
# given the very port as its own and connect to itself, and the node could not come back on it. 25672 is RabbitMQ's own.
PORTS = range(20_000, 25_600)


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """A user that exists from the first moment, with rights on the virtual host ``/``."""

    name: str
    password: str
    rights: Rights = ALL


@dataclass(frozen=True, slots=True)
class BrokerPorts:
    """The loopback ports of one node; they stay the same over its restarts."""

    amqp: int
    dist: int
    epmd: int
    management: int
    prometheus: int


def free_ports() -> BrokerPorts:
    """Ports for one node."""
    return BrokerPorts(*free_port_numbers(len(BrokerPorts.__slots__)))


def free_port_numbers(count: int) -> list[int]:
    """Ports nobody listens on now, drawn at random so that programs started side by side rarely meet."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            candidate = socket.socket()
            try:
                candidate.bind((LOOPBACK, random.choice(PORTS)))  # noqa: S311 - spread, not secrecy
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def with_passwords(rights: Mapping[str, Rights]) -> list[BrokerUser]:
    """Users of these names and rights, each with a password that nobody knows yet."""
    return [BrokerUser(name, secrets.token_urlsafe(16), its) for name, its in rights.items()]


def definitions(users: Iterable[BrokerUser]) -> dict[str, object]:
    """The definitions the node loads at boot; since they exist, it creates no ``guest``."""
    known = [DefinedUser(user.name, password_hash(user.password), user.rights) for user in users]
    return broker_definitions.definitions(known)


class ExtraConfig(NamedTuple):
    """What goes into the node's configuration beside what every private node has."""

    plain: str = ""
    """Lines of rabbitmq.conf."""
    advanced: str = "[]."
    """All of advanced.config, an Erlang term."""


def write_files(
    home: Path, ports: BrokerPorts, users: Iterable[BrokerUser], plugins: Iterable[str], extra: ExtraConfig
) -> None:
    """Write configuration, plugins and definitions into the node's folder, readable by its owner alone."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "listeners.tcp.1": f"{LOOPBACK}:{ports.amqp}",
        "loopback_users": "none",
        "heartbeat": "5",
        "load_definitions": home / "definitions.json",
        "log.console": "false",
        "log.file": home / "node.log",
        "log.file.level": "info",
    }
    if "rabbitmq_management" in plugins:
        settings |= {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(ports.management)}
    if "rabbitmq_prometheus" in plugins:
        settings |= {"prometheus.tcp.ip": LOOPBACK, "prometheus.tcp.port": str(ports.prometheus)}
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    (home / "rabbitmq.conf").write_text(lines + extra.plain, encoding="utf-8")
    (home / "advanced.config").write_text(extra.advanced, encoding="utf-8")
    (home / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n", encoding="ascii")
    (home / "definitions.json").write_text(json.dumps(definitions(users)), encoding="utf-8")


def environment(home: Path, ports: BrokerPorts, node: str) -> dict[str, str]:
    """A clean environment: nothing of another broker's settings may reach this one."""
    inherited = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ}
    return inherited | {
        "HOME": str(home),  # where Erlang keeps the cookie
        "LANG": "C.UTF-8",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(ports.epmd),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_DIST_PORT": str(ports.dist),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_PID_FILE": str(home / "node.pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # Makes the start script become the Erlang VM instead of standing in front of it as a shell.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
