"""The lossy publisher: it loses its share, tells nobody, and leaves everything else alone."""

from __future__ import annotations

import asyncio

import pytest

from vmpulse_agent.change_schedule import ChangeKey
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.session import Outgoing
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.topology import CHANGES, RUNTIME, Kind
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.lossy_publisher import LossyPublisher

CHANGE = ChangeKey(VmId(bytes(16)), Section.STATUS)


class Recorder:
    """A link that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.hosts: list[HostId] = []

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Keep a message."""
        self.hosts.append(agent.host)
        self.sent.append(message)

    async def attach(self, agent: HostAgent) -> None:
        """Note the host."""
        self.hosts.append(agent.host)

    async def detach(self, agent: HostAgent) -> None:
        """Forget the host."""
        self.hosts.remove(agent.host)


class Agent(HostAgent):
    """An agent that notes which changes it was told are confirmed."""

    def __init__(self, host: str, publisher: LossyPublisher) -> None:
        hypervisor = SimulatedHypervisor(HostId(host), "", (), asyncio.get_running_loop().time)
        super().__init__(HostId(host), hypervisor, publisher, facts=HostFacts())
        self.told: list[int] = []

    def confirmed(self, change: ChangeKey, seq: int) -> None:
        """Note the confirm."""
        assert change == CHANGE
        self.told.append(seq)


def messages(count: int) -> list[Outgoing]:
    """Frames and change events in turn."""
    return [
        Outgoing(Kind.CHANGE, CHANGES, "h.status", b"cc", seq, change=CHANGE)
        if seq % 2
        else Outgoing(Kind.FRAME, RUNTIME, "h", b"fff", seq, 6000)
        for seq in range(1, count + 1)
    ]


def lost_of(link: Recorder, offered: list[Outgoing]) -> list[int]:
    """The seqs that did not arrive."""
    arrived = {message.seq for message in link.sent}
    return [message.seq for message in offered if message.seq not in arrived]


async def test_loses_its_share_and_nothing_else() -> None:
    """1 % is lost; the rest arrives in order and unchanged."""
    link, offered = Recorder(), messages(20_000)
    lossy = LossyPublisher(link, 1, 0.01)
    lossy.losing = True
    agent = Agent("h", lossy)
    for message in offered:
        lossy.publish(agent, message)
    lost = lost_of(link, offered)
    assert 150 < len(lost) < 250
    assert link.sent == [message for message in offered if message.seq not in set(lost)]
    assert lossy.traffic.dropped == len(lost)


async def test_lost_changes_are_reported_as_confirmed() -> None:
    """A lost change, and only that, is confirmed by us; the link answers for the others."""
    link, offered = Recorder(), messages(5_000)
    lossy = LossyPublisher(link, 1, 0.05)
    lossy.losing = True
    agent = Agent("h", lossy)
    for message in offered:
        lossy.publish(agent, message)
    assert agent.told == [seq for seq in lost_of(link, offered) if seq % 2]
    assert lossy.traffic.dropped_changes == len(agent.told)


async def test_seed_decides_what_is_lost_whatever_other_hosts_do() -> None:
    """The same host loses the same messages, alone or among others."""
    alone, among, offered = Recorder(), Recorder(), messages(2_000)
    first, second = LossyPublisher(alone, 9, 0.02), LossyPublisher(among, 9, 0.02)
    first.losing = second.losing = True
    for message in offered:
        first.publish(Agent("a", first), message)
        second.publish(Agent("b", second), message)
        second.publish(Agent("a", second), message)
    mine = [message for host, message in zip(among.hosts, among.sent, strict=True) if host == "a"]
    assert mine == alone.sent
    assert lost_of(alone, offered)


@pytest.mark.parametrize("loss, losing", [(0.0, True), (1.0, False)])
async def test_loses_nothing_unless_told_to(loss: float, *, losing: bool) -> None:
    """Without a loss, or while not losing, everything arrives and is counted."""
    link, offered = Recorder(), messages(100)
    lossy = LossyPublisher(link, 1, loss)
    lossy.losing = losing
    agent = Agent("h", lossy)
    for message in offered:
        lossy.publish(agent, message)
    assert link.sent == offered
    traffic = lossy.traffic
    assert (traffic.messages, traffic.frames, traffic.changes, traffic.bytes) == (100, 50, 50, 250)


async def test_hosts_come_and_go_through_it() -> None:
    """Attaching and detaching reach the link."""
    link = Recorder()
    lossy = LossyPublisher(link, 1, 1.0)
    agent = Agent("h", lossy)
    await lossy.attach(agent)
    assert link.hosts == ["h"]
    await lossy.detach(agent)
    assert link.hosts == []
