"""What tests of the AMQP edges put around a real broker: a tap, a cable to cut, an agent, a view, a program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.conftest import ADMIN
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.session import Policy
from vmpulse_consumers.service import ViewService
from vmpulse_contract import broker_url, topology, wire
from vmpulse_contract.broker_url import BrokerUrl
from vmpulse_contract.identity import VmId, host_id
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.verbs import Request
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

TICK_S = 0.3


def address(broker: PrivateBroker, port: int | None = None) -> BrokerUrl:
    """The broker's address for a user who may do everything; *port*: through a cable."""
    url = broker_url.parse("url", broker.url())
    return url._replace(port=port) if port else url


def unique(name: str) -> str:
    """A name that no other test has."""
    return f"{name}-{secrets.token_hex(4)}"


def simulated_host(name: str, vms: int = 3, seed: int = 5) -> SimulatedHypervisor:
    """A simulated host; *seed* decides which VMs it has."""
    hypervisor = Fleet(1, vms, seed, time.monotonic).hypervisors[0]
    hypervisor.host = host_id(name)
    return hypervisor


def running_vm(hypervisor: SimulatedHypervisor) -> VmId:
    """A VM that is up."""
    return next(vm for vm in hypervisor.domains if hypervisor.running(vm))


def agent_of(
    hypervisor: SimulatedHypervisor, link: AmqpLink, *, tick_s: float = TICK_S, report_s: float = 300.0
) -> HostAgent:
    """The real agent of a simulated host; it samples and reports devices each *report_s*, first after one."""
    return HostAgent(
        hypervisor.host,
        hypervisor,
        link,
        facts=HostFacts(tick_ms=int(tick_s * 1000)),
        timing=Timing(tick_s=tick_s, device_s=min(report_s, 30.0), device_report_s=report_s),
        policy=Policy(damping_s=0.1),
        report_phase_s=report_s,
    )


@contextlib.asynccontextmanager
async def at_work(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Let something run for as long as the block lasts; then cancel it. What ended it before that is raised."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(ended, Exception):
        raise ended


@contextlib.asynccontextmanager
async def agent_at_work(
    hypervisor: SimulatedHypervisor, url: BrokerUrl, *, tick_s: float = TICK_S, report_s: float = 300.0
) -> AsyncIterator[HostAgent]:
    """An agent with a link of its own; it ends with a goodbye."""
    link = AmqpLink(url, f"test {hypervisor.host}", declare=True)
    agent = agent_of(hypervisor, link, tick_s=tick_s, report_s=report_s)
    async with at_work(link.run()), at_work(agent.run()):
        yield agent


@contextlib.asynccontextmanager
async def view_at_work(
    broker: PrivateBroker, name: str | None = None, url: BrokerUrl | None = None, *, keep: bool = False
) -> AsyncIterator[ViewService]:
    """A view; *keep* its queue for another one of its name."""
    service = ViewService(url or address(broker), name or unique("view"))
    try:
        async with at_work(service.run()):
            yield service
    finally:
        if not keep:
            await delete_queue(broker, topology.view_queue(service.name).name)


async def delete_queue(broker: PrivateBroker, name: str) -> None:
    """Delete a queue, whoever uses it."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        await channel.queue_delete(name)


class Tap:
    """Hears all that hosts publish, in the order in which a view would, and speaks by hand."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.heard: list[AbstractIncomingMessage] = []
        self._channel = channel
        self._token = secrets.token_hex(8)
        self._replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def open(self) -> None:
        """Declare what a view would, and listen."""
        for exchange in topology.EXCHANGES:
            await self._channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        stream = await self._channel.declare_queue(exclusive=True)
        await stream.bind(topology.RUNTIME, "#")
        await stream.bind(topology.CHANGES, "#")
        await stream.consume(self._hear, no_ack=True)
        replies = await self._channel.declare_queue(topology.reply_queue(self._token).name, exclusive=True)
        await replies.bind(topology.REPLIES, f"*.{self._token}")
        await replies.consume(self._take, no_ack=True)

    def of(self, host: str, kind: str | None = None) -> list[AbstractIncomingMessage]:
        """What was heard of one host."""
        return [m for m in self.heard if m.user_id == host and kind in {None, m.type}]

    async def say(self, exchange: str, routing_key: str, body: bytes, **properties: Any) -> None:
        """Publish by hand; waits for the confirm, and raises DeliveryError if nobody is there to take it."""
        where = await self._channel.get_exchange(exchange, ensure=False)
        await where.publish(aio_pika.Message(body, **properties), routing_key, mandatory=exchange == topology.RPC)

    async def ask(
        self, host: str, verb: str, *, body: bytes | None = None, user: str = ADMIN.name
    ) -> AbstractIncomingMessage:
        """Put a question by hand and wait for the reply."""
        await self.say_request(host, verb, body=body, user=user)
        return await self.reply()

    async def say_request(self, host: str, verb: str, *, body: bytes | None = None, user: str = ADMIN.name) -> None:
        """Put a question by hand."""
        request = wire.write(Request()) if body is None else body
        await self.say(topology.RPC, f"{host}.{verb}", request, user_id=user, reply_to=self._token, correlation_id="c")

    async def reply(self) -> AbstractIncomingMessage:
        """Wait for the next reply."""
        return await asyncio.wait_for(self._replies.get(), 5)

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        self.heard.append(message)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._replies.put_nowait(message)


@contextlib.asynccontextmanager
async def tapped(broker: PrivateBroker) -> AsyncIterator[Tap]:
    """A tap on the stream."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel(on_return_raises=True) as channel:
        tap = Tap(channel)
        await tap.open()
        yield tap


class Cable:
    """A way to the broker that can be held up and cut."""

    def __init__(self, port: int) -> None:
        self._broker_port = port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._flowing_back = asyncio.Event()
        self._flowing_back.set()
        self._near: list[asyncio.StreamWriter] = []
        self._far: list[asyncio.StreamWriter] = []
        self.plugged = True
        self.port = 0
        self.connections = 0
        self.refused = 0

    def hold(self, *, both_ways: bool = False) -> None:
        """Let nothing more through to the broker; *both_ways*: nor back, not even its hanging up."""
        self._flowing.clear()
        if both_ways:
            self._flowing_back.clear()

    def release(self) -> None:
        """Let everything through again."""
        self._flowing.set()
        self._flowing_back.set()

    def cut(self, *, keep_far_end: bool = False) -> None:
        """End all connections; *keep_far_end*: the broker does not notice."""
        for writer in self._near:
            writer.transport.abort()
        self._near.clear()
        if not keep_far_end:
            for writer in self._far:
                writer.transport.abort()
            self._far.clear()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if not self.plugged:
            self.refused += 1
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._near.append(writer)
        self._far.append(far_writer)
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._carry(reader, far_writer, self._flowing), self._carry(far_reader, writer, self._flowing_back)
            )

    @staticmethod
    async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        while data := await source.read(1 << 16):
            await flowing.wait()
            sink.write(data)
            await sink.drain()
        await flowing.wait()
        sink.close()


@contextlib.asynccontextmanager
async def cable(broker: PrivateBroker, port: int | None = None) -> AsyncIterator[Cable]:
    """A cable to the broker, or to another *port* of it, for as long as the block lasts."""
    way = Cable(port or broker.port)
    serving: set[asyncio.Task[None]] = set()

    def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(way.join(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(joined, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        way.cut()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


class Program(NamedTuple):
    """What a program that has ended left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said on stderr."""
        return self.err.splitlines()


@contextlib.asynccontextmanager
async def started(
    module: str, *arguments: str, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """A program as a process of its own, with the file that has its stderr; killed if it outlives the block."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VMPULSE_")}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        with said.open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=err,
                env=clean | environment,
            )
        try:
            yield process, said
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if process.stdout is not None:
                # Else its transport would be collected, with a warning, after the loop is closed.
                await process.stdout.read()


async def ended(module: str, *arguments: str, **environment: str) -> Program:
    """Run a program that ends by itself."""
    async with started(module, *arguments, **environment) as (process, said):
        out, _ = await asyncio.wait_for(process.communicate(), 15)
        return Program(process.returncode or 0, out.decode(), said.read_text(encoding="utf-8"))
