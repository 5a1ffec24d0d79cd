"""What hosts do on a broker that no agent does, as RabbitMQ's statistics show it. No I/O.

RabbitMQ has no bound on what one client may have it keep in memory, and takes no publishes of anybody when that is
full: messages of a transaction until it is committed, messages that were handed out and not acknowledged, messages that
came back to a publisher who does not read. All three are seen as such. And whoever says more than twice a view's budget
is no agent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.budget import BYTES_BURST, BYTES_S, MESSAGES_BURST, MESSAGES_S
from vmpulse_contract.identity import HOST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNACKNOWLEDGED: Final = 64
"""An agent takes 8 requests at a time, on one channel."""
AMPLE: Final = 2.0
"""So many times what a view applies of a host: what it drops is not yet abuse, and an agent says far less."""


class Connection(NamedTuple):
    """A connection: whose, how many bytes it has sent the broker since it began, and how many wait for it to read.

    ``unread`` is what the socket itself has no room for: the little that an agent is sent fits there though it hangs.
    """

    user: str
    vhost: str
    name: str
    bytes: int
    unread: int = 0


class Channel(NamedTuple):
    """A channel: whose, in which connection, and what it has published, holds back and has not acknowledged."""

    user: str
    vhost: str
    connection: str
    uncommitted: int = 0
    unacknowledged: int = 0
    published: int = 0
    number: int = 1


class Misconduct(NamedTuple):
    """What a host does in a connection, in words."""

    host: str
    connection: str
    words: str


class _Account:
    """What a host may still send, full at first."""

    def __init__(self, now: float) -> None:
        self.bytes = Allowance(AMPLE * BYTES_S, AMPLE * BYTES_BURST, now)
        self.messages = Allowance(AMPLE * MESSAGES_S, AMPLE * MESSAGES_BURST, now)


class Conduct:
    """Judges look after look at one virtual host.

    Args:
        vhost: the virtual host.
        admin: the one user without a dot in its name that is no host.
    """

    def __init__(self, vhost: str, admin: str) -> None:
        self._vhost = vhost
        self._admin = admin
        self._accounts: dict[str, _Account] = {}
        self._unread: set[str] = set()
        self._counters: dict[tuple[str, int], int] | None = None
        """As of the last look: bytes of a connection under channel 0, and messages of its channels."""

    def look(self, connections: Iterable[Connection], channels: Iterable[Channel], now: float) -> list[Misconduct]:
        """Give who misbehaves, and where; of one connection one thing."""
        mine = [one for one in connections if self._is_host(one)]
        theirs = [one for one in channels if self._is_host(one)]
        found = [*_held(theirs), *self._unread_by(mine), *self._over(mine, theirs, now)]
        return list({one.connection: one for one in reversed(found)}.values())[::-1]

    def _unread_by(self, connections: list[Connection]) -> Iterator[Misconduct]:
        """Hosts that have not read, at two looks in a row, what waits for them."""
        unread = {one.name for one in connections if one.unread}
        for one in connections:
            if one.name in unread & self._unread:
                yield Misconduct(one.user, one.name, f"{one.unread:,} bytes that came back and that it does not read")
        self._unread = unread

    def _over(self, connections: list[Connection], channels: list[Channel], now: float) -> Iterator[Misconduct]:
        """Hosts that have sent more since the last look than an agent does: each connection that sent anything."""
        counters = {(one.name, 0): (one.user, one.bytes) for one in connections}
        counters |= {(one.connection, one.number): (one.user, one.published) for one in channels}
        now_at = {at: count for at, (_, count) in counters.items()}
        # What was said before the first look, maybe for months, is of no account.
        before, self._counters = now_at if self._counters is None else self._counters, now_at
        grown: dict[str, dict[tuple[str, int], int]] = {}
        for at, (host, count) in counters.items():
            grown.setdefault(host, {})[at] = count - before.get(at, 0)
        self._accounts = {host: self._accounts.get(host) or _Account(now) for host in grown}
        for host, growth in grown.items():
            size = sum(count for (_, number), count in growth.items() if not number)
            messages = sum(count for (_, number), count in growth.items() if number)
            account = self._accounts[host]
            if account.bytes.take(size, now) and account.messages.take(messages, now):
                continue
            words = f"{messages:,} messages and {size:,} bytes since the last look, more than any agent sends"
            names = dict.fromkeys(name for (name, _), count in growth.items() if count)
            yield from (Misconduct(host, name, words) for name in names)

    def _is_host(self, one: Connection | Channel) -> bool:
        """Engine users have a dot in their names, which no host's id has."""
        return one.vhost == self._vhost and one.user != self._admin and HOST_ID.fullmatch(one.user) is not None


def _held(channels: Iterable[Channel]) -> Iterator[Misconduct]:
    """Hosts that have the broker keep messages for them."""
    uncommitted: Counter[tuple[str, str]] = Counter()
    unacknowledged: Counter[tuple[str, str]] = Counter()
    for one in channels:
        uncommitted[one.user, one.connection] += one.uncommitted
        unacknowledged[one.user, one.connection] += one.unacknowledged
    for (host, connection), count in uncommitted.items():
        if count:
            yield Misconduct(host, connection, f"{count:,} messages in a transaction that it had not committed")
    for (host, connection), count in unacknowledged.items():
        if count > UNACKNOWLEDGED:
            yield Misconduct(host, connection, f"{count:,} messages that it had not acknowledged")
