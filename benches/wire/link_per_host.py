"""A broker connection for each simulated host, as in life: opened when its agent starts, closed when that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from vmpulse_agent.amqp_link import AmqpLink

if TYPE_CHECKING:
    from vmpulse_agent.host_agent import HostAgent
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

LOOK_AFTER_S: Final = 3.0


class LinkPerHost(AmqpLink):
    """Serves each host by a link of its own.

    Args:
        url: the broker.
    """

    def __init__(self, url: BrokerUrl) -> None:
        super().__init__(url, "vmpulse-agent")
        self._stalled = 0
        self._links: dict[HostId, tuple[AmqpLink, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Look after the links until cancelled. Raises what one of them could not mend."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            for _, task in list(self._links.values()):
                if task.done():
                    task.result()

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message."""
        if agent.host in self._links:
            self._links[agent.host][0].publish(agent, message)

    async def attach(self, agent: HostAgent) -> None:
        """Open the host's connection; the agent is told when it is up."""
        link = AmqpLink(self.url, f"vmpulse-agent {agent.host}")
        await link.attach(agent)
        self._links[agent.host] = link, asyncio.create_task(link.run())

    async def detach(self, agent: HostAgent) -> None:
        """Close it, after what was handed over is sent."""
        if agent.host not in self._links:
            return
        link, task = self._links.pop(agent.host)
        await link.detach(agent)
        self._stalled += link.counters.blocked_s > 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def stalls(self) -> int:
        """Links whose broker was behind once: what their agents then say again is more than in life."""
        return self._stalled + sum(link.counters.blocked_s > 0 for link, _ in self._links.values())
