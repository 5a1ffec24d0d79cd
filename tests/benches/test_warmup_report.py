"""What a warm-up bench counts, and what it holds against its goals."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benches.warmup.report import Start, judged, told
from benches.warmup.request_tap import Asked
from benches.warmup.run import is_whole
from vmpulse_contract.verbs import Request

START = Start(
    connected_s=0.4,
    http_s=0.5,
    confirmed_s=0.8,
    shown_s=0.9,
    fresh_s=3.0,
    ready_s=0.9,
    done_s=0.9,
    bytes=100,
    requests={},
    asked_twice=0,
    cpu_ms=700,
    idle_share=0.8,
)
A, B = bytes(16), bytes([1] * 16)


def body(*vms: bytes) -> bytes:
    """A request as it travels."""
    return msgspec.msgpack.encode(Request(vms=vms))


def test_what_is_asked_twice() -> None:
    """A host is asked twice by the same verb for the same VM, or for its roster; others are others."""
    asked = Asked()
    for key, text in (
        ("h1.getRoster", body()),
        ("h2.getRoster", body()),
        ("h1.getStatus", body(A, B)),
        ("h1.getConfInfo", body(A, B)),
        ("h2.getStatus", body(A)),
    ):
        asked.take(key, text)
    assert (asked.twice, asked.requests) == (0, {"getRoster": 2, "getStatus": 2, "getConfInfo": 1})
    asked.take("h1.getRoster", body())
    asked.take("h1.getStatus", body(B))
    asked.take("h1.getStatus", body(B))
    assert asked.twice == 3


def test_medians_and_goals() -> None:
    """Times are medians over the rounds, and what was asked twice is added up; a goal is missed beyond its number."""
    cold = [msgspec.structs.replace(START, ready_s=seconds) for seconds in (9.0, 5.9, 5.0)]
    fleet = told(250, 40, 3.0, cold, [START])
    assert (fleet.cold_s, fleet.warm_s, fleet.cold_done_s) == (5.9, 0.9, 0.9)
    assert judged([fleet]).goals_missed == []
    slow = msgspec.structs.replace(START, ready_s=6.4, asked_twice=2)
    fleet = told(250, 40, 3.0, [slow], [slow, slow])
    assert fleet.asked_twice == 6
    assert judged([fleet]).goals_missed == ["cold_s", "warm_s", "asked_twice"]


@pytest.mark.parametrize(
    "row, whole",
    [
        ({"name": "web", "hashes": {"info": "1"}}, True),
        ({"name": "web", "hashes": {"info": "1"}, "repairing": ["status"]}, False),
        ({"name": "web", "hashes": {}}, False),
        ({"hashes": {"info": "1"}}, False),
    ],
)
def test_what_is_shown_whole(row: dict[str, Any], *, whole: bool) -> None:
    """A VM without a name, without hashes or with a section under way is not shown yet."""
    assert is_whole(row) is whole
