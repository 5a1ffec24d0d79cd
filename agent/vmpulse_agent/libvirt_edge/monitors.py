"""Which domains' monitors answered a bulk call: it leaves out what it could not ask, and does not say so."""

from __future__ import annotations

from collections.abc import Collection

from vmpulse_agent.libvirt_edge.bulk import Seen
from vmpulse_agent.libvirt_edge.stats import MONITOR_KEYS
from vmpulse_contract.identity import VmId


class Monitors:
    """What each life has given before: by its token, for libvirt's numbers begin anew with a daemon.

    A domain without the values that only its monitor gives did not answer if it gave such values earlier, or if it
    never gave any and some call is stuck in a monitor. Otherwise it simply has none: other drivers, no balloon.
    """

    def __init__(self) -> None:
        self._gave: set[tuple[VmId, int]] = set()

    def answered(self, seen: Seen, *, stuck: bool) -> bool:
        """Judge one active domain of a call that asked for the monitor's groups."""
        if not MONITOR_KEYS.isdisjoint(seen.record.stats):
            self._gave.add(life_of(seen))
            return True
        return life_of(seen) not in self._gave and not stuck

    def passed_over(self, seen: Seen) -> bool:
        """Whether this active domain gave what only its monitor gives before, and not in this call."""
        return life_of(seen) in self._gave and MONITOR_KEYS.isdisjoint(seen.record.stats)

    def gave(self, vm: VmId, token: int) -> bool:
        """Whether this life has given such values before."""
        return (vm, token) in self._gave

    def keep_only(self, present: Collection[tuple[VmId, int]]) -> None:
        """Forget lives that are over."""
        self._gave.intersection_update(present)


def life_of(seen: Seen) -> tuple[VmId, int]:
    """Name one life of one domain; 0 is none that is known."""
    return seen.record.vm, 0 if seen.life is None else seen.life.token
