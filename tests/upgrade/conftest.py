"""A node with the rights that `vmpulse broker` defines, and clocks that go faster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest

from tests.conftest import ADMIN, require_broker
from tests.real_broker import delete_queue
from tests.soon_ready import soon_ready
from vmpulse_consumers import service
from vmpulse_consumers.store import keeper
from vmpulse_contract import topology
from vmpulse_contract.identity import HostId
from vmpulse_contract.rights import VIEW, host_rights, view_rights
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

OTHER_VERSION, TODAYS = HostId("h001"), HostId("h002")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """The node, on which each host is a user of its own."""
    require_broker()
    rights = {VIEW: view_rights()} | {host: host_rights(host) for host in (OTHER_VERSION, TODAYS)}
    users = [BrokerUser(name, f"{name}-password", its) for name, its in rights.items()]
    with PrivateBroker(root=tmp_path_factory.mktemp("upgrade"), users=[ADMIN, *users]) as broker:
        yield broker
        broker.kill()  # nothing of it is kept


@pytest.fixture
async def guarded(node: PrivateBroker) -> AsyncIterator[PrivateBroker]:
    """The node with the exchanges that a view leaves, and afterwards without its queue and vmpulse.dead."""
    async with await aio_pika.connect(node.url()) as connection:
        channel = await connection.channel()
        for exchange in topology.EXCHANGES:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
    yield node
    for queue in (topology.view_queue("main"), topology.dead_queue()):
        await delete_queue(node, queue.name)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view is ready soon after its start, and writes soon what it is to remember."""
    soon_ready(monkeypatch)
    monkeypatch.setattr(service, "CANARY_S", 0.2)
    monkeypatch.setattr(service, "TICK_S", 0.1)
    monkeypatch.setattr(keeper, "BEHIND_S", 0.05)
