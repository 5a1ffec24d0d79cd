"""Metrics of the view in Prometheus' text formats. docs/metrics.md says what each of them means.

What there are few of goes through prometheus_client, whose registry other parts of the program may add to. What there
is of each VM and host (``series``) is written as text straight from the arrays, once for all scrapers of a tick
(``exposition``): an object for each of 60,000 samples takes thirty times as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from vmpulse_consumers.http import census
from vmpulse_consumers.http.census import FRESHNESS
from vmpulse_consumers.http.exposition import Expositions
from vmpulse_consumers.view import HostState, View
from vmpulse_consumers.view.rows import vm_row
from vmpulse_consumers.view.view import LATER_KIND
from vmpulse_contract.errors import VERB_ERRORS
from vmpulse_contract.topology import Kind

VERSION: Final = version("vmpulse")
STREAM: Final = (Kind.FRAME, Kind.ROSTER, Kind.ROSTER_CHANGE, Kind.CHANGE, Kind.GOODBYE, Kind.DEVICES, LATER_KIND)
REASONS: Final = ("hash", "malformed", "mistyped", "oversized", "sender", "version")


class FleetCollector(Collector):
    """The metrics of the fleet as a whole and of the view itself."""

    def __init__(self, view: View, clock: Callable[[], float]) -> None:
        self._view = view
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Give the metrics as of now."""
        view, now = self._view, self._clock()
        yield InfoMetricFamily("vmpulse_build", "The program that answers.", {"version": VERSION})
        yield _gauge("vmpulse_broker_up", "Whether the view hears the broker.", view.broker_ok)
        yield _gauge(
            "vmpulse_view_ready", "Whether each known host is confirmed, stopped or lost.", not view.not_ready(now)
        )
        yield _gauge("vmpulse_view_degraded", "Whether the view works worse than it should.", bool(view.degraded))
        yield _gauge("vmpulse_split_brain_vms", "VMs that several hosts have long said they run.", len(view.split))
        yield _gauge("vmpulse_requests_waiting", "Hosts that wait to be asked.", view.asking.waiting)
        yield _gauge("vmpulse_requests_in_flight", "Requests without an answer so far.", view.asking.in_flight)
        states = Counter(host.state for host in view.hosts.values())
        yield labelled(GaugeMetricFamily, "vmpulse_hosts", "Hosts by state.", "state", states, HostState)
        found = census.take(view, view.hosts.values(), now)
        sizes = np.bincount(found.freshness(), minlength=len(FRESHNESS)).tolist()
        freshness = Counter(dict(zip(FRESHNESS, sizes, strict=True)))
        freshness.update(vm_row(view, now, vm).freshness for vm in view.transits.values())
        yield labelled(GaugeMetricFamily, "vmpulse_vms", "VMs by freshness.", "freshness", freshness, ())
        yield from self._counters()

    def _counters(self) -> Iterator[Metric]:
        counts = self._view.counts
        by = CounterMetricFamily
        yield labelled(
            by, "vmpulse_messages", "Stream messages applied or passed over.", "kind", counts.messages, STREAM
        )
        yield labelled(by, "vmpulse_rejected", "Stream messages of no use.", "reason", counts.rejected, REASONS)
        codes = (*VERB_ERRORS, "message")
        failed = counts.requests_failed
        yield labelled(by, "vmpulse_requests_failed", "Requests without a usable answer.", "code", failed, codes)
        for name, words, value in (
            ("vmpulse_received_bytes", "Bytes of stream messages.", counts.bytes),
            ("vmpulse_unburied", "Stream messages of no use that vmpulse.dead did not take.", counts.unburied),
            ("vmpulse_gaps", "Stream messages that never came.", counts.gaps),
            ("vmpulse_repeats", "Stream messages that came again.", counts.repeats),
            ("vmpulse_strangers", "Stream messages of an epoch that is not confirmed.", counts.strangers),
            ("vmpulse_over_budget", "Messages dropped, for their host says too much.", counts.over_budget),
            ("vmpulse_crowded", "Section bodies not kept, for their host has too many bytes of them.", counts.crowded),
            ("vmpulse_rivals", "Times that two agents were found to speak for one host.", counts.rivals),
            ("vmpulse_relists", "Rosters asked for.", counts.relists),
            ("vmpulse_clock_requests", "Questions put only to measure an agent's clock.", counts.clocks),
            ("vmpulse_repairs", "Section bodies asked for, in requests.", counts.repairs),
            ("vmpulse_requests_held_back", "Requests put off by their host's allowance.", counts.held_back),
            ("vmpulse_digest_mismatches", "Frames whose digest differed.", counts.digest_mismatches),
            (
                "vmpulse_layout_mismatches",
                "Frames and differences of rosters that go with another layout than is held.",
                counts.layout_mismatches,
            ),
        ):
            yield CounterMetricFamily(name, words, value)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, float(value))


def labelled(  # noqa: PLR0917 - what one family is made of
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    words: str,
    label: str,
    values: Counter[Any] | dict[Any, int],
    expected: Iterable[str],
) -> Metric:
    """Family with one label. What is expected but has not happened is 0, so that rates begin with the first event."""
    family = kind(name, words, labels=[label])
    for key in sorted({*expected, *values}):
        family.add_metric([str(key)], values.get(key, 0))
    return family


def metrics_route(view: View, clock: Callable[[], float], registry: CollectorRegistry) -> HTTPRouteHandler:
    """Give the route of the metrics, in the format and with the compression that the scraper prefers."""
    expositions = Expositions(view, clock)

    @get("/metrics", summary="Metrics for Prometheus", include_in_schema=False)
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        encode, content_type = _format(request.headers.get("accept", ""))
        takes_gzip = _takes_gzip(request.headers.get("accept-encoding", ""))
        body, packed = await expositions.reply(encode(registry), packed=takes_gzip)
        headers = {"content-type": content_type, "vary": "accept, accept-encoding"}
        return Response(body, headers=headers | ({"content-encoding": "gzip"} if packed else {}))

    return metrics


def _format(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # It compares versions before it knows that they are numbers. Who says nothing readable gets the plain format.
        return choose_encoder("")


def _takes_gzip(accepted: str) -> bool:
    offers = [offer.replace(" ", "").lower().split(";") for offer in accepted.split(",")]
    return any(name in {"gzip", "*"} and "q=0" not in options for name, *options in offers)
