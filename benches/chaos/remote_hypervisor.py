"""An agent's way to its hypervisor in another process."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benches.chaos.hypervisor_wire import RESULTS, Answer, Call, FromHypervisor, Hello, event_of, receive, send
from vmpulse_agent.errors import HypervisorError, HypervisorTimeout, HypervisorUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from vmpulse_agent.hypervisor import DeviceSample, HypervisorFacts, Look, Notify, SectionReading
    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_contract.sections import Section
    from vmpulse_contract.verbs import HostStats

DEADLINE_S: Final = 5.0
"""As long as libvirt's keep-alive lets a call of the real agent hang."""


class RemoteHypervisor:
    """One host's hypervisor, as served by `HypervisorServer`; implements vmpulse_agent.hypervisor.Hypervisor.

    Args:
        host: whose.
        path: of the server's socket.
    """

    def __init__(self, host: HostId, path: Path) -> None:
        self.host = host
        self.epoch = 0
        """That of the agent, which it introduces itself with; to be set before ``open``."""
        self._path = path
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def open(self, notify: Notify) -> None:
        """Connect. Raises HypervisorUnavailable."""
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise HypervisorUnavailable(f"nobody serves hypervisors at {self._path}: {error}") from error
        send(self._writer, Hello(self.host, self.epoch))
        self._listening = asyncio.create_task(self._listen(reader, notify))

    async def facts(self) -> HypervisorFacts:
        """Ask for the facts of the host."""
        facts: HypervisorFacts = await self._ask(Call(next(self._numbers), "facts"))
        return facts

    async def look(self, *, states_only: bool = False) -> Look:
        """Ask for a look."""
        look: Look = await self._ask(Call(next(self._numbers), "look", states_only=states_only))
        return look

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Ask for sections."""
        reading: SectionReading = await self._ask(Call(next(self._numbers), "read", vm=vm, wanted=wanted))
        return reading

    async def settle(self) -> None:
        """Nothing is asked aside."""

    async def device_sample(self) -> DeviceSample:
        """Ask for the device counters."""
        sample: DeviceSample = await self._ask(Call(next(self._numbers), "device_sample"))
        return sample

    async def host_stats(self) -> HostStats:
        """Ask for the host's own statistics."""
        stats: HostStats = await self._ask(Call(next(self._numbers), "host_stats"))
        return stats

    async def close(self) -> None:
        """Hang up."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    async def _ask(self, call: Call) -> Any:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise HypervisorUnavailable("the connection to the hypervisor has ended")
        answer = self._waiting[call.number] = asyncio.get_running_loop().create_future()
        try:
            send(writer, call)
            async with asyncio.timeout(DEADLINE_S):
                return msgspec.msgpack.decode(await answer, type=RESULTS[call.method])
        except TimeoutError as error:
            raise HypervisorTimeout(f"no answer to {call.method} within {DEADLINE_S:g} s") from error
        finally:
            del self._waiting[call.number]

    async def _listen(self, reader: asyncio.StreamReader, notify: Notify) -> None:
        """Take what comes, in order: an event that explains a look is known before that look is."""
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    message = msgspec.msgpack.decode(await receive(reader), type=FromHypervisor)
                    if isinstance(message, Answer):
                        self._settle(message)
                    else:
                        notify(event_of(message))
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(HypervisorUnavailable("the connection to the hypervisor has ended"))

    def _settle(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting.done():
            return  # it was given up
        if answer.error is None:
            waiting.set_result(answer.result)
        else:
            waiting.set_exception(HypervisorError(answer.error))
