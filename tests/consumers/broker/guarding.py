"""The guard as a program of its own, users who speak by hand, and what the broker's memory is like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aio_pika
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from tests.consumers.broker.operating import ADMIN
from tests.real_broker import started
from tests.waiting import eventually
from vmpulse_simulator.private_broker import PrivateBroker

CLOSED_S = 15.0
"""Three times RabbitMQ's statistics: its own, the collector's, and our look."""
MIB = 1 << 20


def words(broker: PrivateBroker, folder: Path, *more: str, port: int | None = None) -> list[str]:
    """The command; *more* options win."""
    (folder / "admin").write_text(ADMIN.password, encoding="ascii")
    url = f"http://{broker.host}:{port or broker.ports.management}"
    return ["broker", "guard", "--management-url", url, "--admin-password-file", str(folder / "admin"), *more]


@asynccontextmanager
async def guarding(broker: PrivateBroker, folder: Path) -> AsyncIterator[Path]:
    """The program, which has looked once; gives the file that it logs to."""
    async with started("vmpulse_consumers", *words(broker, folder)) as (_, said):
        await eventually(lambda: "guarding virtual host /" in said.read_text(), 10.0)
        yield said


class Speaker:
    """A connection of a user, by hand."""

    def __init__(self, user: str, channel: AbstractChannel) -> None:
        self.user = user
        self.channel = channel

    async def hold_back(self, count: int, size: int, exchange: str = "vmpulse.replies") -> None:
        """Publish so much in a transaction that is never committed."""
        await self.channel.tx_select()
        for _ in range(count):
            await self.channel.basic_publish(bytes(size), exchange=exchange, routing_key=f"{self.user}.0a")

    async def say(self) -> None:
        """Publish a frame, and wait until the broker has it."""
        properties = Basic.Properties(user_id=self.user)
        await self.channel.basic_publish(b"x", exchange="vmpulse.runtime", routing_key=self.user, properties=properties)

    async def ends(self) -> str:
        """Wait until the connection is closed; gives the broker's word on it."""
        try:
            await asyncio.wait_for(asyncio.shield(self.channel.connection.closing), CLOSED_S)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - it is what we are waiting for
            return str(error)
        return ""

    @property
    def open(self) -> bool:
        """Whether the connection is there."""
        return not self.channel.connection.is_closed


@asynccontextmanager
async def speaking(broker: PrivateBroker, *users: str, confirms: bool = False) -> AsyncIterator[list[Speaker]]:
    """A connection with a channel for each of the users."""
    async with AsyncExitStack() as stack:
        speakers = []
        for user in users:
            connection = await stack.enter_async_context(await aio_pika.connect(broker.url(user)))
            channel = await (await connection.channel(publisher_confirms=confirms)).get_underlay_channel()
            speakers.append(Speaker(user, channel))
        yield speakers


def binaries(broker: PrivateBroker) -> int:
    """Bytes of messages in the broker's memory."""
    return int(broker.ctl("eval", "erlang:memory(binary)."))


def until_below(broker: PrivateBroker, limit: int) -> None:
    """Wait until messages take less of the broker's memory."""
    deadline = time.monotonic() + CLOSED_S
    while (held := binaries(broker)) >= limit:
        assert time.monotonic() < deadline, held


def until_alarm(broker: PrivateBroker) -> None:
    """Wait until the broker says that its memory is full."""
    deadline = time.monotonic() + 20.0
    while "memory" not in (alarms := broker.ctl("eval", "rabbit_alarm:get_alarms().")):
        assert time.monotonic() < deadline, alarms
