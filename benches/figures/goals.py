"""What was aimed at, beside what was found: the goals are those that each bench knows of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benches.connections.report import STAMPEDE
from benches.freshness.report import GOAL as BARE_AMQP_GOAL
from benches.ingest.report import RATIO_GOAL
from benches.scale.report import AGE_P99_S, BYTES_PER_VM, COST_GROWTH, HOSTS, RUNTIME_BYTES_PER_VM, SECONDS
from benches.wire.report import FLOOR, FLOOR_GOAL
from benches.wire.report import GOALS as WIRE_GOALS

if TYPE_CHECKING:
    from benches.connections.report import Outcome
    from benches.connections.run import Report as Connections
    from benches.freshness.report import Report as Freshness
    from benches.ingest.report import Report as Ingest
    from benches.reads.report import Report as Reads
    from benches.scale.report import Report as Scale
    from benches.warmup.report import Report as Warmup
    from benches.wire.report import Report as Wire


class Goal(NamedTuple):
    """One figure and its goal, which is the most that it may be, or the least. None: the run has no such figure."""

    key: str
    figure: float | None
    goal: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        if self.figure is None:
            return False
        return self.figure >= self.goal if self.least else self.figure <= self.goal


def of_wire(report: Wire) -> list[Goal]:
    """Ratios to those that poll, and frames beside their entropy."""
    ratios = [Goal(name, report.ratios.get(name), goal, least=True) for name, goal in WIRE_GOALS.items()]
    return [*ratios, Goal(FLOOR, report.ratio_to_entropy_floor, FLOOR_GOAL)]


def of_ingest(report: Ingest) -> list[Goal]:
    """The view beside a callback that does nothing."""
    return [Goal("ratio_to_empty_callback", report.ratio_to_empty_callback, RATIO_GOAL)]


def of_scale(report: Scale) -> list[Goal]:
    """Those of the largest fleet."""
    return [
        Goal("hosts", report.hosts, HOSTS, least=True),
        Goal("seconds", report.seconds, SECONDS, least=True),
        Goal("missed_ticks", report.missed_ticks, 0),
        Goal("age_p99_s", report.age_p99_s, AGE_P99_S),
        Goal("bytes_per_vm", report.bytes_per_vm, BYTES_PER_VM),
        Goal("runtime_bytes_per_vm", report.runtime_bytes_per_vm, RUNTIME_BYTES_PER_VM),
        Goal("cost_growth", report.cost_growth, COST_GROWTH),
    ]


def of_connections(report: Connections) -> list[Goal]:
    """No stampede, and nothing lost in peace."""
    return [
        Goal("killed.lost_in_hold", report.killed.lost_in_hold, 0),
        _no_stampede("killed", report.killed),
        _no_stampede("closed", report.closed),
    ]


def _no_stampede(name: str, outcome: Outcome) -> Goal:
    return Goal(f"{name}.handshakes_per_s_max", outcome.handshakes_per_s_max, STAMPEDE * outcome.jitter_per_s_max)


def of_freshness(report: Freshness) -> list[Goal]:
    """The way to the view beside a bare message."""
    return [Goal("ratio_to_bare_amqp", report.ratio_to_bare_amqp, BARE_AMQP_GOAL)]


def of_warmup(report: Warmup) -> list[Goal]:
    """Those of the first fleet."""
    return [Goal(name, getattr(report.fleets[0], name), most) for name, most in report.goals.items()]


def of_reads(report: Reads) -> list[Goal]:
    """Those of all kinds of readers."""
    return [Goal(name, getattr(report, name), most) for name, most in report.goals.items()]
