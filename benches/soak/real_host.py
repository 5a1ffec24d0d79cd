"""A host with nothing simulated: real domains on a libvirt of its own, and the program ``vmpulse-agent``."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from typing import TYPE_CHECKING, Final, Self

import libvirt

from benches.chaos.agents import TICKS
from benches.chaos.cable import LOOPBACK
from benches.soak.domains import HOST, Domains
from benches.soak.errors import NoRealHost
from benches.soak.readers import scrape
from benches.soak.waiting import happens
from vmpulse_contract.rights import host_rights
from vmpulse_simulator.broker_files import free_port_numbers
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.private_broker import BrokerUser
from vmpulse_simulator.truth import Mismatch, unequal, untrusted
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from vmpulse_simulator.private_broker import PrivateBroker

PROGRAM: Final = (sys.executable, "-m", "vmpulse_agent", "run")
PREFIX: Final = "VMPULSE_AGENT_"
TOMBSTONE_TICKS: Final = 1200.0
"""As by default: an hour of 3 s."""
ACT_TICKS: Final = 4.0
"""Something happens to the domains so often."""
TICKS_DONE: Final = "vmpulse_agent_tick_seconds_count"


class RealHost:
    """The host, from entering to leaving the context. The broker has to run, and to know ``user``.

    Args:
        folder: for everything that is written; its path is to be short, for libvirt's socket is in it.
        domains: how many domains.
        seed: decides what happens to them.
        tick_s: of the agent; its other rhythms are shorter with it.
    """

    def __init__(self, folder: Path, domains: int, seed: int, tick_s: float) -> None:
        self.user = BrokerUser(HOST, secrets.token_urlsafe(16), host_rights(HOST))
        # Libvirt is asked by its socket's path, and its programs work in other folders.
        self._folder = folder.absolute()
        self.domains = Domains(self._folder / "lv", domains, seed)
        self._secret = self._folder / "agent.password"
        self._tick_s = tick_s
        self._metrics_port = 0
        self._agent: ChildProcess | None = None

    @property
    def agent(self) -> ChildProcess:
        """The agent's process. Raises NoRealHost before it is started."""
        if self._agent is None:
            raise NoRealHost("its agent has not been started")
        return self._agent

    async def start(self, broker: PrivateBroker) -> None:
        """Start the agent, which then is to be waited for."""
        write_secret(self._secret, self.user.password)
        (self._metrics_port,) = free_port_numbers(1)
        options = self._options(f"amqp://{broker.host}:{broker.port}/")
        words = (str(word) for option in options.items() for word in option)
        self._agent = ChildProcess((*PROGRAM, *words), self._folder / "agent.log", self._environment())
        await self._agent.start()

    async def live(self, enough: asyncio.Event) -> None:
        """Let things happen to the domains until it is enough. Raises NoRealHost if libvirt will not have it."""
        while not await happens(enough, ACT_TICKS * self._tick_s):
            try:
                await asyncio.to_thread(self.domains.act)
            except libvirt.libvirtError as error:
                raise NoRealHost(str(error)) from error

    async def ticks(self) -> float:
        """How many ticks the agent has completed. Raises ScrapeFailed."""
        metrics = await scrape(f"http://{LOOPBACK}:{self._metrics_port}/metrics")
        return metrics[TICKS_DONE]

    async def differences(self, rows: Sequence[Mapping[str, Any]]) -> list[Mismatch]:
        """Compare the view's rows of this host with the truth; nothing may be happening to the domains."""
        return await asyncio.to_thread(self._compared, {str(row.get("id")): row for row in rows})

    def _compared(self, rows: dict[str, Mapping[str, Any]]) -> list[Mismatch]:
        truth = self.domains.truth()
        found = [Mismatch(vm, "membership", "absent", "a row") for vm in rows.keys() - truth.keys()]
        for vm, (name, status) in truth.items():
            row = rows.get(vm)
            if row is None:
                found.append(Mismatch(vm, "membership", "a row", "absent"))
            else:
                found += [Mismatch(vm, *each) for each in _differences(name, status, row)]
        return found

    def _options(self, broker: str) -> dict[str, object]:
        hypervisor = self.domains.hypervisor
        return {
            "--uri": hypervisor.uri,
            "--run-dir": hypervisor.run_dir,
            "--host": HOST,
            "--broker-url": broker,
            "--state-dir": self._folder / "agent",
            "--metrics-port": self._metrics_port,
            "--tick-s": self._tick_s,
            "--refresh-s": TICKS.refresh_s * self._tick_s,
            "--device-s": TICKS.device_s * self._tick_s,
            "--device-report-s": TICKS.device_report_s * self._tick_s,
            "--tombstone-s": TOMBSTONE_TICKS * self._tick_s,
        }

    def _environment(self) -> dict[str, str]:
        """Ours, but for settings that are meant for another agent."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {f"{PREFIX}BROKER_PASSWORD_FILE": str(self._secret)}

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.domains.start)
        except (libvirt.libvirtError, RuntimeError) as error:
            await self._end()
            raise NoRealHost(str(error)) from error
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        try:
            if self._agent is not None:
                await self._agent.end()
        finally:
            self._secret.unlink(missing_ok=True)
            await asyncio.to_thread(self.domains.stop)


def _differences(name: str, status: str, row: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    yield from unequal("host", HOST, row.get("host"))
    yield from unequal("name", name, row.get("name"))
    yield from unequal("status", status, row.get("status"))
    yield from untrusted(row)
