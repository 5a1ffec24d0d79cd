"""What a soak's readers make of a view's metrics and events."""

from __future__ import annotations

import sys

import pytest

from benches.soak.readers import EVENT_BYTES, EventReader, values_of
from vmpulse_consumers.events.log import BYTES, EVENTS, OVERHEAD_BYTES, Entry
from vmpulse_contract.fleet import EventType
from vmpulse_contract.identity import VmId, host_id

BEGIN = ["retry: 2000", "id: ab12-41", ""]
MIB = 1 << 20


def event(number: int, kind: str = "vm.status", data: str = "{}") -> list[str]:
    """An event as it comes."""
    return [f"id: ab12-{number}", f"event: {kind}", f"data: {data}", ""]


def reader(*lines: str) -> EventReader:
    """A reader that has read this."""
    reader = EventReader("http://view/api/v1/events")
    for line in lines:
        reader.take(line)
    return reader


def test_events_are_counted_by_type() -> None:
    """Each event counts once for its type; the first block, which has only an id, and what keeps alive do not."""
    read = reader(*BEGIN, *event(42), *event(43, "host.live"), ":", "id: ab12-43", "", *event(44))
    assert read.events == {"vm.status": 2, "host.live": 1}
    assert read.missed == 0


def test_events_that_do_not_come_are_missed() -> None:
    """Numbers that are passed over count as missed, also before the first event; a word to relist passes over none."""
    assert reader(*BEGIN, *event(43)).missed == 1
    assert reader(*BEGIN, *event(42), *event(46), "id: ab12-46-relist", "event: fleet.relist", "data: {}").missed == 3


def test_the_view_keeps_the_last_events_alone() -> None:
    """What is held of events grows with their texts, up to as many as the view keeps by number or by size."""
    read = reader(*BEGIN, *event(42, data="x" * 400))
    assert read.history_mib == pytest.approx((400 + EVENT_BYTES) / MIB)
    read.events["vm.status"] = 2 * EVENTS
    assert read.history_mib == pytest.approx((400 / 2 + EVENTS * EVENT_BYTES) / MIB, rel=0.001)
    huge = reader(*BEGIN, *event(42, data="x" * (2 * BYTES)))
    assert huge.history_mib == pytest.approx((BYTES + EVENT_BYTES - OVERHEAD_BYTES) / MIB, rel=0.001)


def test_an_event_costs_what_its_parts_do() -> None:
    """What is counted for an event beside its text is what its parts take, and what an allocator rounds up by."""
    text = b"x" * 100
    entry = Entry(EventType.VM_STATUS, (host_id("h001"),), VmId(bytes(16)), text)
    slot, rounding = 8, 3 * 16
    parts = sys.getsizeof(entry) + sys.getsizeof(entry.hosts) + sys.getsizeof(text) - len(text) + slot
    assert parts <= EVENT_BYTES <= parts + rounding


def test_metrics_are_added_up_over_their_labels() -> None:
    """A name's value is the sum of all its samples; a name without samples is 0."""
    text = "# TYPE a_total counter\n" + 'a_total{kind="x"} 2\na_total{kind="y"} 3\n# TYPE b gauge\nb 1.5\n'
    assert (values_of(text)["a_total"], values_of(text)["b"], values_of(text)["c"]) == (5, 1.5, 0)
