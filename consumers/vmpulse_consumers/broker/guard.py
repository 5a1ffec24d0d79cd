"""Closes connections of hosts that do what no agent does, and shuts out those that do it again and again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.broker.conduct import Conduct
from vmpulse_consumers.errors import ManagementRefused
from vmpulse_consumers.rejections import Rejections
from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.bounded import Bounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmpulse_consumers.broker.conduct import Misconduct
    from vmpulse_consumers.broker.management import Management

log = logging.getLogger(__name__)

REASON: Final = "no agent does what this connection did"
"""What the closed client is told, and RabbitMQ's log."""
LOOKS: Final = 2.0
WITHIN_S: Final = 600.0
"""A host that is closed in more than LOOKS looks within WITHIN_S is let in no more: coming back at once it would hold a
small broker up for 44 s of each minute, in spite of the guard."""
HOSTS_KEPT: Final = 4096


class Guard:
    """Looks at one virtual host of a broker, and closes what should not be there.

    Args:
        broker: asked for connections and channels, and to close connections.
        vhost: the virtual host.
        clock: seconds, monotonic.
    """

    def __init__(self, broker: Management, vhost: str, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._conduct = Conduct(vhost, broker.user)
        self._clock = clock
        self._told = Rejections()
        self._closings: Bounded[str, Allowance] = Bounded(
            HOSTS_KEPT, lambda now: Allowance(LOOKS / WITHIN_S, LOOKS, now)
        )

    def look(self) -> None:
        """Look once. Raises ManagementUnreachable and ManagementRefused, the latter after all were tried."""
        found = self._conduct.look(self._broker.connections(), self._broker.channels(), self._clock())
        refused = None
        # Before anything is closed, so that there is no moment to come back in.
        for host in dict.fromkeys(one.host for one in found):
            try:
                self._shut_out_if_again(host)
            except ManagementRefused as error:
                refused = error
        for one in found:
            try:
                self._broker.close_connection(one.connection, REASON)
            except ManagementRefused as error:
                refused = error
            else:
                self._tell(one)
        if refused is not None:
            raise refused

    def _shut_out_if_again(self, host: str) -> None:
        now = self._clock()
        if not self._closings.of(host, now).take(1.0, now):
            self._broker.limit_connections(host, 0)
            words = "host %s is let in no more, for it does so again and again: %s"
            log.warning(words, host, "mend the host, and `vmpulse broker apply` lets it in")

    def _tell(self, one: Misconduct) -> None:
        untold = self._told.untold(one.host, self._clock())
        if untold is not None:
            more = f"; {untold} more of this host were closed since the last line" if untold else ""
            log.warning("closed a connection of host %s (%s): %s%s", one.host, one.connection, one.words, more)
