"""How long changes took to be known, from what the parts of a run wrote down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from benches.spread import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benches.freshness.place import Records, Seen

MS: Final = 1000.0
GOAL: Final = 3.0
"""Times a bare message that a change may take to the view, at the median."""


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run. Times are from the change at the hypervisor's port, in milliseconds.

    - ``view_ms``: until the view has applied it, so that whoever asks is told.
    - ``worker_ms``: until the callback of an engine's worker has the event of it.
    - ``sse_ms``: until a client of the event stream that follows all sections has read it; ``sse_one_host_ms``: one
      that follows a single host, and so seldom has news.
    - ``bare_amqp_ms``: from the publish of a bare message of that size to its callback.
    - ``polled_ms``: until a peer that polls so often has read it.
    - ``stages_ms``: where the way to the view and the worker goes: ``agent``, from the change until its message was
      handed to the broker link; ``carried``, until the view's callback had it; ``applied``, until it was applied;
      ``told``, from there to the worker's callback.
    - ``ratio_to_bare_amqp``, ``worker_ratio_to_bare_amqp``: of the medians.
    - ``unseen``: changes that a reader never saw; for peers those that another had replaced before they looked.
    - ``load``: the machine's load average of a minute when the run began; ``cpu``: cores that each part took
      while changes were made.
    """

    changes: int
    hosts: int
    vms: int
    watched_hosts: int
    view_ms: Spread
    worker_ms: Spread
    sse_ms: Spread
    sse_one_host_ms: Spread
    bare_amqp_ms: Spread
    polled_ms: dict[str, Spread]
    stages_ms: dict[str, Spread]
    ratio_to_bare_amqp: float
    worker_ratio_to_bare_amqp: float
    unseen: dict[str, int]
    goals_missed: list[str]
    load: float
    cpu: dict[str, float]

    @property
    def measured(self) -> bool:
        """Whether everybody who is told has seen every change."""
        return not any(self.unseen[reader] for reader in TOLD)


TOLD: Final = ("view", "worker", "sse", "bare")


def report(seen: Records, *, hosts: int, vms: int, watched: int, load: float, cpu: Mapping[str, float]) -> Report:
    """Put together what was seen. Raises ValueError where one has seen nothing at all."""
    moments = {name: firsts(its) for name, its in seen.items()}
    changed, bare = moments["change"], took(moments["bare sent"], moments["bare"])
    view, worker = took(changed, moments["view"]), took(changed, moments["worker"])
    readers = {name: changed for name in moments if name in TOLD or name.startswith("polled")}
    readers["bare"] = moments["bare sent"]
    ratio = round(view.p50 / bare.p50, 2)
    return Report(
        changes=len(changed),
        hosts=hosts,
        vms=vms,
        watched_hosts=watched,
        view_ms=view,
        worker_ms=worker,
        sse_ms=took(changed, moments["sse"]),
        sse_one_host_ms=took(changed, moments["sse one host"]),
        bare_amqp_ms=bare,
        polled_ms={name: took(changed, its) for name, its in moments.items() if name.startswith("polled")},
        stages_ms={
            "agent": took(changed, moments["told"]),
            "carried": took(moments["told"], moments["received"]),
            "applied": took(moments["received"], moments["view"]),
            "told": took(moments["view"], moments["worker"]),
        },
        ratio_to_bare_amqp=ratio,
        worker_ratio_to_bare_amqp=round(worker.p50 / bare.p50, 2),
        unseen={name: len(sent.keys() - moments[name].keys()) for name, sent in readers.items()},
        goals_missed=[f"ratio_to_bare_amqp {ratio} > {GOAL}"] if ratio > GOAL else [],
        load=round(load, 2),
        cpu={name: round(cores, 2) for name, cores in cpu.items()},
    )


def firsts(seen: Sequence[Seen]) -> dict[int, float]:
    """When each was first seen."""
    found: dict[int, float] = {}
    for number, at in ((one.number, one.at) for one in seen):
        found[number] = min(at, found.get(number, at))
    return found


def took(sent: Mapping[int, float], seen: Mapping[int, float]) -> Spread:
    """How long it took, in ms, of those that were seen. Raises ValueError where none was."""
    return spread((seen[number] - at) * MS for number, at in sent.items() if number in seen)
