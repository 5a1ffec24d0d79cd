"""The demo: a broker, a fleet of simulated hosts with the real agent, and the view, all on this machine.

Everything it starts ends with it, in the reverse order. With a limit it ends by itself, and checks the view's picture
against the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from vmpulse_agent.host_agent import Timing
from vmpulse_contract import broker_url
from vmpulse_contract.rights import CLI, SIMULATOR, VIEW, engine_rights, simulator_rights
from vmpulse_simulator.broker_files import with_passwords
from vmpulse_simulator.dynamics import Dynamics
from vmpulse_simulator.errors import PortTaken, ViewNotReady, ViewUnreachable
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.freezing import freeze
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker
from vmpulse_simulator.progress import Progress
from vmpulse_simulator.summary import summarize
from vmpulse_simulator.verdict import Verdict, judge
from vmpulse_simulator.view_api import LOOPBACK, ViewApi
from vmpulse_simulator.view_process import ViewProcess, write_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from vmpulse_simulator.dynamics import Happened
    from vmpulse_simulator.settings import DemoSettings
    from vmpulse_simulator.view_api import FleetReport

T = TypeVar("T")

ROOT: Final = Path(".vmpulse")
FOLDER: Final = ROOT / "demo"
DEFAULT_PORT: Final = 8080
READY_S: Final = 60.0
READY_PER_HOST_S: Final = 0.1
READY_POLL_S: Final = 0.5


class Demo:
    """One demo from start to end.

    Args:
        settings: what to run.
    """

    def __init__(self, settings: DemoSettings) -> None:
        self._settings = settings
        self._clock = time.monotonic
        self._progress = Progress(sys.stdout, settings.hosts)
        self._api = ViewApi(f"http://{LOOPBACK}:{settings.port}", self._clock)
        self._fleet = Fleet(settings.hosts, settings.vms, settings.seed, self._clock)
        self._broker = PrivateBroker(root=ROOT, users=demo_users())
        self._agents = FleetAgents(
            self._fleet,
            broker_url.parse("broker_url", self._broker.url(SIMULATOR)),
            timing=Timing(tick_s=settings.tick),
            loss=settings.loss_percent / 100,
        )
        self._watched: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run the demo; gives the exit code. Raises SimulatorError or AgentError if a part of it cannot run."""
        check_port(self._settings.port)
        async with AsyncExitStack() as stack:
            stack.push(self._leaving)
            self._progress.say("starting a private RabbitMQ ...")
            await stack.enter_async_context(self._broker)
            await stack.enter_async_context(self._watching(self._agents.run()))
            self._progress.say(
                f"starting {self._settings.hosts} hosts with {self._settings.vms} VMs each, and a view ..."
            )
            view = await stack.enter_async_context(self._view())
            await stack.enter_async_context(self._watching(view.watch()))
            await self._until_ready()
            stack.enter_context(self._cli_password())
            self._tell_where()
            return await self._let_things_happen()

    def _leaving(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        """The last thing of all: end the line that is being rewritten."""
        self._progress.close()
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self._progress.say("ended, and everything with it")

    # --- parts --------------------------------------------------------------------------------------------------

    def _view(self) -> ViewProcess:
        return ViewProcess(self._address(VIEW), self._password(VIEW), self._settings.port, FOLDER)

    def _address(self, user: str) -> str:
        return f"amqp://{user}@{self._broker.host}:{self._broker.port}/"

    def _password(self, name: str) -> str:
        return next(user.password for user in self._broker.users if user.name == name)

    @contextlib.asynccontextmanager
    async def _watching(self, part: Coroutine[None, None, None]) -> AsyncIterator[None]:
        """Run a part of the demo beside it; if it fails, so does whoever waits next."""
        task = asyncio.create_task(part)
        self._watched.add(task)
        try:
            yield
        finally:
            self._watched.discard(task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.contextmanager
    def _cli_password(self) -> Iterator[None]:
        file = FOLDER / "cli.password"
        write_secret(file, self._password(CLI))
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    async def _wait(self, seconds: float) -> None:
        """Wait, but not longer than every part is well."""
        done, _ = await asyncio.wait(self._watched, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()

    async def _alongside(self, work: Coroutine[None, None, T]) -> T:
        """Do something, but not longer than every part is well."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait(self._watched | {task}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done - {task}:
                ended.result()
            return await task
        finally:
            task.cancel()

    # --- what it does -------------------------------------------------------------------------------------------

    async def _until_ready(self) -> None:
        deadline = self._clock() + READY_S + READY_PER_HOST_S * self._settings.hosts
        while True:
            report = await self._report()
            if report is not None and report.ready and report.live() == self._settings.hosts:
                return
            if self._clock() > deadline:
                state = "it does not answer" if report is None else f"it sees {report.hosts}"
                raise ViewNotReady(f"the view did not see every host live in time: {state}; read {FOLDER}/view.log")
            await self._wait(READY_POLL_S)

    async def _report(self) -> FleetReport | None:
        try:
            return await self._api.fleet()
        except ViewUnreachable:
            return None

    def _tell_where(self) -> None:
        limit = self._settings.seconds_limit
        password = f"VMPULSE_BROKER_PASSWORD_FILE={FOLDER}/cli.password"
        host = self._fleet.hypervisors[0].host
        self._progress.say(f"API    {self._api.url}/api/v1/vms")
        self._progress.say(f"look   .venv/bin/vmpulse vms{self._api_option()}")
        self._progress.say(
            f"ask    {password} .venv/bin/vmpulse call --broker-url {self._address(CLI)} {host} getHostStats"
        )
        self._progress.say(f"log    {FOLDER}/view.log")
        self._progress.say("end    Ctrl-C" if limit is None else f"end    Ctrl-C, or by itself after {limit:g} s")

    def _api_option(self) -> str:
        return "" if self._settings.port == DEFAULT_PORT else f" --api {self._api.url}"

    async def _let_things_happen(self) -> int:
        """Let things happen until the limit, then give the verdict; without a limit, for ever."""
        settings = self._settings
        started = self._clock()
        ends = started + (settings.seconds_limit or float("inf"))
        dynamics = Dynamics(self._fleet, self._agents.restart, started, settings.rates, settings.round_s)
        self._agents.publisher.losing = True
        before = self._agents.publisher.traffic.bytes
        async with self._watching(self._show_progress()):
            while (now := self._clock()) < ends:
                dynamics.advance(now)
                await self._wait(min(dynamics.next_at(), ends) - now)
        ticks = (self._clock() - started) / settings.tick
        sent = self._agents.publisher.traffic.bytes - before
        verdict = await self._alongside(self._judge(dynamics))
        return self._tell_verdict(verdict, dynamics.happened, sent / (self._fleet.vms * ticks))

    async def _show_progress(self) -> None:
        while True:
            self._progress.show(await self._report(), self._clock())
            await asyncio.sleep(self._progress.period_s)

    async def _judge(self, dynamics: Dynamics) -> Verdict:
        """Stop everything that changes, and compare until the view has followed or had its time."""
        self._progress.say("nothing changes any more; comparing the view with the truth ...")
        return await judge(await freeze(self._fleet, self._agents, dynamics), self._api, self._clock)

    def _tell_verdict(self, verdict: Verdict, happened: Happened, bytes_per_vm_tick: float) -> int:
        summary = summarize(
            verdict,
            self._agents.publisher.traffic,
            happened,
            hosts=self._settings.hosts,
            vms=self._fleet.vms,
            bytes_per_vm_tick=bytes_per_vm_tick,
        )
        for line in verdict.lines():
            sys.stderr.write(f"{line}\n")
        self._progress.say(msgspec.json.encode(summary).decode())
        return 0 if verdict.clean else 1


def demo_users() -> list[BrokerUser]:
    """The users of the demo's broker, with passwords nobody else knows."""
    rights = {SIMULATOR: simulator_rights()} | {name: engine_rights()[name] for name in (VIEW, CLI)}
    return with_passwords(rights)


def check_port(port: int) -> None:
    """Raise PortTaken, before anything is started, if the view could not listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(
                f"port {port} cannot be used for the HTTP API: {error.strerror}; "
                f"stop what listens there, or choose another (--port, or PORT= for make)"
            ) from error
