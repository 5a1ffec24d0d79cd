"""A broker and a simulated fleet at work, each a process of its own, for benches that measure a view beside them."""

from __future__ import annotations

import os
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from benches.chaos.cable import LOOPBACK
from vmpulse_contract.rights import SIMULATOR, VIEW, simulator_rights, view_rights
from vmpulse_simulator.broker_files import with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker
from vmpulse_simulator.view_process import ViewProcess, write_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

PROGRAM: Final = (sys.executable, "-m", "vmpulse_simulator", "run")


class FleetEnded(SimulatorError):
    """The simulated fleet has ended by itself."""


class Size(NamedTuple):
    """A fleet: hosts, VMs on each, and seconds between two frames of a host."""

    hosts: int
    vms: int
    tick_s: float = 3.0

    @property
    def all_vms(self) -> int:
        """How many VMs it has."""
        return self.hosts * self.vms


class SimulatedFleet:
    """The fleet and its broker, from entering to leaving the context; no message is lost on purpose.

    Args:
        folder: for everything that is written.
        size: of the fleet.
        rates: options of ``vmpulse-simulator run`` that say how much happens; what is not named has its default.
        users: of the broker, beside those of the view and of the fleet's agents.
    """

    def __init__(self, folder: Path, size: Size, rates: Mapping[str, float], users: Iterable[BrokerUser] = ()) -> None:
        self.size = size
        self.folder = folder
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights()}
        own = with_passwords(rights)
        self.broker = PrivateBroker(root=folder, users=[*own, *users])
        self.secret = folder / "simulator.password"
        self._rates = rates
        self._processes: list[ChildProcess] = []
        self._stack = AsyncExitStack()

    def view(self, folder: Path, http_port: int, *options: str, broker_port: int | None = None) -> ViewProcess:
        """A view of the fleet, to be entered; *broker_port*: another way to the broker."""
        address = f"amqp://{VIEW}@{LOOPBACK}:{broker_port or self.broker.port}/"
        return ViewProcess(address, self._password(VIEW), http_port, folder, *options)

    def check(self) -> None:
        """Raise FleetEnded if it has."""
        for process in self._processes:
            if process.died is not None:
                words = f"the simulated fleet has ended with status {process.died}; its log is {process.log}"
                raise FleetEnded(f"{words}\n{process.last_lines()}")

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self.broker)
            write_secret(self.secret, self._password(SIMULATOR))
            self._stack.callback(self.secret.unlink)
            for number, command in enumerate(self.commands()):
                process = ChildProcess(command, self.folder / f"simulator-{number}.log", os.environ)
                self._stack.push_async_callback(process.kill)  # nobody listens to the goodbyes of thousands of hosts
                await process.start()
                self._processes.append(process)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _password(self, name: str) -> str:
        return next(user.password for user in self.broker.users if user.name == name)

    @property
    def address(self) -> str:
        """Of the broker, for those who speak for the hosts; the password is in ``secret``."""
        return f"amqp://{SIMULATOR}@{LOOPBACK}:{self.broker.port}/"

    def commands(self) -> list[list[str]]:
        """The programs that speak for the hosts."""
        options = {
            "hosts": self.size.hosts,
            "vms": self.size.vms,
            "tick": self.size.tick_s,
            "broker-url": self.address,
            "broker-password-file": self.secret,
            "metrics-port": "",
            "loss-percent": 0,
            **self._rates,
        }
        return [[*PROGRAM, *flags(options)]]


def flags(options: Mapping[str, object]) -> list[str]:
    """Options as a command line has them."""
    return [f"--{name}={value}" for name, value in options.items()]
