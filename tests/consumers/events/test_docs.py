"""The page docs/events.md says what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import fields

from tests.consumers.events.test_description import CASES
from vmpulse_consumers.events.description import describe
from vmpulse_consumers.events.log import BYTES, EVENTS
from vmpulse_consumers.http.event_stream import STREAMS, EventQuery, Timing
from vmpulse_consumers.view.events import BrokerEvent
from vmpulse_contract import limits, topology
from vmpulse_contract.fleet import CloudEvent, EventData, EventType

PAGE: Final = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")


def documented() -> dict[str, set[str]]:
    """The fields that the page gives each type of event."""
    table = PAGE.split("<!-- types -->\n\n")[1].split("\n\n<!-- end of types -->")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return {kind.strip(" `"): set(words.replace("`", "").replace(",", " ").split()) for kind, _, words in rows}


def test_types_and_their_fields() -> None:
    """Each type has its row, with the fields that its events have, and no other."""
    told: dict[str, set[str]] = {}
    for event in [*(case[0] for case in CASES), BrokerEvent(back=False)]:
        description = describe(event, "main")
        assert description is not None
        told.setdefault(description.type, set()).update(msgspec.to_builtins(description.data))
    rows = documented()
    assert rows.keys() == set(EventType)
    assert {kind: rows[kind] for kind in told} == told
    assert all(rows[kind] == told["host.lost"] for kind in rows if kind.startswith("host."))
    names = {field.encode_name for field in fields(EventData)}
    assert set.union(*rows.values()) == names


def test_attributes() -> None:
    """Each attribute of an event has its row, and those that travel as headers are named as they do."""
    attributes = [field.encode_name for field in fields(CloudEvent) if field.name != "data"]
    assert all(f"\n| `{name}` |" in PAGE for name in attributes)
    event = CloudEvent(id="", source="", type=EventType.VM_GONE, subject="", time="", data=EventData())
    assert all(f"header `{name}`" in PAGE for name in event.headers())


def test_numbers() -> None:
    """The bounds that the page gives are the code's."""
    timing, worker = Timing(), topology.worker_queue("x")
    assert f"the last {EVENTS:,}, at most {BYTES >> 20} MiB" in PAGE
    assert f"{STREAMS} streams may be open" in PAGE
    assert f"a comment comes every {timing.keep_alive_s:.0f} s" in PAGE
    assert f"reads nothing for {timing.slow_s:.0f} s" in PAGE
    assert f"more than {limits.BODY_PUSH_BYTES.maximum >> 10} KiB" in PAGE
    assert f"`x-max-length` {worker.arguments['x-max-length']:,}, `x-overflow` {worker.arguments['x-overflow']}" in PAGE
    assert f"`x-expires`\n{worker.arguments['x-expires']:,}" in PAGE
    assert all(f"`{field.name}" in PAGE for field in fields(EventQuery))
