"""A fleet that several processes speak for, each for hosts of its own: one alone could not keep up with thousands."""

from __future__ import annotations

import sys
from typing import Final

from benches.simulated import SimulatedFleet, flags

PROGRAM: Final = (sys.executable, "-m", "benches.warmup.fleet_part")
HOSTS_EACH: Final = 650
"""Four processes for 2,500 hosts."""
BEGIN_S: Final = 0.05
"""A host with 40 VMs takes the simulator so much CPU to begin, and there are two of those."""


class PartedFleet(SimulatedFleet):
    """The fleet; nothing happens in it but that loads go up and down."""

    def commands(self) -> list[list[str]]:
        """The programs that speak for the hosts."""
        firsts = range(0, self.size.hosts, HOSTS_EACH)
        return [[*PROGRAM, *flags(self._options(first, len(firsts)))] for first in firsts]

    def _options(self, first: int, parts: int) -> dict[str, object]:
        return {
            "first": first,
            "hosts": min(HOSTS_EACH, self.size.hosts - first),
            "vms": self.size.vms,
            "tick": self.size.tick_s,
            "begin": BEGIN_S * parts,
            "broker-url": self.address,
            "broker-password-file": self.secret,
        }
