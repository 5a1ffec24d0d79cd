"""Whoever runs `vmpulse broker`: with a list of hosts, an administrator's password and a folder of passwords."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aio_pika
from aiormq.exceptions import AMQPConnectionError

from vmpulse_simulator.broker_files import ADMINISTRATOR
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

ADMIN = BrokerUser("admin", "admin-password", ADMINISTRATOR)


class Operator:
    """Somebody with a list of hosts and an administrator's password."""

    def __init__(self, folder: Path, broker: PrivateBroker) -> None:
        self.passwords = folder / "passwords"
        self._hosts = folder / "hosts"
        self._admin = folder / "admin"
        self._admin.write_text(ADMIN.password, encoding="ascii")
        self._broker = broker
        self.url = f"http://{broker.host}:{broker.ports.management}"

    def list(self, *hosts: str) -> None:
        """Write the list."""
        self._hosts.write_text("".join(f"{host}\n" for host in hosts), encoding="ascii")

    def run(self, action: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        options = [] if action == "guard" else ["--hosts", str(self._hosts)]
        if action != "definitions":
            options += ["--management-url", self.url, "--admin-password-file", str(self._admin)]
        command = (sys.executable, "-m", "vmpulse_consumers", "broker", action, *options, *more)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def apply(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Apply, with passwords."""
        return self.run("apply", "--passwords", str(self.passwords), *more)

    async def connects(self, user: str) -> bool:
        """Whether the user gets in with the password of its file."""
        password = (self.passwords / user).read_text(encoding="ascii")
        try:
            connection = await aio_pika.connect(f"amqp://{user}:{password}@{self._broker.host}:{self._broker.port}/")
        except AMQPConnectionError:
            return False
        await connection.close()
        return True
