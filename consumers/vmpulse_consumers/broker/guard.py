"""Closes connections of hosts that hold messages back in a transaction.

RabbitMQ keeps what a transaction publishes in memory until it is committed, without a bound, and takes no publishes of
anybody when that is full. No agent uses transactions, but for `vmpulse-agent check`, which takes an empty message back
at once; so one that shows in RabbitMQ's statistics, which are 5 s apart, is no agent's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.errors import ManagementRefused
from vmpulse_consumers.rejections import Rejections
from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.bounded import Bounded
from vmpulse_contract.identity import HOST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmpulse_consumers.broker.management import Channel, Management

log = logging.getLogger(__name__)

REASON: Final = "an agent holds no messages back in a transaction"
"""What the closed client is told, and RabbitMQ's log."""
CLOSINGS: Final = 2.0
WITHIN_S: Final = 600.0
"""A host that is closed more often than CLOSINGS within WITHIN_S is let in no more: coming back at once it would hold a
small broker up for 44 s of each minute, in spite of the guard."""
HOSTS_KEPT: Final = 4096


class Held(NamedTuple):
    """What a host holds back in one connection, in all its channels."""

    connection: str
    host: str
    messages: int


def held_back(channels: Iterable[Channel], vhost: str, admin: str) -> list[Held]:
    """What hosts hold back on a virtual host. Engine users have a dot in their names; *admin* is no host either."""
    found: dict[str, Held] = {}
    for channel in channels:
        # A host's id has no dot.
        is_host = HOST_ID.fullmatch(channel.user) and channel.user != admin
        if is_host and channel.vhost == vhost and channel.uncommitted > 0:
            before = found[channel.connection].messages if channel.connection in found else 0
            found[channel.connection] = Held(channel.connection, channel.user, before + channel.uncommitted)
    return list(found.values())


class Guard:
    """Looks at one virtual host of a broker, and closes what holds messages back there.

    Args:
        broker: asked for channels, and to close connections.
        vhost: the virtual host.
        clock: seconds, monotonic.
    """

    def __init__(self, broker: Management, vhost: str, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._vhost = vhost
        self._clock = clock
        self._told = Rejections()
        self._closings: Bounded[str, Allowance] = Bounded(
            HOSTS_KEPT, lambda now: Allowance(CLOSINGS / WITHIN_S, CLOSINGS, now)
        )

    def look(self) -> None:
        """Look once. Raises ManagementUnreachable and ManagementRefused, the latter after all were tried."""
        refused = None
        for held in held_back(self._broker.channels(), self._vhost, self._broker.user):
            try:
                self._shut_out_if_again(held.host)
                self._broker.close_connection(held.connection, REASON)
            except ManagementRefused as error:
                refused = error
            else:
                self._tell(held)
        if refused is not None:
            raise refused

    def _shut_out_if_again(self, host: str) -> None:
        """Before its connection is closed, so that there is no moment to come back in."""
        now = self._clock()
        if not self._closings.of(host, now).take(1.0, now):
            self._broker.limit_connections(host, 0)
            words = "host %s is let in no more, for it does so again and again: %s"
            log.warning(words, host, "mend the host, and `vmpulse broker apply` lets it in")

    def _tell(self, held: Held) -> None:
        untold = self._told.untold(held.host, self._clock())
        if untold is not None:
            more = f"; {untold} more of this host were closed since the last line" if untold else ""
            words = "closed a connection of host %s (%s): %d messages in a transaction that it had not committed%s"
            log.warning(words, held.host, held.connection, held.messages, more)
