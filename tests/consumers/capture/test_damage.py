"""A capture may come from anybody: whatever is in it costs one typed error at most, and what came before is shown."""

from __future__ import annotations

import contextlib
import math
import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumers.capture.histories import eventful, replayed
from vmpulse_consumers.capture.records import (
    LATEST_S,
    MAGIC,
    RECORD_BYTES,
    TOO_LONG_BYTES,
    VERSION,
    Header,
    Reading,
    RecordKind,
    write_header,
    write_record,
)
from vmpulse_consumers.cli import replay_command
from vmpulse_consumers.errors import CaptureUnreadable
from vmpulse_contract import limits, topology
from vmpulse_contract.identity import HostId

BEGAN = 1000.0
HEADER = write_header(Header("vmpulse test", BEGAN))
SOUND = write_record(BEGAN, RecordKind.TICK)
PLACE = rf"^record 2 at byte {len(HEADER + SOUND)} is none: "
LONGEST = limits.MESSAGE_BYTES.maximum
_, EVENTFUL = eventful(3)


def packed(*record: object) -> bytes:
    """A record of anything."""
    raw: bytes = msgpack.packb(record)
    return raw


@pytest.mark.parametrize(
    "raw,words",
    [
        (b"\xc1", ""),
        (b"\xdd\xff\xff\xff\xff", ""),
        (b"\x81\x01\x02", ""),
        (packed(BEGAN, "nothing"), "'nothing' is not a valid RecordKind"),
        (packed("now", "tick"), "it does not begin with a time and a kind"),
        (packed(1000, "tick"), "it does not begin with a time and a kind"),
        (packed(BEGAN, "receive", 1, 2, 3, 4), "receive does not have these arguments"),
        (packed(BEGAN, "failed", True, None, "x"), "failed does not have these arguments"),
        (packed(math.nan, "tick"), "its time is nan; allowed: 1000.0"),
        (packed(math.inf, "tick"), "its time is inf"),
        (packed(-math.inf, "tick"), "its time is -inf"),
        (packed(BEGAN - 0.5, "tick"), "its time is 999.5"),
        (packed(2 * LATEST_S, "tick"), "its time is 2"),
        (packed(BEGAN, "replied", 1, "getEverything", b""), "'getEverything' is not a valid Verb"),
        (packed(BEGAN, "replied", 1, "getRoster", b""), "request 1 is answered that was never asked"),
        (packed(BEGAN, "failed", 7, None, "x"), "request 7 is answered that was never asked"),
        (packed(BEGAN, "failed", -7, None, "x"), "request -7 is answered that was never asked"),
        (packed(BEGAN, "forget", "No Host.*"), "host name 'No Host.\\*' is not allowed"),
        (packed(BEGAN, "forget", "nobody"), "host nobody is forgotten that is not known"),
        (packed(BEGAN, "receive", "x", "y", None, LONGEST), f"a message of {LONGEST} bytes is not told of"),
        (packed(BEGAN, "receive", "x", "y", None, TOO_LONG_BYTES + 1), f"allowed: {LONGEST + 1} to {TOO_LONG_BYTES}"),
        (packed(BEGAN, "receive", "x", "y", None, -1), "a message of -1 bytes"),
    ],
)
def test_what_no_view_was_given_is_named_with_its_place(raw: bytes, words: str) -> None:
    """The error names the record, its offset, what is wrong, and what a capture is."""
    with pytest.raises(CaptureUnreadable, match=f"{PLACE}.*{words}.*a capture is what"):
        replayed(HEADER + SOUND + raw + SOUND)


@pytest.mark.parametrize(
    "raw,words",
    [
        (b"\x01", "it is no capture"),
        (b"\xc1", "it is no capture"),
        (packed(MAGIC, VERSION, "vmpulse test", math.nan), "it is no capture"),
        (packed(MAGIC, VERSION, "vmpulse test", -1.0), "it is no capture"),
        (packed(MAGIC, VERSION + 1, "vmpulse 9", 1.0), f"version {VERSION + 1}.*reads version {VERSION}"),
        (packed(MAGIC, VERSION + 1, 7, 8, 9), f"version {VERSION + 1}.*reads version {VERSION}"),
    ],
)
def test_what_is_no_capture_is_said_to_be_none(raw: bytes, words: str) -> None:
    """Without a header that this program reads, nothing is replayed."""
    with pytest.raises(CaptureUnreadable, match=words):
        replayed(raw)


def test_nothing_may_follow_the_end() -> None:
    """What was the captured view at its end is not made another one by what was added."""
    end = len(b"".join(EVENTFUL))
    with pytest.raises(CaptureUnreadable, match=rf"^record {len(EVENTFUL)} at byte {end} is none: it follows the end"):
        replayed(b"".join(EVENTFUL) + write_record(LATEST_S, RecordKind.TICK))


@pytest.mark.parametrize(
    "verb,words", [("getStatus", "and was getRoster"), ("getRoster", "it has no answer to getRoster")]
)
def test_an_answer_that_is_none_is_named(verb: str, words: str) -> None:
    """An answer to another question, or one that no host has given: a view is only given what was read."""
    asked = next(number for number, raw in enumerate(EVENTFUL) if b"replied" in raw[:20])
    at, kind, number, _, _ = msgpack.unpackb(EVENTFUL[asked])
    with pytest.raises(CaptureUnreadable, match=f"record {asked} at byte .*{words}"):
        replayed(b"".join(EVENTFUL[:asked]) + packed(at, kind, number, verb, b"\xc1"))


def test_what_is_announced_too_long_is_not_waited_for() -> None:
    """A record that says it is 4 GiB long ends the reading before it has taken as much as two records may."""
    reading = Reading()
    list(reading.feed(HEADER + b"\xc6\xff\xff\xff\xff"))
    list(reading.feed(bytes(2 * RECORD_BYTES - 100)))
    with pytest.raises(CaptureUnreadable):
        list(reading.feed(bytes(200)))


def test_the_largest_message_fits_a_record() -> None:
    """A message at the contract's limit can be captured and read."""
    body, host = bytes(LONGEST), str(HostId("h" * 63))
    record = write_record(BEGAN, RecordKind.RECEIVE, topology.RUNTIME, host, host, body)
    _, found = Reading().feed(HEADER + record)
    assert found[:3] == (BEGAN, RecordKind.RECEIVE, (topology.RUNTIME, host, host, body))


@given(st.binary(max_size=300))
def test_any_bytes_after_a_header_cost_a_typed_error_at_most(raw: bytes) -> None:
    """Hostile bytes end as CaptureUnreadable or as too little to be a record."""
    reading = Reading()
    with contextlib.suppress(CaptureUnreadable):
        list(reading.feed(HEADER + raw))
    assert reading.position <= len(HEADER + raw)


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_a_mangled_capture_is_replayed_and_shown_as_far_as_it_goes(
    tmp_path_factory: pytest.TempPathFactory, lots: random.Random
) -> None:
    """Records repeated, left out, moved, and with bytes changed: the view is rebuilt and shown, with no other error."""
    records = list(EVENTFUL)
    for _ in range(lots.randint(1, 5)):
        at = lots.randrange(1, len(records))
        mangle(lots, records, at)
    path = tmp_path_factory.mktemp("mangled") / "a.capture"
    path.write_bytes(b"".join(records))
    rebuilt = replay_command.rebuild(path, None)
    view = rebuilt.replay.view
    shown = replay_command.Shown(list(view.hosts.values()), list(view.vms.values()))
    assert replay_command.as_json(rebuilt.replay, shown)
    replay_command.show(rebuilt.replay, shown)
    assert rebuilt.replay.applied > 0 or rebuilt.damage


def mangle(lots: random.Random, records: list[bytes], at: int) -> None:
    """Damage one record."""
    raw = bytearray(records[at])
    match lots.randrange(4):
        case 0:
            records.insert(at, records[at])
        case 1:
            records[at] = b""
        case 2:
            records.insert(lots.randrange(1, len(records)), records.pop(at))
        case _ if raw:
            raw[lots.randrange(len(raw))] = lots.randrange(256)
            records[at] = bytes(raw)
