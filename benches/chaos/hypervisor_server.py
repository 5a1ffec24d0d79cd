"""The hypervisors of a fleet, served to the agents that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import msgspec

from benches.chaos.hypervisor_wire import Answer, Call, Hello, announced, receive, send
from vmpulse_agent.errors import HypervisorError
from vmpulse_contract.identity import VmId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path
    from types import TracebackType

    from vmpulse_agent.hypervisor import HypervisorEvent
    from vmpulse_simulator.hypervisor import SimulatedHypervisor


class HypervisorServer:
    """Serves hypervisors on a Unix socket, from entering to leaving the context.

    Args:
        hypervisors: those of the fleet; each agent names the one it is for.
        path: of the socket, of about 100 characters at most.
    """

    def __init__(self, hypervisors: Iterable[SimulatedHypervisor], path: Path) -> None:
        self.looks: Counter[str] = Counter()
        """By host: how often all was looked at, which agents do once a tick; looks at states alone do not count."""
        self._hypervisors = {str(each.host): each for each in hypervisors}
        self._path = path
        self._server: asyncio.Server | None = None
        self._agents: dict[str, tuple[asyncio.StreamWriter, int]] = {}
        """By host: the agent that has its hypervisor open, and its epoch."""
        self._serving: set[asyncio.Task[None]] = set()

    def epochs(self) -> dict[str, int]:
        """The epoch of the agent of each host that has one now."""
        return {host: epoch for host, (_, epoch) in self._agents.items()}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._joined, self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one agent until it hangs up; one that is killed does so in the middle of whatever it does."""
        try:
            hello = msgspec.msgpack.decode(await receive(reader), type=Hello)
            async with self._opened(hello, writer) as hypervisor:
                while True:
                    call = msgspec.msgpack.decode(await receive(reader), type=Call)
                    self.looks[hello.host] += call.method == "look" and not call.states_only
                    send(writer, await self._answer(hypervisor, call))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def _opened(self, hello: Hello, writer: asyncio.StreamWriter) -> AsyncIterator[SimulatedHypervisor]:
        """Have a hypervisor open for an agent."""
        hypervisor = self._hypervisors[hello.host]

        def notify(event: HypervisorEvent) -> None:
            send(writer, announced(event))

        await hypervisor.open(notify)
        self._agents[hello.host] = (writer, hello.epoch)
        try:
            yield hypervisor
        finally:
            # Unless another agent of the host has come meanwhile, whose the hypervisor is now.
            if self._agents.get(hello.host, (None, 0))[0] is writer:
                del self._agents[hello.host]
                await hypervisor.close()

    @staticmethod
    async def _answer(hypervisor: SimulatedHypervisor, call: Call) -> Answer:
        try:
            result = await _called(hypervisor, call)
        except HypervisorError as error:
            return Answer(call.number, error=str(error))
        return Answer(call.number, msgspec.msgpack.encode(result))


async def _called(hypervisor: SimulatedHypervisor, call: Call) -> Any:
    match call.method:
        case "look":
            return await hypervisor.look(states_only=call.states_only)
        case "read":
            return await hypervisor.read(VmId(call.vm), call.wanted)
        case "facts":
            return await hypervisor.facts()
        case "device_sample":
            return await hypervisor.device_sample()
        case _:
            return await hypervisor.host_stats()
