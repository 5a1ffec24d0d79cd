"""The agent's own broker link, with a note of what became of each of its attempts to be connected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from vmpulse_agent.amqp_link import AmqpLink

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import AbstractChannel

    from vmpulse_agent.amqp_link import Flow
    from vmpulse_agent.session import Outgoing
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId


class Attempt(Struct, kw_only=True, omit_defaults=True):
    """One attempt of a host to be connected, and the connection that came of it.

    All are monotonic seconds, which the processes of one machine share; None: it did not come to that.

    - ``began``: the link began to connect.
    - ``shaken``: the handshake was over, the broker had let us in.
    - ``up``: the host could publish.
    - ``answering``: the host's rpc queue was held, and consumed.
    - ``first_confirm``, ``last_confirm``: of what was published, the broker confirmed something.
    - ``ended``: the connection was over, or the attempt had failed.
    """

    host: str
    began: float
    shaken: float | None = None
    up: float | None = None
    answering: float | None = None
    first_confirm: float | None = None
    last_confirm: float | None = None
    ended: float | None = None


class Notes(Struct):
    """What a process writes down: all attempts of its hosts, and (moment, seconds) by which its loop was late."""

    attempts: list[Attempt]
    lags: list[tuple[float, float]]


class WatchedLink(AmqpLink):
    """One host's link; it does what the agent's does, and nothing else.

    Args:
        url: the broker.
        host: the only one that it serves.
    """

    def __init__(self, url: BrokerUrl, host: HostId) -> None:
        super().__init__(url, f"vmpulse-agent {host}")
        self.attempts: list[Attempt] = []
        self._host = host

    @property
    def serving(self) -> bool:
        """Whether the host can publish, and is asked."""
        last = self.attempts[-1] if self.attempts else None
        return last is not None and last.ended is None and None not in {last.up, last.answering}

    async def _serve_one_connection(self) -> None:
        attempt = Attempt(host=self._host, began=time.monotonic())
        self.attempts.append(attempt)
        try:
            await super()._serve_one_connection()
        finally:
            attempt.ended = attempt.ended or time.monotonic()

    async def _open_channels(self, connection: AbstractConnection, closed: asyncio.Future[str]) -> None:
        self.attempts[-1].shaken = time.monotonic()
        await super()._open_channels(connection, closed)

    def _up(self, flow: Flow) -> None:
        attempt = self.attempts[-1]
        attempt.up = attempt.up or time.monotonic()
        super()._up(flow)

    def _down(self) -> None:
        self.attempts[-1].ended = time.monotonic()
        super()._down()

    async def _serve_rpc(self, host: HostId) -> None:
        await super()._serve_rpc(host)
        if host in self._consumers:
            self.attempts[-1].answering = time.monotonic()

    async def _send(self, channel: AbstractChannel, flow: Flow, number: int, message: Outgoing) -> None:
        attempt, before = self.attempts[-1], self.counters.confirmed
        await super()._send(channel, flow, number, message)
        if self.counters.confirmed > before:
            attempt.last_confirm = now = time.monotonic()
            attempt.first_confirm = attempt.first_confirm or now


def serving(links: Sequence[WatchedLink]) -> int:
    """How many of the hosts can publish and are asked."""
    return sum(link.serving for link in links)
