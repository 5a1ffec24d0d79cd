"""A broker that cuts hosts off, goes into alarm, dies and comes back; the queues themselves are the hosts'.

Each host's messages stay in order, for they are in one queue; between hosts there is no order. What is lost, repeated
or delayed within a queue is for the rules to say that take messages out of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.consumers.view.back_to_back import SimpleHost


class Link(StrEnum):
    """An agent's connection to the broker, as it is and not as the agent believes."""

    UP = "up"
    LOSES = "loses"
    """What is sent is never heard of again, and the agent has not noticed yet."""
    WITHHOLDS = "withholds"
    """What is sent is under way until the network is whole again, and then comes in order."""
    AWAY = "away"
    """The agent knows that it has no connection."""


class SimulatedBroker:
    """What stands between agents and view.

    Args:
        hosts: gives those whose agents it serves.
    """

    def __init__(self, hosts: Callable[[], Iterable[SimpleHost]]) -> None:
        self._hosts = hosts
        self.alarm = False
        """It is short of memory or disk: it takes nothing from anybody, and goes on giving."""
        self.down = False

    @property
    def up(self) -> bool:
        """Whether it takes messages: requests and canaries are messages too."""
        return not (self.alarm or self.down)

    def reaches(self, host: SimpleHost) -> bool:
        """Whether a question would come to the host, and its answer back."""
        return self.up and host.link is Link.UP

    def cut(self, host: SimpleHost, link: Link) -> None:
        """A host is cut off from the broker."""
        if host.link is Link.UP:
            host.link = link
        if link is Link.AWAY:
            self._part(host)

    def mend(self, host: SimpleHost, now: float) -> None:
        """A host can reach the broker again; a connection that was lost is made anew."""
        if self.down or host.link is Link.UP:
            return
        kept = host.link is Link.WITHHOLDS
        host.link = Link.UP
        if not kept:
            host.reconnect(now)
        elif not self.alarm:
            self._flush(host)

    def begin_alarm(self) -> None:
        """From now on it takes no messages."""
        self.alarm = True
        for host in self._hosts():
            host.blocked = True

    def end_alarm(self) -> None:
        """It takes messages again, first those that have waited."""
        self.alarm = False
        for host in self._hosts():
            host.blocked = False
            if host.link is Link.UP:
                self._flush(host)

    def die(self) -> None:
        """It is gone, and with it all that was queued; everybody notices."""
        self.down = True
        self.end_alarm()
        for host in self._hosts():
            host.queue.clear()
            self._part(host)

    def come_back(self) -> None:
        """It is there again; hosts connect when they come to it (``mend``)."""
        self.down = False

    def heal(self, now: float) -> None:
        """End all trouble."""
        self.come_back()
        self.end_alarm()
        for host in self._hosts():
            self.mend(host, now)

    @staticmethod
    def _part(host: SimpleHost) -> None:
        host.link = Link.AWAY
        host.withheld.clear()
        for session in host.sessions():
            session.disconnected()

    @staticmethod
    def _flush(host: SimpleHost) -> None:
        while host.withheld:
            host.take(*host.withheld.popleft())
