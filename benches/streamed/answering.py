"""Answers the requests to all hosts of a large fleet, from one queue."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Self

from pamqp import commands

from benches.streamed import amqp
from vmpulse_contract import topology, verbs
from vmpulse_contract.identity import host_id
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from types import TracebackType

    from benches.streamed.fleet import StreamedFleet
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

END_S: Final = 5.0
REPLY_EXPIRATION: Final = "10000"


class Answering:
    """A thread that answers, from entering to leaving the context.

    Args:
        url: the broker; its user may speak for every host.
        fleet: what is asked for.
    """

    def __init__(self, url: BrokerUrl, fleet: StreamedFleet) -> None:
        self.answered = 0
        self.answered_at = time.monotonic()
        """When the last answer was given."""
        self._url = url
        self._fleet = fleet
        self._thread = threading.Thread(target=self._run, name="answering", daemon=True)

    def __enter__(self) -> Self:
        self._socket = amqp.open_channel(self._url)
        amqp.declare(self._socket)
        amqp.consume(self._socket, amqp.ALL_REQUESTS)
        self._socket.settimeout(None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        amqp.hang_up(self._socket)
        self._thread.join(END_S)
        self._socket.close()

    def idle_s(self) -> float:
        """How long nobody has asked anything."""
        return time.monotonic() - self.answered_at

    def _run(self) -> None:
        try:
            for delivery in amqp.deliveries(self._socket):
                self._socket.sendall(self._reply(delivery))
                self.answered += 1
                self.answered_at = time.monotonic()
        except OSError:
            return  # closed, by us or by the broker, whose end others notice

    def _reply(self, asked: amqp.Delivery) -> bytes:
        name, _, verb = asked.key.partition(".")
        host: HostId = host_id(name)
        content = self._fleet.answer(host, Verb(verb), verbs.read_request(asked.body).vms)
        correlation = asked.properties.correlation_id
        its = commands.Basic.Properties(
            user_id=host,
            message_type=Kind.REPLY,
            content_type=topology.CONTENT_TYPE,
            correlation_id=correlation,
            message_id=correlation,
            app_id=topology.APP_ID,
            expiration=REPLY_EXPIRATION,
        )
        return amqp.publish(topology.REPLIES, topology.reply_key(host, asked.properties.reply_to or ""), its, content)
