"""What a scale bench has found, as its one line of JSON tells it. No I/O and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from benches.scale.watched_view import BIN_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benches.scale.watched_view import Look
    from benches.streamed.cadence import Rhythm

HOSTS: Final = 25_000
SECONDS: Final = 60.0
AGE_P99_S: Final = 6.0
BYTES_PER_VM: Final = 1536
RUNTIME_BYTES_PER_VM: Final = 64
COST_GROWTH: Final = 1.10


class Stage(Struct, frozen=True, kw_only=True):
    """So many hosts for so long.

    - ``missed_ticks``: frames that were said and that the view did not take.
    - ``age_p50_s``, ``age_p99_s``: of VMs' values, over all looks, by the view's own measure, which errs on the old
      side; None: nothing was seen.
    - ``backlog_max``: messages in the view's queue.
    - ``view_us_per_message``: CPU time of the view's process, for all kinds of messages together.
    - ``cpu``: share of a CPU that the view, the broker and the load used, and everything else on the machine: where
      that is not small, ages and missed ticks are the machine's and not the view's. The kernel counts the machine by
      ticks, so that this one errs by a tenth, on either side.
    - ``asked``: questions that the view put to hosts meanwhile; a stage with many of them compares with no other.
    - ``events``: what the view published meanwhile; where that is more than the changes that were said, something was
      told late.
    - ``load_late_s``: the most that something was said too late, because the load or the broker fell behind.
    """

    hosts: int
    vms: int
    seconds: float
    tick_s: float
    messages: int
    missed_ticks: int
    age_p50_s: float | None
    age_p99_s: float | None
    backlog_max: int
    view_us_per_message: float
    cpu: dict[str, float]
    asked: int
    events: int
    load_late_s: float

    @property
    def us_per_vm_tick(self) -> float:
        """CPU time of the view for one tick of one VM, all that it does beside included."""
        return self.cpu["view"] * 1e6 * self.tick_s / self.vms

    @property
    def holds(self) -> bool:
        """Whether every tick was taken in time."""
        return not self.missed_ticks and self.age_p99_s is not None and self.age_p99_s <= AGE_P99_S


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run: what the largest stage says of itself, and more.

    - ``largest_held``: hosts of the largest stage that missed no tick and kept its ages; 0: none.
    - ``bytes_per_vm``: growth of the view's resident memory over that of an empty one, sections included.
    - ``runtime_bytes_per_vm``: of the columns of runtime values, their room to grow included.
    - ``cost_growth``: CPU time for a message by that of a fleet of ``small_hosts`` hosts that says as many messages;
      ``cost_growth_per_tick``: for a VM and tick, by that of the same fleet at its own cadence, where each message
      finds the view asleep.
    - ``meeting_s``: how long the view took to meet all hosts, to fetch all their sections and to tell of all that.
    - ``stages``: all of them, in order; the first two are the small fleet.
    """

    hosts: int
    vms: int
    seconds: float
    missed_ticks: int
    age_p50_s: float | None
    age_p99_s: float | None
    backlog_max: int
    view_us_per_message: float
    bytes_per_vm: int
    runtime_bytes_per_vm: float
    cost_growth: float
    cost_growth_per_tick: float
    small_hosts: int
    largest_held: int
    meeting_s: float
    load_average: float
    stages: list[Stage]
    goals_missed: tuple[str, ...]


def stage_of(
    looks: Sequence[Look],
    rhythm: Rhythm,
    cpu_ns: Mapping[str, int],
    *,
    hosts: int,
    vms_per_host: int,
    missed_ticks: int,
    backlog_max: int,
    late_s: float,
) -> Stage:
    """Tell a stage by what was seen from its first look to its last."""
    first, last = looks[0], looks[-1]
    seconds, messages = last.at - first.at, last.messages - first.messages
    ages = [look.ages for look in looks]
    return Stage(
        hosts=hosts,
        vms=hosts * vms_per_host,
        seconds=round(seconds, 1),
        tick_s=round(rhythm.tick_s, 3),
        messages=messages,
        missed_ticks=missed_ticks,
        age_p50_s=percentile(ages, 0.5),
        age_p99_s=percentile(ages, 0.99),
        backlog_max=backlog_max,
        view_us_per_message=round((last.cpu_ns - first.cpu_ns) / messages / 1000, 1),
        cpu={name: round(spent / 1e9 / seconds, 3) for name, spent in cpu_ns.items()},
        asked=_asked(last) - _asked(first),
        events=last.events - first.events,
        load_late_s=round(late_s, 2),
    )


def _asked(look: Look) -> int:
    return look.relists + look.clocks + look.repairs


def percentile(counted: Iterable[list[int]], share: float) -> float | None:
    """Give the age below which this share of all counted VMs is, by the end of its bin; None: none was counted."""
    totals = [sum(column) for column in zip(*counted, strict=True)]
    left = sum(totals) * share
    for at, count in enumerate(totals):
        left -= count
        if left <= 0 < count:
            return round((at + 1) * BIN_S, 1)
    return None


def missed(report: Report, hosts: int) -> tuple[str, ...]:
    """Name the goals that were missed; *hosts* were wanted."""
    beyond = {
        "hosts": report.hosts < hosts,
        "missed_ticks": report.missed_ticks > 0,
        "age_p99_s": report.age_p99_s is None or report.age_p99_s > AGE_P99_S,
        "bytes_per_vm": report.bytes_per_vm > BYTES_PER_VM,
        "runtime_bytes_per_vm": report.runtime_bytes_per_vm > RUNTIME_BYTES_PER_VM,
        "cost_growth": report.cost_growth > COST_GROWTH,
    }
    return tuple(name for name, is_so in beyond.items() if is_so)
