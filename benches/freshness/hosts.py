"""The hosts whose changes are timed: ``python -m benches.freshness.hosts``, started by the bench.

Each has the real agent with a connection of its own. A user logs in to one VM after the other: that is the change, and
the hypervisor's port announces it. Between two changes a bare message of the same size goes to the same broker, and the
same hypervisors answer polling peers over HTTP. It ends by itself when all was done and the slowest peer has polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import sys
import time
from typing import TYPE_CHECKING, Final

import aio_pika
import msgspec

from benches.freshness.place import BARE_EXCHANGE, CHANGES, Records, Seen, mark, number_in, started, write_down
from benches.soak.errors import ScrapeFailed
from benches.soak.readers import scrape
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.host_agent import Timing
from vmpulse_contract import broker_url
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import SessionState
from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.fleet_agents import HostLife
from vmpulse_simulator.signals import run_until_told
from vmpulse_simulator.view_api import LOOPBACK, ViewApi

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aio_pika.abc import AbstractExchange

    from benches.freshness.place import Place
    from vmpulse_agent.host_agent import HostAgent
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.identity import VmId
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

TICK_S: Final = 3.0
BODY_BYTES: Final = 200
"""A change event of a status has about so many."""
BARE_KEY: Final = "bare"
CLIENT: Final = "192.0.2.7"
MARGIN_S: Final = 2.0
LIVE_S: Final = 120.0
LOOK_S: Final = 0.5
TELL_EVERY: Final = 100
UNPUBLISHED: Final = "vmpulse_events_unpublished"
UNDER_WAY: Final = 20
"""Events that the view of a settled fleet may be about to publish at any moment."""


class NotingPublisher:
    """Hands messages on to the link, and notes when it had the change events; implements host_agent.Publisher."""

    def __init__(self, link: AmqpLink) -> None:
        self.changes: list[tuple[float, bytes]] = []
        self._link = link

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message."""
        if message.kind is Kind.CHANGE:
            self.changes.append((time.monotonic(), message.body))
        self._link.publish(agent, message)

    async def attach(self, agent: HostAgent) -> None:
        """Begin to serve a host."""
        await self._link.attach(agent)

    async def detach(self, agent: HostAgent) -> None:
        """Stop serving a host."""
        await self._link.detach(agent)


class Hosts:
    """The hosts, and what is done to them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        fleet = Fleet(place.hosts, place.vms, 1, time.monotonic)
        self._hypervisors = {str(each.host): each for each in fleet.hypervisors[-place.watched :]}
        url = broker_url.parse("simulator_url", place.simulator_url)
        self._links = [AmqpLink(url, f"vmpulse-agent {host}") for host in self._hypervisors]
        self._publishers = [NotingPublisher(link) for link in self._links]
        self._changed: list[Seen] = []
        self._bare: list[Seen] = []
        self._lots = random.Random(place.changes)  # noqa: S311 - moments, not secrecy

    async def run(self) -> Records:
        """Do all of it; gives when what was done."""
        timing = Timing(tick_s=TICK_S)
        tasks = {asyncio.create_task(link.run()) for link in self._links}
        for hypervisor, publisher in zip(self._hypervisors.values(), self._publishers, strict=True):
            tasks.add(asyncio.create_task(HostLife(hypervisor, publisher, timing, {}).run()))
            await asyncio.sleep(TICK_S / len(self._links))
        server = await asyncio.start_server(self._answer_peer, LOOPBACK, self._place.peer_port)
        work = asyncio.create_task(self._work())
        async with server:
            done, _ = await asyncio.wait({*tasks, work}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        told = [(at, body) for publisher in self._publishers for at, body in publisher.changes]
        numbers = ((number_in(body), at) for at, body in told)
        return {
            "change": self._changed,
            "told": [Seen(number, at) for number, at in numbers if number is not None],
            "bare sent": self._bare,
        }

    # --- what happens -------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """When the view has all hosts, change and publish by turns; go on until the slowest peer has polled."""
        await self._until_live()
        async with await aio_pika.connect(self._place.bare_url) as connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = await channel.declare_exchange(BARE_EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            await self._change_all(exchange)
        await asyncio.sleep(max(self._place.polls) + MARGIN_S)

    async def _until_live(self) -> None:
        """Wait until the view has all hosts and has told workers of all that they have, which takes longer."""
        url = f"http://{LOOPBACK}:{self._place.api_port}"
        api = ViewApi(url, time.monotonic)
        async with asyncio.timeout(LIVE_S):
            while True:
                with contextlib.suppress(ViewUnreachable, ScrapeFailed):
                    report, metrics = await api.fleet(), await scrape(f"{url}/metrics")
                    untold = metrics[UNPUBLISHED]
                    if report.ready and report.live() == self._place.hosts and untold <= UNDER_WAY:
                        break
                    say(f"{report.live()} hosts live, {untold:.0f} events for workers to be published")
                await asyncio.sleep(LOOK_S)
        await asyncio.sleep(2 * TICK_S)

    async def _change_all(self, exchange: AbstractExchange) -> None:
        """Change one VM after the other, in a drawn order that is always the same: so each has the same pause."""
        vms = changeable(self._hypervisors.values())
        self._lots.shuffle(vms)
        # A change is told at most once in 3 s, and one that is followed by another too soon no peer would ever see.
        pause_s = max(1 / self._place.rate, (max(self._place.polls) + MARGIN_S) / len(vms))
        for number, (hypervisor, vm) in zip(range(self._place.changes), itertools.cycle(vms), strict=False):
            self._change(number, hypervisor, vm)
            await self._pause(pause_s)
            self._bare.append(Seen(number, time.monotonic()))
            await exchange.publish(aio_pika.Message(bare_body(number)), BARE_KEY)
            await self._pause(pause_s)
            if number % TELL_EVERY == 0:
                say(f"{number} {CHANGES}")

    async def _pause(self, pause_s: float) -> None:
        """Half of the pause between two changes, more or less: nothing is to keep step with a tick."""
        await asyncio.sleep(self._lots.uniform(0.2, 0.8) * pause_s)

    def _change(self, number: int, hypervisor: SimulatedHypervisor, vm: VmId) -> None:
        guest = hypervisor.domains[vm].guest
        self._changed.append(Seen(number, time.monotonic()))
        guest.username, guest.session, guest.client_ip = mark(number), SessionState.ACTIVE, CLIENT
        hypervisor.changed(vm, Section.STATUS)

    # --- polling peers ------------------------------------------------------------------------------------------

    async def _answer_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer ``GET /HOST`` with what the hypervisor has of each VM, as VDSM's getAllVmStats does."""
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            hypervisor = self._hypervisors[request.split()[1].decode().removeprefix("/")]
            now = time.monotonic()
            rows = [
                {"vm": vm_text(domain.vm), "stats": domain.look(now), "status": domain.status()}
                for domain in hypervisor.domains.values()
            ]
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + msgspec.json.encode(rows))
            await writer.drain()
        finally:
            writer.close()


def changeable(hypervisors: Iterable[SimulatedHypervisor]) -> list[tuple[SimulatedHypervisor, VmId]]:
    """The VMs that run with an agent in the guest, which alone knows who is logged in."""
    return [
        (hypervisor, vm)
        for hypervisor in hypervisors
        for vm, domain in hypervisor.domains.items()
        if hypervisor.running(vm) and domain.agent_answers
    ]


def bare_body(number: int) -> bytes:
    """A body that says its number and is as long as a change event."""
    return str(number).encode().ljust(BODY_BYTES)


def say(words: str) -> None:
    """Say on stdout how far it has come."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until all is done; gives the exit code."""
    place, records = started("hosts", arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def work() -> int:
        write_down(records, await Hosts(place).run())
        return 0

    return run_until_told(work(), code=1)


if __name__ == "__main__":
    sys.exit(main())
