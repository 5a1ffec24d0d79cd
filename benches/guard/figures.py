"""Which figures of which report are held to what was expected, and why these. No I/O and no clock.

Bytes and counts are the same on any machine. Of times only ratios are here, both sides of which were measured by turns
in one run, by CPU time where that can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.guard.comparing import Figure
from benches.wire.report import FLOOR, GOALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.ingest.report import Report as Ingest
    from benches.view_alone import Report as ViewAlone
    from benches.wire.report import Report as Wire


def of_wire(report: Wire) -> list[Figure]:
    """What a peer sends for each byte of ours, of those peers that have a goal; and frames beside their floor."""
    ratios = [Figure(f"wire.{name}", report.ratios[name], more_is_better=True) for name in GOALS]
    return [*ratios, Figure(f"wire.{FLOOR}", report.ratio_to_entropy_floor)]


def of_ingest(report: Ingest) -> list[Figure]:
    """What the view adds to receiving a message; of the rounds the best one, for load only adds."""
    return [Figure("ingest.ratio_to_empty_callback", min(report.ratios))]


def of_memory(report: ViewAlone) -> list[Figure]:
    """What Python asked for, for each VM; the same wherever it runs, with the same Python."""
    return [
        Figure("memory.bytes_with_sections", report.bytes_with_sections),
        Figure("memory.bytes_with_devices", report.bytes_with_devices),
    ]


def of_costs(costs: Mapping[str, float]) -> list[Figure]:
    """What the state machines take, each a ratio to the same floor; and the bytes of a frame."""
    return [Figure(f"costs.{name}", value) for name, value in costs.items()]
