"""The lanes of one libvirt: how many threads there are for which calls."""

from __future__ import annotations

from typing import NamedTuple

from vmpulse_agent.libvirt_edge import guest_pace
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_agent.measures import Calls


class Lanes(NamedTuple):
    """See the package's table: what may hang, hangs in a connection of its own."""

    look: Lane
    state: Lane
    probe: Lane
    device: Lane
    read: Lane
    job: Lane
    guest: Lane
    host: Lane

    @property
    def stuck(self) -> bool:
        """Whether a call for many domains, or a probe, is held by some domain's monitor."""
        return bool(self.look.overdue or self.probe.overdue or self.device.overdue)

    @property
    def hangable(self) -> int:
        """How many calls may hang in monitors at once."""
        return self.look.width + self.probe.width + self.device.width + self.job.width


def lanes(calls: Calls) -> Lanes:
    """Make them, each counting its calls under its name; a thread is started when it is needed."""

    def lane(name: str, width: int) -> Lane:
        return Lane(name, width, calls.of(name))

    return Lanes(
        look=lane("look", 2),
        state=lane("state", 1),
        probe=lane("probe", 6),
        device=lane("device", 2),
        read=lane("read", 1),
        job=lane("job", 2),
        guest=lane("guest", guest_pace.WIDTH),
        host=lane("host", 1),
    )
