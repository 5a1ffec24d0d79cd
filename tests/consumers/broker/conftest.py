"""A node with the users, rights and policies that `vmpulse broker` defines, for hosts and the engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aio_pika
import pytest

from tests.conftest import require_broker
from tests.consumers.broker.operating import ADMIN, Operator
from vmpulse_consumers.broker.user_list import wanted_rights
from vmpulse_contract import topology
from vmpulse_contract.identity import HostId
from vmpulse_contract.rights import VIEW
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

HOSTS = (HostId("h001"), HostId("h0011"), HostId("h002"))
"""The first, one whose name begins like it, and another."""
BOUNDS: Final = dict(
    re.findall(
        r"^(max_message_size|frame_max|tcp_listen_options\.send_timeout) = (\d+)$",
        (Path(__file__).parents[3] / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
MESSAGE_BYTES: Final = int(BOUNDS["max_message_size"])
"""The largest message that a broker takes which is set up as we say."""


@pytest.fixture(scope="session")
def guarded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """The node, with RabbitMQ's management API."""
    require_broker()
    rights = wanted_rights(HOSTS, "main", simulator=False)
    users = [BrokerUser(name, f"{name}-password", its) for name, its in rights.items()]
    with PrivateBroker(
        root=tmp_path_factory.mktemp("guarded"),
        users=[ADMIN, *users],
        management=True,
        extra_config="".join(f"{name} = {value}\n" for name, value in BOUNDS.items()),
    ) as node:
        asyncio.run(_declare(node))
        yield node
        node.kill()


@pytest.fixture(scope="session")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """A node that has an administrator and nobody else."""
    require_broker()
    with PrivateBroker(root=tmp_path_factory.mktemp("open"), users=[ADMIN], management=True) as node:
        yield node
        node.kill()


@pytest.fixture
def operator(tmp_path: Path, open_broker: PrivateBroker) -> Operator:
    """With a list of two hosts, and no passwords yet."""
    found = Operator(tmp_path, open_broker)
    found.list("h001", "h002")
    return found


async def _declare(node: PrivateBroker) -> None:
    """What a view declares at its start, as its user."""
    async with await aio_pika.connect(node.url(VIEW)) as connection:
        channel = await connection.channel()
        for exchange in topology.EXCHANGES:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        for queue in (topology.view_queue("main"), topology.dead_queue()):
            declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
            for exchange, key in queue.bindings:
                await declared.bind(exchange, key)


@pytest.fixture
async def of_h002(guarded_broker: PrivateBroker) -> AsyncIterator[None]:
    """The agent of another host is connected: its exclusive rpc queue is there and bound."""
    async with await aio_pika.connect(guarded_broker.url("h002")) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        queue = topology.rpc_queue(HostId("h002"))
        await channel.queue_declare(queue.name, exclusive=True)
        for exchange, key in queue.bindings:
            await channel.queue_bind(queue.name, exchange, key)
        yield
