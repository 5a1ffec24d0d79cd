"""Which benches there are, how what each has found is read, judged and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benches.connections.run import Report as Connections
from benches.figures import goals, plots
from benches.freshness.report import Report as Freshness
from benches.ingest.report import Report as Ingest
from benches.reads.report import Report as Reads
from benches.scale.report import Report as Scale
from benches.warmup.report import Report as Warmup
from benches.wire.report import Report as Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from benches.figures.goals import Goal


class Bench(NamedTuple):
    """One bench. ``report`` is the type of its JSON object, which ``goals`` and ``plot`` take."""

    title: str
    report: type[Any]
    goals: Callable[[Any], list[Goal]]
    plot: Callable[[Any, Sequence[Goal]], Figure]


BENCHES: Final = {
    "wire": Bench("The wire", Wire, goals.of_wire, plots.wire),
    "freshness": Bench("Freshness", Freshness, goals.of_freshness, plots.freshness),
    "reads": Bench("Reads", Reads, goals.of_reads, plots.reads),
    "warmup": Bench("Warm-up", Warmup, goals.of_warmup, plots.warmup),
    "ingest": Bench("Ingest", Ingest, goals.of_ingest, plots.ingest),
    "connections": Bench("Connections", Connections, goals.of_connections, plots.connections),
    "scale": Bench("Scale", Scale, goals.of_scale, plots.scale),
}
"""By the names of their packages."""
