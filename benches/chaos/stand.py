"""What a run is made of: a broker, a view and groups of agents as processes, the cables between them, and the fleet.

The fleet's hypervisors live in this process, and so does what happens to their VMs: killing agents takes no VM along,
and the truth is at hand. Everything that is started ends with the context, in the reverse order.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from benches.chaos.cable import LOOPBACK, Cable
from benches.chaos.hypervisor_server import HypervisorServer
from benches.chaos.motion import RATES, Motion
from vmpulse_contract.rights import SIMULATOR, VIEW, simulator_rights, view_rights
from vmpulse_simulator.broker_files import free_port_numbers, with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError, ViewUnreachable
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker
from vmpulse_simulator.truth import Truth, take_truth
from vmpulse_simulator.view_api import ViewApi
from vmpulse_simulator.view_process import ViewProcess, write_secret

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from vmpulse_simulator.dynamics import Rates
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

TICK_S: Final = 3.0
GROUPS: Final = 5
"""Processes that the agents are spread over, at most."""
READY_S: Final = 60.0
POLL_S: Final = 0.2
AGENTS: Final = (sys.executable, "-m", "benches.chaos.agents")


class ProgramDied(SimulatorError):
    """A program that nobody had told to end has ended."""


class NotReady(SimulatorError):
    """The view did not come to see the whole fleet before the first fault."""


class Stand:
    """All parts of a run, from entering to leaving the context.

    Args:
        folder: for everything that is written; its path is to be short, for a Unix socket is in it.
        seed: decides the fleet and what happens in it.
        hosts: how many hosts.
        vms: how many VMs on each at first.
        tick_s: seconds between two looks of an agent.
        rates: how often something happens in the fleet.
        users: of the broker, beside those of the view and of the fleet's agents.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        hosts: int,
        vms: int,
        *,
        tick_s: float = TICK_S,
        rates: Rates = RATES,
        users: Iterable[BrokerUser] = (),
    ) -> None:
        self.folder = folder
        self.tick_s = tick_s
        self.clock = time.monotonic
        self.motion = Motion(seed, hosts, vms, self.clock, rates)
        hypervisors, count = self.motion.fleet.hypervisors, min(GROUPS, hosts)
        self.groups = [hypervisors[number::count] for number in range(count)]
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights()}
        own = with_passwords(rights)
        self.broker = PrivateBroker(root=folder, users=[*own, *users])
        self.view_cable = Cable(self.broker.port)
        self.cables = [Cable(self.broker.port) for _ in self.groups]
        self.agents: list[ChildProcess] = []
        self._socket = folder / "hypervisors"
        self._hypervisors = HypervisorServer(hypervisors, self._socket)
        (self._port,) = free_port_numbers(1)
        self.api = ViewApi(f"http://{LOOPBACK}:{self._port}", self.clock)
        self._view: ViewProcess | None = None
        self._stack = AsyncExitStack()

    @property
    def view(self) -> ChildProcess:
        """The view's process."""
        if self._view is None:
            raise NotReady("there is no view yet")
        return self._view.child

    def hosts(self, groups: Iterable[int]) -> list[SimulatedHypervisor]:
        """The hosts of some groups."""
        return [hypervisor for group in groups for hypervisor in self.groups[group]]

    async def truth(self) -> Truth:
        """The truth, to be taken while the fleet is held still."""
        return await take_truth(self.motion.fleet, self._hypervisors.epochs())

    def looks(self, groups: Iterable[int]) -> dict[str, int]:
        """How often the agents of some groups have looked so far, by host: once a tick."""
        return {str(each.host): self._hypervisors.looks[str(each.host)] for each in self.hosts(groups)}

    # --- processes ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise ProgramDied if a program has ended by itself."""
        for name, child in self._children().items():
            if child.died is not None:
                status = f"{name} ended with status {child.died}"
                raise ProgramDied(f"{status}; its log is {child.log}\n{child.last_lines()}")

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        pids = {"broker": self.broker.pid} | {name: child.pid for name, child in self._children().items()}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def _children(self) -> dict[str, ChildProcess]:
        view = {} if self._view is None else {"view": self._view.child}
        return view | {f"agents-{number}": child for number, child in enumerate(self.agents)}

    # --- start and end ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        await enter(self.broker)
        for cable in (self.view_cable, *self.cables):
            await enter(cable)
        await enter(self._hypervisors)
        broker, store = self._address(VIEW, self.view_cable), self.folder / "view.db"
        self._view = ViewProcess(broker, self._password(VIEW), self._port, self.folder, "--store", str(store))
        await enter(self._view)
        await self._until_live(0)
        # The view has declared what is durable; a broker that is killed must not lose it.
        await asyncio.to_thread(self.broker.flush)
        await self._start_agents()
        await self._until_live(len(self.motion.fleet.hypervisors))

    async def _start_agents(self) -> None:
        secret = self.folder / "agents.password"
        write_secret(secret, self._password(SIMULATOR))
        self._stack.callback(secret.unlink)
        self._stack.push_async_callback(self._end_agents)
        self.agents = [self._agents(number, secret) for number in range(len(self.groups))]
        for child in self.agents:
            await child.start()

    async def _end_agents(self) -> None:
        await asyncio.gather(*(child.end() for child in self.agents))

    def _agents(self, number: int, secret: Path) -> ChildProcess:
        """The process of a group's agents, not yet started."""
        options = {
            "--socket": self._socket,
            "--broker-url": self._address(SIMULATOR, self.cables[number]),
            "--broker-password-file": secret,
            "--state": self.folder / "agents",
            "--tick": self.tick_s,
        }
        words = (str(word) for option in options.items() for word in option)
        hosts = (str(each.host) for each in self.groups[number])
        return ChildProcess((*AGENTS, *words, *hosts), self.folder / f"agents-{number}.log", os.environ)

    def _address(self, user: str, cable: Cable) -> str:
        return f"amqp://{user}@{LOOPBACK}:{cable.port}/"

    def _password(self, name: str) -> str:
        return next(user.password for user in self.broker.users if user.name == name)

    async def _until_live(self, hosts: int) -> None:
        """Wait until the view is ready and sees so many hosts live. Raises ProgramDied or NotReady."""
        deadline = self.clock() + READY_S
        while self.clock() < deadline:
            self.check()
            try:
                report = await self.api.fleet()
            except ViewUnreachable:
                report = None
            if report is not None and report.ready and report.live() == hosts:
                return
            await asyncio.sleep(POLL_S)
        raise NotReady(f"the view did not see {hosts} hosts live within {READY_S:.0f} s; its log is {self.view.log}")
