"""A broker link that loses messages on purpose: after the session has counted them, so that readers see a gap in seq.

A lost change event is reported as confirmed, as a broker that dropped it from a full queue would have confirmed it. So
only the digest can bring it to light, which is what a fleet with losses is there to prove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from vmpulse_contract.topology import Kind
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from vmpulse_agent.host_agent import HostAgent, Publisher
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.identity import HostId


class Traffic(Struct):
    """What the fleet has published; bytes are those of the bodies."""

    messages: int = 0
    frames: int = 0
    rosters: int = 0
    roster_changes: int = 0
    changes: int = 0
    goodbyes: int = 0
    devices: int = 0
    dropped: int = 0
    dropped_changes: int = 0
    bytes: int = 0


class LossyPublisher:
    """Hands messages on to a link, all but a share of them; implements vmpulse_agent.host_agent.Publisher.

    Args:
        link: where to.
        seed: decides, host by host, the how-manieth messages are lost.
        loss: the share that is lost while ``losing``.
    """

    def __init__(self, link: Publisher, seed: int, loss: float) -> None:
        self.link = link
        self.loss = loss
        self.losing = False
        self.traffic = Traffic()
        self._seed = seed
        self._lots: dict[HostId, Lots] = {}

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message, or lose it."""
        if self.losing and self._lots_of(agent.host).hits(self.loss):
            self._drop(agent, message)
            return
        self._count(message)
        self.link.publish(agent, message)

    async def attach(self, agent: HostAgent) -> None:
        """Begin to serve a host."""
        await self.link.attach(agent)

    async def detach(self, agent: HostAgent) -> None:
        """Stop serving a host."""
        await self.link.detach(agent)

    def _drop(self, agent: HostAgent, message: Outgoing) -> None:
        self.traffic.dropped += 1
        if message.change is not None:
            self.traffic.dropped_changes += 1
            agent.confirmed(message.change, message.seq)
        elif message.kind is Kind.DEVICES:
            agent.devices_told(message.seq)

    def _count(self, message: Outgoing) -> None:
        traffic = self.traffic
        traffic.messages += 1
        traffic.bytes += len(message.body)
        match message.kind:
            case Kind.FRAME:
                traffic.frames += 1
            case Kind.CHANGE:
                traffic.changes += 1
            case Kind.ROSTER:
                traffic.rosters += 1
            case Kind.ROSTER_CHANGE:
                traffic.roster_changes += 1
            case Kind.GOODBYE:
                traffic.goodbyes += 1
            case Kind.DEVICES:
                traffic.devices += 1

    def _lots_of(self, host: HostId) -> Lots:
        lots = self._lots.get(host)
        if lots is None:
            lots = self._lots[host] = Lots(self._seed, "loss", host)
        return lots
