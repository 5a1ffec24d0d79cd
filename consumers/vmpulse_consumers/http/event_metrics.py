"""The metrics of fleet events: told, published, streamed. docs/metrics.md says what each of them means."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vmpulse_consumers.http.event_stream import REASONS, EventStreams
from vmpulse_consumers.http.metrics import labelled
from vmpulse_contract.fleet import EventType


class EventCollector(Collector):
    """What became of fleet events since the view's start."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        """Give the metrics as of now."""
        streams, teller, by = self._streams, self._streams.teller, CounterMetricFamily
        yield labelled(by, "vmpulse_events", "Fleet events told.", "type", teller.told, EventType)
        yield by("vmpulse_events_published", "Fleet events that the broker has confirmed.", teller.published.events)
        yield GaugeMetricFamily(
            "vmpulse_events_unpublished", "Fleet events that the broker has not confirmed yet.", teller.unpublished
        )
        yield by(
            "vmpulse_events_skipped", "Fleet events that were let go before the broker came.", teller.published.skipped
        )
        yield by("vmpulse_events_refused", "Fleet events that a full queue has refused.", teller.published.refused)
        yield GaugeMetricFamily("vmpulse_event_streams", "Event streams that are open.", streams.open)
        yield by("vmpulse_event_streams_refused", "Event streams refused, for too many are open.", streams.refused)
        dropped = streams.dropped
        yield labelled(by, "vmpulse_event_streams_dropped", "Event streams given up.", "reason", dropped, REASONS)
