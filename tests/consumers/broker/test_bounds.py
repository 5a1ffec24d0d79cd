"""What a host puts into its queue itself: the policies bound it, in memory and on disk."""

from __future__ import annotations

from typing import Any, Final

import aio_pika
import aiormq
import pytest

from tests.consumers.broker.attempts import OWN, publish, taken_over
from vmpulse_contract import topology
from vmpulse_edges.broker_definitions import QUEUE_BYTES, SEGMENT_BYTES
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

TRIED_MIB: Final = 160


async def filled(broker: PrivateBroker, kind: str) -> tuple[int, int]:
    """Fill the host's queue, of a type, through an exchange of its own; gives its messages and the disk's MiB."""
    before = on_disk(broker)
    its: dict[str, Any] = {"x-queue-type": kind}
    async with taken_over(broker) as channels:
        channel = channels.host
        await channel.exchange_declare(OWN, exchange_type="fanout")
        await channel.queue_declare(OWN, durable=True, arguments=its)
        await channel.queue_bind(OWN, OWN, "")
        for _ in range(TRIED_MIB):
            await publish(OWN, "", "h001", bytes(1 << 20))(channel)
        count = (await channel.queue_declare(OWN, passive=True)).message_count or 0
        return count, on_disk(broker) - before


def on_disk(broker: PrivateBroker) -> int:
    """MiB in the folder of streams."""
    return sum(file.stat().st_size for file in broker.home.glob("data/*/stream/**/*") if file.is_file()) >> 20


async def test_a_binding_takes_no_more_than_a_frame(guarded_broker: PrivateBroker) -> None:
    """Bindings are kept in memory and on disk, so a host may give its own no long arguments."""
    connection = await aio_pika.connect(guarded_broker.url("h001"))
    channel = await (await connection.channel()).get_underlay_channel()
    await channel.queue_declare(OWN, exclusive=True)
    await channel.queue_bind(OWN, topology.RPC, "h001.a", arguments={"a": "x" * 4000})
    with pytest.raises((aiormq.exceptions.AMQPError, ConnectionError)):
        await channel.queue_bind(OWN, topology.RPC, "h001.b", arguments={"a": "x" * 9000})
    await connection.close()


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
async def test_a_hosts_queue_is_bounded_whatever_its_type(guarded_broker: PrivateBroker, kind: str) -> None:
    """It may choose the type, and what it puts there itself stays when it is gone: the oldest goes, in good time."""
    count, grown = await filled(guarded_broker, kind)
    most = QUEUE_BYTES + (SEGMENT_BYTES if kind == "stream" else 0) >> 20
    assert (grown if kind == "stream" else count) in range(1, most + 1)
