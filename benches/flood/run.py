"""One run: broker, view and other hosts come up, one host floods, what the view says is noted, and all has to heal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benches.chaos.resident import Resident
from benches.flood.host import FRAME_BYTES, FRAME_EXTRA
from benches.flood.report import Report, lost, wrongly_down
from benches.program import progress
from vmpulse_contract import broker_url
from vmpulse_contract.identity import vm_text
from vmpulse_contract.rights import SIMULATOR, VIEW, host_rights, simulator_rights, view_rights
from vmpulse_edges.broker_definitions import view_policy
from vmpulse_simulator.broker_files import free_port_numbers, with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.dynamics import Dynamics, Rates
from vmpulse_simulator.errors import SimulatorError, ViewUnreachable
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import FleetAgents
from vmpulse_simulator.freezing import freeze
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.verdict import judge
from vmpulse_simulator.view_api import LOOPBACK, ViewApi
from vmpulse_simulator.view_process import ViewProcess, write_secret

if TYPE_CHECKING:
    import argparse

    from vmpulse_simulator.verdict import Verdict

say = progress("flood")
RABBITMQ: Final = Path(__file__).resolve().parents[2] / "deploy/rabbitmq"
FLOODER: Final = "flooder"
"""The host that has been taken over; its name is its user."""
TICK_S: Final = 3.0
READY_S: Final = 60.0
LOOK_S: Final = 0.5
OVER_S: Final = 60.0
"""A flood that takes so much longer than it was told to hangs."""
RECOVERY_S: Final = 90.0
RATES: Final = Rates(power_cycles=0.0, agent_restarts=0.0, migrations=0.0)
"""Sections change all the time, and nothing stops: so whatever is said to be Down or lost is wrong."""


class Flood:
    """A run.

    Args:
        folder: for everything that is written.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._clock = time.monotonic
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights(), FLOODER: host_rights(FLOODER)}
        self._users = {user.name: user for user in with_passwords(rights)}
        self._broker = PrivateBroker(
            root=folder,
            users=self._users.values(),
            extra_config=f"frame_max = {FRAME_BYTES + FRAME_EXTRA}\n"
            f"vm_memory_high_watermark.absolute = {options.watermark}MiB\n",
            advanced_config=(RABBITMQ / "advanced.config").read_text(encoding="utf-8"),
        )
        (self._port,) = free_port_numbers(1)
        self._api = ViewApi(f"http://{LOOPBACK}:{self._port}", self._clock)
        self._fleet = Fleet(options.hosts, options.vms, 1, self._clock)
        self._running = {
            vm_text(vm) for vm, hypervisor in self._fleet.homes.items() if hypervisor.domains[vm].life is not None
        }
        self._resident = Resident()
        self._lost: set[str] = set()
        self._down: set[str] = set()
        self._ages: list[float] = []
        self._looks = self._not_ready = 0

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run or ends by itself."""
        async with AsyncExitStack() as stack:
            say("starting RabbitMQ, a view and the other hosts ...")
            await stack.enter_async_context(self._broker)
            await asyncio.to_thread(self._broker.ctl, *self._policy())
            address = f"amqp://{VIEW}@{LOOPBACK}:{self._broker.port}/"
            view = ViewProcess(address, self._users[VIEW].password, self._port, self._folder)
            await stack.enter_async_context(view)
            await self._until_live(0)
            agents = FleetAgents(self._fleet, broker_url.parse("broker_url", self._broker.url(SIMULATOR)))
            stack.push_async_callback(end, asyncio.create_task(agents.run()))
            dynamics = Dynamics(self._fleet, agents.restart, self._clock(), RATES)
            stack.push_async_callback(end, asyncio.create_task(self._happen(dynamics)))
            await self._until_live(len(self._fleet.hypervisors))
            self._pids = {"view": view.child.pid, "broker": self._broker.pid}
            sent = await self._flood(stack)
            say("the flood is over ...")
            over = self._clock()
            verdict = await judge(await freeze(self._fleet, agents, dynamics), self._api, self._clock, RECOVERY_S)
            return self._report(sent, verdict, self._clock() - over)

    def _policy(self) -> tuple[str, ...]:
        """What ``vmpulse broker`` sets for so many hosts; here one user speaks for all but one."""
        policy = view_policy(len(self._fleet.hypervisors) + 1)
        rest = ("--apply-to", "queues", "--priority", str(policy.priority))
        return "set_policy", "vmpulse-view", policy.pattern, json.dumps(policy.bounds), *rest

    async def _happen(self, dynamics: Dynamics) -> None:
        while True:
            dynamics.advance(self._clock())
            await asyncio.sleep(max(0.0, min(1.0, dynamics.next_at() - self._clock())))

    async def _until_live(self, hosts: int) -> None:
        deadline = self._clock() + READY_S
        while self._clock() < deadline:
            with contextlib.suppress(ViewUnreachable):
                report = await self._api.fleet()
                if report.ready and report.live() == hosts:
                    return
            await asyncio.sleep(LOOK_S)
        raise SimulatorError(f"the view did not see {hosts} hosts live within {READY_S:.0f} s")

    # --- the flood ----------------------------------------------------------------------------------------------

    async def _flood(self, stack: AsyncExitStack) -> int:
        """Have the host say all it can while the view is looked at; gives how many messages it was."""
        secret = self._folder / "flooder.password"
        write_secret(secret, self._users[FLOODER].password)
        words = {
            "--port": self._broker.port,
            "--host": FLOODER,
            "--password-file": secret,
            "--connections": self._options.connections,
            "--bytes": self._options.bytes,
            "--seconds": self._options.seconds,
        }
        arguments = [str(word) for option in words.items() for word in option]
        command = (sys.executable, "-m", "benches.flood.host", *arguments)
        flooder = ChildProcess(command, self._folder / "flooder.log", os.environ)
        stack.push_async_callback(flooder.kill)
        say(f"one of {len(self._fleet.hypervisors) + 1} hosts says all it can for {self._options.seconds:.0f} s ...")
        await flooder.start()
        ended = asyncio.create_task(flooder.wait())
        stack.push_async_callback(end, ended)
        async with asyncio.timeout(self._options.seconds + OVER_S):
            while not ended.done():
                await self._look()
                await asyncio.wait({ended}, timeout=LOOK_S)
        if ended.result():
            raise SimulatorError(f"the host that floods has ended: {flooder.last_lines()}")
        return int(flooder.last_lines())

    async def _look(self) -> None:
        self._resident.sample({name: pid for name, pid in self._pids.items() if pid is not None})
        with contextlib.suppress(ViewUnreachable):
            report = await self._api.fleet()
            self._lost |= lost(await self._api.hosts(), FLOODER)
            async for page in self._api.vms(sections=False):
                self._down |= wrongly_down((seen.row for seen in page), self._running)
            self._not_ready += not report.ready
            self._looks += 1
            if report.worst_age_s is not None:
                self._ages.append(report.worst_age_s)
            say(f"oldest value {report.worst_age_s} s, hosts {report.live()} live, {len(self._lost)} ever lost")

    def _report(self, sent: int, verdict: Verdict, recovery_s: float) -> Report:
        options, view_log = self._options, (self._folder / "view.log").read_text(encoding="utf-8")
        return Report(
            seconds=options.seconds,
            connections=options.connections,
            bytes=options.bytes,
            hosts=options.hosts,
            vms=self._fleet.vms,
            sent_per_s=round(sent / options.seconds),
            looks=self._looks,
            lost_hosts=len(self._lost),
            wrong_down=len(self._down),
            worst_age_s=max(self._ages, default=None),
            not_ready_looks=self._not_ready,
            told_flooding=f"host.flooding: {FLOODER}" in view_log,
            recovery_s=round(recovery_s, 1) if verdict.young else None,
            mismatched=verdict.mismatched_vms + len(verdict.hosts),
            rss_mb=self._resident.peak,
        )


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
