"""What guests have said of themselves, and for how long it is told. No I/O, no clock: times are the caller's.

An answer is told for ten of its topic's periods; from then on the guest does not say. A guest that hangs or fails for
so long would otherwise be shown with users and addresses of days ago as if they were of now. Time does not count while
the guest is not to blame: its domain does not run or hangs itself, or libvirt is away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.guest_pace import SLOW_S, Topic

if TYPE_CHECKING:
    from collections.abc import Collection

    from vmpulse_contract.identity import VmId

TOLD_PERIODS: Final = 10
"""A guest that fails is asked again within 120 s, so that it has missed some questions by then, and not just one."""
_FIELD: Final = {
    Topic.USERS: "users",
    Topic.INTERFACES: "interfaces",
    Topic.FILE_SYSTEMS: "usage",
    Topic.APPS: "apps",
}
_PERIOD_S: Final = {field: SLOW_S[topic] for topic, field in _FIELD.items()}


@dataclass(slots=True)
class _Known:
    facts: GuestFacts
    told_until: dict[str, float]
    """By field of the facts."""


class GuestMemory:
    """The answers of all guests of a host."""

    def __init__(self) -> None:
        self._known: dict[VmId, _Known] = {}

    def facts(self, vm: VmId) -> GuestFacts | None:
        """What a guest has said and is still told; None: nothing yet."""
        known = self._known.get(vm)
        return None if known is None else known.facts

    def heard(self, vm: VmId, said: GuestFacts, now: float) -> bool:
        """Take in an answer. Gives whether it changes what the sections tell, as the first one always does."""
        known = self._known.get(vm)
        before = None if known is None else known.facts
        known = self._known.setdefault(vm, _Known(GuestFacts(), {}))
        known.facts = known.facts.updated(said)
        for field, value in said._asdict().items():
            if value is not None:
                known.told_until[field] = _until(field, now)
        return before is None or _in_sections(before) != _in_sections(known.facts)

    def excuse(self, vm: VmId, now: float) -> None:
        """The guest could not be asked, and is not to blame: its answers are as good as new ones."""
        known = self._known.get(vm)
        if known is not None:
            known.told_until = {field: _until(field, now) for field in known.told_until}

    def excuse_topics(self, topics: Collection[Topic], now: float, *, but: Collection[VmId]) -> None:
        """Nobody could be asked for these, for which only the guests named *but* are to blame."""
        fields = {_FIELD[topic] for topic in topics}
        for vm in self._known.keys() - set(but):
            told_until = self._known[vm].told_until
            told_until.update({field: _until(field, now) for field in fields & told_until.keys()})

    def excuse_all(self, now: float) -> None:
        """Nobody could be asked."""
        for vm in self._known:
            self.excuse(vm, now)

    def lapse(self, now: float) -> list[VmId]:
        """Let go of answers that are too old. Gives the guests whose sections change by that."""
        changed = []
        for vm, known in self._known.items():
            old = [field for field, until in known.told_until.items() if until <= now]
            if old:
                before = known.facts
                known.facts = before._replace(**dict.fromkeys(old))
                for field in old:
                    del known.told_until[field]
                if _in_sections(before) != _in_sections(known.facts):
                    changed.append(vm)
        return changed

    def forget(self, vm: VmId) -> None:
        """Its agent's channel has closed, or its life has ended."""
        self._known.pop(vm, None)

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget guests that are gone without a word."""
        for vm in [vm for vm in self._known if vm not in present]:
            del self._known[vm]


def _until(field: str, now: float) -> float:
    return now + TOLD_PERIODS * _PERIOD_S[field]


def _in_sections(facts: GuestFacts) -> GuestFacts:
    """How full file systems are is told with the device statistics, at their pace."""
    return facts._replace(usage=None)
