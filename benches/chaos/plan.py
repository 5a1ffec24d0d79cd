"""Which faults come when: drawn by the seed, in rounds. No I/O and no clock; times are seconds from a round's begin."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.host import LOST_S
from vmpulse_simulator.dynamics import Deck
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from collections.abc import Collection


class Part(StrEnum):
    """What a fault takes hold of; two faults at a time never take hold of the same."""

    BROKER = "broker"
    VIEW = "view"
    AGENTS = "agents"


class Kind(StrEnum):
    """The kinds of faults. *Cut*: connections end at once and new ones are refused; *hung*: nothing passes."""

    BROKER_KILLED = "broker_killed"
    MEMORY_ALARM = "memory_alarm"
    HEADS_DROPPED = "heads_dropped"
    VIEW_KILLED = "view_killed"
    VIEW_PAUSED = "view_paused"
    VIEW_CUT = "view_cut"
    VIEW_HUNG = "view_hung"
    VIEW_SLOW = "view_slow"
    AGENTS_KILLED = "agents_killed"
    AGENTS_STOPPED = "agents_stopped"
    AGENTS_PAUSED = "agents_paused"
    AGENTS_CUT = "agents_cut"
    AGENTS_HUNG = "agents_hung"
    AGENTS_SLOW = "agents_slow"
    HOSTS_DIED = "hosts_died"


class Nature(NamedTuple):
    """What a kind takes hold of, and between how many seconds it lasts."""

    parts: frozenset[Part]
    lasts_s: tuple[float, float]


BROKER: Final = frozenset({Part.BROKER})
VIEW: Final = frozenset({Part.VIEW})
AGENTS: Final = frozenset({Part.AGENTS})

TABLE: Final = {
    Kind.BROKER_KILLED: Nature(BROKER, (0.5, 16.0)),
    Kind.MEMORY_ALARM: Nature(BROKER, (4.0, 20.0)),
    # The view is kept from its queue meanwhile, or there would be nothing in it to drop.
    Kind.HEADS_DROPPED: Nature(BROKER | VIEW, (6.0, 20.0)),
    Kind.VIEW_KILLED: Nature(VIEW, (0.2, 18.0)),
    Kind.VIEW_PAUSED: Nature(VIEW, (3.0, 20.0)),
    Kind.VIEW_CUT: Nature(VIEW, (0.2, 20.0)),
    Kind.VIEW_HUNG: Nature(VIEW, (4.0, 22.0)),
    Kind.VIEW_SLOW: Nature(VIEW, (5.0, 20.0)),
    Kind.AGENTS_KILLED: Nature(AGENTS, (0.2, 20.0)),
    Kind.AGENTS_STOPPED: Nature(AGENTS, (0.2, 20.0)),
    Kind.AGENTS_PAUSED: Nature(AGENTS, (3.0, 22.0)),
    Kind.AGENTS_CUT: Nature(AGENTS, (0.2, 22.0)),
    Kind.AGENTS_HUNG: Nature(AGENTS, (4.0, 22.0)),
    Kind.AGENTS_SLOW: Nature(AGENTS, (5.0, 20.0)),
    Kind.HOSTS_DIED: Nature(AGENTS, (5.0, 22.0)),
}
"""Up to well beyond the silence after which a host is lost, and the heartbeats after which a connection is."""

MIDDLE_S: Final = LOST_S
"""What lasts longer makes the silence of a host count, or that of all hosts if it is not seen whose fault it is."""
LONG: Final = 0.4
"""Share of faults that last longer than that."""
TOGETHER: Final = 0.35
"""Share of rounds in which a second fault begins while the first one lasts."""
CALM_S: Final = (1.0, 3.0)
"""How long a round is calm at first, so that its faults find a fleet in motion."""
EXTENTS: Final = (("one", 0.5), ("some", 0.3), ("all", 0.2))
"""How many groups of agents a fault takes hold of, with the shares."""
RATES: Final = (300, 1000, 3000, 10_000)
"""Bytes per second: a host says some 100, and connecting takes 2,000; the view is sent some 10,000."""
DELAYS_S: Final = (0.0, 0.05, 0.3, 1.0)


class Fault(NamedTuple):
    """One fault. ``groups``: the groups of agents it takes hold of. ``bytes_s``, ``delay_s``: of one that slows."""

    kind: Kind
    begins_s: float
    lasts_s: float
    groups: tuple[int, ...] = ()
    bytes_s: int = 0
    delay_s: float = 0.0

    @property
    def ends_s(self) -> float:
        """When it heals."""
        return self.begins_s + self.lasts_s

    def __str__(self) -> str:
        where = f" of groups {', '.join(map(str, self.groups))}" if self.groups else ""
        how = f" to {self.bytes_s} B/s and by {self.delay_s:g} s" if self.bytes_s else ""
        return f"{self.kind}{where}{how} for {self.lasts_s:.1f} s"


class Plan:
    """Draws rounds of one or two faults; each kind has its turn before any has another.

    Args:
        seed: decides everything.
        groups: how many groups of agents there are.
        kinds: those that are drawn; none given: all.
    """

    def __init__(self, seed: int, groups: int, kinds: Collection[Kind] = ()) -> None:
        self._groups = groups
        self._lots = Lots(seed, "faults")
        self._kinds = [kind for kind in Kind if kind in kinds or not kinds]
        self._deck = Deck(self._kinds, self._lots)

    def next_round(self) -> tuple[Fault, ...]:
        """Draw the faults of the next round, in the order in which they begin."""
        lots = self._lots
        first = self._drawn(self._deck.draw(), lots.between(*CALM_S))
        taken = TABLE[first.kind].parts
        others = [kind for kind in self._kinds if not TABLE[kind].parts & taken]
        if not others or not lots.hits(TOGETHER):
            return (first,)
        return first, self._drawn(lots.choice(others), lots.between(first.begins_s, first.ends_s))

    def _drawn(self, kind: Kind, begins_s: float) -> Fault:
        lots, nature = self._lots, TABLE[kind]
        least, most = nature.lasts_s
        bounds = (MIDDLE_S, most) if lots.hits(LONG) else (least, MIDDLE_S)
        fault = Fault(kind, begins_s, lots.between(*bounds))
        if Part.AGENTS in nature.parts:
            fault = fault._replace(groups=self._drawn_groups())
        if kind in {Kind.VIEW_SLOW, Kind.AGENTS_SLOW}:
            fault = fault._replace(bytes_s=lots.choice(RATES), delay_s=lots.choice(DELAYS_S))
        return fault

    def _drawn_groups(self) -> tuple[int, ...]:
        everybody = self._lots.shuffled(range(self._groups))
        match self._lots.weighted(EXTENTS):
            case "one":
                return (everybody[0],)
            case "some":
                return tuple(sorted(everybody[: 1 + self._lots.below(self._groups)]))
            case _:
                return tuple(sorted(everybody))
