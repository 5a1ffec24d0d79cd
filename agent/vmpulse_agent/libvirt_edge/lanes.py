"""The lanes of one libvirt: how many threads there are for which calls."""

from __future__ import annotations

from typing import NamedTuple

from vmpulse_agent.libvirt_edge.threads import Lane


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


def lanes() -> Lanes:
    """Make them; a thread is started when it is needed."""
    return Lanes(
        look=Lane("look", 2),
        state=Lane("state", 1),
        probe=Lane("probe", 6),
        device=Lane("device", 2),
        read=Lane("read", 1),
        job=Lane("job", 1),
        guest=Lane("guest", 4),
        host=Lane("host", 1),
    )
