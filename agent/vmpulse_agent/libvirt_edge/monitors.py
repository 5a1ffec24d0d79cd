"""Which domains' monitors answered a bulk call: it leaves out what it could not ask, and does not say so."""

from __future__ import annotations

from collections.abc import Collection

from vmpulse_agent.libvirt_edge.stats import MONITOR_KEYS, Record


class Monitors:
    """What each incarnation has given before.

    A domain without the values that only its monitor gives did not answer if it gave such values earlier, or if it
    never gave any and some call is stuck in a monitor. Otherwise it simply has none: other drivers, no balloon.
    """

    def __init__(self) -> None:
        self._gave: set[tuple[bytes, int]] = set()

    def answered(self, record: Record, *, stuck: bool) -> bool:
        """Judge one active domain of a call that asked for the monitor's groups."""
        key = (record.vm, record.domain_id)
        if not MONITOR_KEYS.isdisjoint(record.stats):
            self._gave.add(key)
            return True
        return key not in self._gave and not stuck

    def passed_over(self, record: Record) -> bool:
        """Whether this active domain gave what only its monitor gives before, and not in this call."""
        return (record.vm, record.domain_id) in self._gave and MONITOR_KEYS.isdisjoint(record.stats)

    def keep_only(self, present: Collection[tuple[bytes, int]]) -> None:
        """Forget incarnations that are over."""
        self._gave.intersection_update(present)
