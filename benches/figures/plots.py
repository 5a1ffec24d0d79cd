"""One plot for each bench, as SVG. Equal figures give equal files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benches.wire.report import AGENTS, EVENTS, VIEW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from benches.connections.run import Report as Connections
    from benches.figures.goals import Goal
    from benches.freshness.report import Report as Freshness
    from benches.ingest.report import Report as Ingest
    from benches.reads.report import Report as Reads
    from benches.scale.report import Report as Scale
    from benches.spread import Spread
    from benches.warmup.report import Report as Warmup
    from benches.wire.report import Report as Wire

# Okabe and Ito's colours, which people who see few colours can tell apart.
OURS: Final = "#0072B2"
THEIRS: Final = "#999999"
SECOND: Final = "#E69F00"
GOAL: Final = "#D55E00"
WIDTH_IN: Final = 7.5
STYLE: Final = Path(__file__).with_name("plots.mplstyle")


def svg(figure: Figure) -> bytes:
    """Write a figure; its file has neither a date nor an id drawn at random."""
    written = io.BytesIO()
    with mpl.rc_context(fname=STYLE):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def canvas(height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """Make an empty figure of that height in inches, with so many plots beside each other."""
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(WIDTH_IN, height))
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def bars(axes: Axes, named: Mapping[str, float], words: Iterable[str], colours: Sequence[str]) -> None:
    """Draw lying bars, the first on top, with words at their ends."""
    names = list(named)
    drawn = axes.barh(names, list(named.values()), color=colours)
    axes.bar_label(drawn, labels=list(words), padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.18)


def _digits(value: float) -> str:
    """Write a number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits before the point


def wire(report: Wire, _: Sequence[Goal]) -> Figure:
    """Draw what each would send, on a scale of powers of ten."""
    shown = {name: count / 1e6 for name, count in report.bytes.items() if name not in {AGENTS, EVENTS}}
    ranked = dict(sorted(shown.items(), key=lambda item: -item[1]))
    words = [
        f"{megabytes:,.0f}" if name == VIEW else f"{megabytes:,.0f}: {report.ratios[name]:.0f} times"
        for name, megabytes in ranked.items()
    ]
    figure, (axes,) = canvas(3.4)
    axes.set_xscale("log")
    bars(axes, ranked, words, [OURS if name == VIEW else THEIRS for name in ranked])
    axes.set_xlim(right=max(ranked.values()) * 8)
    axes.set_xlabel(f"MB in {report.minutes:g} minutes, both directions, above TCP (logarithmic)")
    axes.set_title(f"{report.hosts} hosts x {report.vms} VMs on the wire")
    return figure


def ingest(report: Ingest, goals: Sequence[Goal]) -> Figure:
    """Draw the cost of a message by reader, and the rounds' ratios."""
    figure, (costs, rounds) = canvas(2.4, columns=2)
    named = report.us_per_message
    bars(costs, named, [f"{us:.0f}" for us in named.values()], [OURS if "view" in name else THEIRS for name in named])
    costs.set_xlabel("us of CPU for each message")
    rounds.plot(range(1, len(report.ratios) + 1), report.ratios, "o-", color=OURS)
    rounds.axhline(goals[0].goal, color=GOAL, linestyle="--")
    rounds.text(1, goals[0].goal, f" goal {goals[0].goal:g}", color=GOAL, va="bottom")
    rounds.set_ylim(bottom=1)
    rounds.set_xlabel("round")
    rounds.set_title("view by aio-pika's empty callback")
    return figure


def scale(report: Scale, goals: Sequence[Goal]) -> Figure:
    """Draw ages and costs by the size of the fleet; the first stage is small and as fast as the largest."""
    figure, (ages, costs) = canvas(2.8, columns=2)
    grown = report.stages[2:]
    hosts = [stage.hosts for stage in grown]
    for share, colour in (("p50", SECOND), ("p99", OURS)):
        ages.plot(hosts, [getattr(stage, f"age_{share}_s") for stage in grown], "o-", color=colour, label=share)
    age = next(goal for goal in goals if goal.key == "age_p99_s").goal
    ages.axhline(age, color=GOAL, linestyle="--", label=f"goal of p99, {age:g} s")
    ages.set_ylim(bottom=0)
    ages.set_ylabel("age of values, s")
    ages.legend()
    costs.plot(hosts, [stage.view_us_per_message for stage in grown], "o-", color=OURS, label="fleet")
    small = report.stages[0]
    costs.axhline(small.view_us_per_message, color=THEIRS, linestyle=":", label=f"{small.hosts} hosts as fast")
    costs.set_ylim(bottom=0)
    costs.set_ylabel("us of CPU for each message")
    costs.legend()
    for axes in (ages, costs):
        axes.set_xlabel(f"hosts with {report.vms // report.hosts} VMs each")
        axes.set_xlim(left=0)
    return figure


def connections(report: Connections, _: Sequence[Goal]) -> Figure:
    """Draw how many came back in each second."""
    figure, both = canvas(2.6, columns=2)
    for axes, outcome, words in zip(
        both, (report.killed, report.closed), ("broker killed and started again", "all connections closed"), strict=True
    ):
        axes.bar(range(len(outcome.handshakes_by_second)), outcome.handshakes_by_second, color=OURS, width=0.9)
        axes.axhline(outcome.jitter_per_s_max, color=GOAL, linestyle="--", label="most by jitter alone")
        axes.set_title(words)
        axes.set_xlabel("seconds after the loss")
        axes.set_ylim(top=1.25 * max(outcome.jitter_per_s_max, *outcome.handshakes_by_second))
        axes.legend(loc="upper right")
    both[0].set_ylabel(f"handshakes of {report.connections:,} agents")
    return figure


def freshness(report: Freshness, _: Sequence[Goal]) -> Figure:
    """Draw how long a change takes to whoever is told, and to whoever asks, on a scale of powers of ten."""
    readers: dict[str, Spread] = {
        "bare message": report.bare_amqp_ms,
        "view": report.view_ms,
        "engine's worker": report.worker_ms,
        "event stream, one host": report.sse_one_host_ms,
        "event stream, all": report.sse_ms,
        **{name.replace("_", " "): its for name, its in report.polled_ms.items()},
    }
    figure, (axes,) = canvas(2.8)
    axes.set_xscale("log")
    for at, (name, spread) in enumerate(readers.items()):
        colour = THEIRS if name.startswith(("bare", "polled")) else OURS
        axes.plot([spread.p50, spread.p99], [at, at], "-", color=colour)
        axes.plot(spread.p50, at, "o", color=colour, label="median" if at == 1 else None)
        axes.plot(spread.p99, at, "|", markersize=12, color=colour, label="99th percentile" if at == 1 else None)
        axes.annotate(_digits(spread.p50), (spread.p50, at), xytext=(0, 5), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(readers)), list(readers))
    axes.invert_yaxis()
    axes.margins(y=0.12)
    axes.set_xlabel("ms from the change at the hypervisor (logarithmic)")
    axes.legend(loc="lower left")
    return figure


def warmup(report: Warmup, goals: Sequence[Goal]) -> Figure:
    """Draw the moments of a cold and of a warm start, medians of the rounds."""
    figure, each = canvas(2.9, columns=len(report.fleets))
    moments = {"http_s": "API answers", "confirmed_s": "hosts confirmed", "shown_s": "VMs shown", "ready_s": "ready"}
    for axes, fleet in zip(each, report.fleets, strict=True):
        for offset, (starts, label, colour) in enumerate(((fleet.cold, "cold", OURS), (fleet.warm, "warm", SECOND))):
            values = [sorted(getattr(start, key) for start in starts)[len(starts) // 2] for key in moments]
            places = [at + 0.38 * offset for at in range(len(moments))]
            drawn = axes.barh(places, values, height=0.36, color=colour, label=label)
            axes.bar_label(drawn, fmt="%.1f", padding=3)
        axes.set_yticks([at + 0.19 for at in range(len(moments))], list(moments.values()))
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("s after the start of the process")
        axes.set_title(f"{fleet.hosts:,} hosts x {fleet.vms} VMs")
    aims = ", ".join(f"{goal.key.removesuffix('_s')} {goal.goal:g} s" for goal in goals if goal.key.endswith("_s"))
    figure.legend(*each[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, title=f"goals: {aims}")
    return figure


def reads(_: Reads, goals: Sequence[Goal]) -> Figure:
    """Draw each figure as a share of its goal; those whose goal is 0 are in the table alone."""
    shares = {goal.key: (goal.figure or 0.0) / goal.goal for goal in goals if goal.goal}
    words = [f"{goal.figure:g} of {goal.goal:g}" for goal in goals if goal.goal]
    figure, (axes,) = canvas(2.0)
    bars(axes, shares, words, [OURS] * len(shares))
    axes.axvline(1.0, color=GOAL, linestyle="--", label="goal")
    axes.set_xlim(right=1.3 * max(1.0, *shares.values()))
    axes.set_xlabel("figure by its goal")
    axes.legend(loc="lower right")
    return figure
