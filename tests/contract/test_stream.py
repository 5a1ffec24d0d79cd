"""Stream messages: what was written is read, and what does not hold together is refused."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import columns, sections, stream, wire
from vmpulse_contract.columns import Sparse
from vmpulse_contract.errors import HashMismatch, MessageError, MistypedMessage
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import (
    ChangeEvent,
    Frame,
    Goodbye,
    HostFacts,
    HostValues,
    Roster,
    RosterMessage,
    Tombstone,
)
from vmpulse_contract.values import ExitCode, ExitReason, GoodbyeReason

FRAME = [1, 5, 6, 7, 3, 9, 10, 1, b"\x01\x02\x03", b"\xf1\x02", None, [2, b"\x01", 600]]
CHANGE = [1, 5, 6, b"A" * 16, 2, sections.section_hash(Section.STATUS, b"\x80"), 0, b"\x80"]
ROSTER = [1, 5, 6, [7, 8, {"tickMs": 3000}, b"A" * 16 + b"B" * 16, b"\x01" * 16, b"\xff" * 16, b"\x02" * 64, []]]


@given(wirelings.frames())
def test_frame_round_trip(frame: Frame) -> None:
    """A frame reads back as it was, each column with a value for each VM."""
    read = stream.read_frame(wire.write(frame))
    assert read == frame
    assert [len(columns.unpack(column, read.count)) for column in read.columns] == [frame.count] * 5


@given(wirelings.roster_messages)
def test_roster_round_trip(message: RosterMessage) -> None:
    """A roster reads back as it was."""
    assert stream.read_roster(wire.write(message)) == message


@given(st.lists(wirelings.vms, unique=True, max_size=8), st.data())
def test_roster_values(ids: list[VmId], data: st.DataObject) -> None:
    """The packed values of a roster are the values that it was made from."""
    count = len(ids)
    tokens = data.draw(st.lists(wirelings.u64, min_size=count, max_size=count))
    elapsed = data.draw(
        st.lists(st.none() | st.integers(0, columns.LARGEST), min_size=count, max_size=count),
    )
    hashes = data.draw(st.lists(wirelings.u64, min_size=4 * count, max_size=4 * count))
    packed = columns.to_bytes("Q", hashes)
    roster = stream.pack_roster(
        layout=1,
        monotonic_ms=2,
        facts=HostFacts(),
        vms=ids,
        tokens=tokens,
        elapsed_ms=elapsed,
        hashes=packed,
        tombstones=(),
    )
    assert roster.count == count
    assert roster.vm_ids() == ids
    assert list(roster.start_tokens()) == tokens
    assert roster.elapsed() == elapsed
    assert list(roster.announced()) == hashes
    assert roster.digest() == sections.digest(b"".join(ids), packed)


@given(wirelings.changes())
def test_change_round_trip(change: ChangeEvent) -> None:
    """A change event reads back as it was, with its body or without."""
    assert stream.read_change(wire.write(change)) == change


@given(wirelings.goodbyes)
def test_goodbye_round_trip(goodbye: Goodbye) -> None:
    """A goodbye reads back as it was."""
    assert stream.read_goodbye(wire.write(goodbye)) == goodbye


def test_examples_are_accepted() -> None:
    """The trees that the refusals below start from are messages themselves."""
    assert stream.read_frame(msgpack.packb(FRAME)).stats_age == Sparse(2, b"\x01", 600)
    assert stream.read_change(msgpack.packb(CHANGE)).body == b"\x80"
    assert stream.read_roster(msgpack.packb(ROSTER)).roster.count == 2


@pytest.mark.parametrize("wrong", [True, 1.0, -1, "1", b"1", None, [1], {}, float("nan")])
@pytest.mark.parametrize("at", range(1, 7))
def test_frame_numbers_are_numbers(at: int, wrong: object) -> None:
    """The head of a frame holds integers of 0 or more and nothing that Python would take for one."""
    with pytest.raises(MistypedMessage):
        stream.read_frame(msgpack.packb([*FRAME[:at], wrong, *FRAME[at + 1 :]]))


@pytest.mark.parametrize(
    "wrong",
    [
        True,
        1.0,
        -1,
        (1 << 64) - 1,
        "abc",
        b"",
        b"abcd",
        {},
        [1],
        [1, b"\x01"],
        [1, b"", 2],
        [1, b"\x03", 2],
        [True, b"\x01", 2],
    ],
)
@pytest.mark.parametrize("at", range(7, 12))
def test_columns_are_columns(at: int, wrong: object) -> None:
    """A column of another type, of negative values or of another length is mistyped."""
    with pytest.raises(MistypedMessage):
        stream.read_frame(msgpack.packb([*FRAME[:at], wrong, *FRAME[at + 1 :]]))


@pytest.mark.parametrize("status", [256, 1 << 32, b"\x01\x00" * 3, [1, b"\x01", 256], [256, b"\x01", 1]])
def test_statuses_fit_a_byte(status: object) -> None:
    """A status beyond 8 bits is refused, lest a reader keeps its low byte; one below is a newer sender's."""
    with pytest.raises(MistypedMessage):
        stream.read_frame(msgpack.packb([*FRAME[:7], status, *FRAME[8:]]))
    assert stream.read_frame(msgpack.packb([*FRAME[:7], 200, *FRAME[8:]])).status == 200


@pytest.mark.parametrize(
    "at, wrong",
    [
        (3, b"A" * 15),
        (3, b"A" * 17),
        (3, "A" * 16),
        (3, None),
        (4, 4),
        (4, -1),
        (4, True),
        (4, "status"),
        (5, 0),
        (5, -1),
        (5, None),
        (6, -1),
        (7, "x"),
        (7, 1),
    ],
)
def test_change_refuses(at: int, wrong: object) -> None:
    """A change event with an id, section, hash or body of another shape is mistyped; ABSENT is never announced."""
    with pytest.raises(MistypedMessage):
        stream.read_change(msgpack.packb([*CHANGE[:at], wrong, *CHANGE[at + 1 :]]))


def test_change_body_must_fit_its_hash() -> None:
    """A body with another hash is refused, and so is one with its hash that is no such section."""
    with pytest.raises(HashMismatch):
        stream.read_change(msgpack.packb([*CHANGE[:7], b"\x81\xa7newdata\x01"]))
    body = msgpack.packb({"monitorResponse": "no"})
    with pytest.raises(MistypedMessage):
        stream.read_change(msgpack.packb([*CHANGE[:5], sections.section_hash(Section.STATUS, body), 0, body]))


@pytest.mark.parametrize("at", range(3, 7))
@pytest.mark.parametrize("change", [b"", b"A" * 8, b"A" * 31, b"A" * 33, b"A" * 48])
def test_roster_columns_must_agree(at: int, change: bytes) -> None:
    """A roster whose packed columns name different counts of VMs is mistyped."""
    head, roster = ROSTER[:3], ROSTER[3]
    assert isinstance(roster, list)
    with pytest.raises(MistypedMessage):
        stream.read_roster(msgpack.packb([*head, [*roster[:at], change, *roster[at + 1 :]]]))


def test_roster_names_each_vm_once() -> None:
    """A VM that a roster names twice makes it mistyped."""
    head, roster = ROSTER[:3], ROSTER[3]
    assert isinstance(roster, list)
    with pytest.raises(MistypedMessage, match="named twice"):
        stream.read_roster(msgpack.packb([*head, [*roster[:3], b"A" * 32, *roster[4:]]]))


@pytest.mark.parametrize("tick", [0, 99, 3_600_001, -1, 3000.0, True, "3000"])
def test_cadence_is_bounded(tick: object) -> None:
    """A cadence by which no silence could be judged is refused."""
    head, roster = ROSTER[:3], ROSTER[3]
    assert isinstance(roster, list)
    with pytest.raises(MessageError):
        stream.read_roster(msgpack.packb([*head, [*roster[:2], {"tickMs": tick}, *roster[3:]]]))


@pytest.mark.parametrize("wrong", [[1001], [0, 1001], [-1], [1.5], [0, 0, -1], ["1"], 5, b"", {}])
def test_host_values_are_bounded(wrong: object) -> None:
    """A host's own statistics of another shape, or a share above the whole, make a frame mistyped."""
    with pytest.raises(MistypedMessage):
        stream.read_frame(msgpack.packb([*FRAME, wrong]))


def test_a_frame_without_host_statistics() -> None:
    """A host's own statistics may be nil, left out, or cut short; all that is not there is unknown."""
    for told in ([*FRAME, None], FRAME):
        assert stream.read_frame(msgpack.packb(told)).host_stats is None
    assert stream.read_frame(msgpack.packb([*FRAME, [250]])).host_stats == HostValues(cpu_user=250)


def test_newer_senders_are_read() -> None:
    """Values, fields and elements that this version does not know leave the message readable."""
    tombstone = [b"A" * 16, 1, 77, 99, -5, "new"]
    head, roster = ROSTER[:3], ROSTER[3]
    assert isinstance(roster, list)
    tree = [*head, [*roster[:2], {"tickMs": 3000, "new": 1}, *roster[3:7], [tombstone], "new"], "new"]
    read = stream.read_roster(msgpack.packb(tree)).roster
    assert read.tombstones == (Tombstone(b"A" * 16, 1, ExitCode.UNKNOWN, ExitReason.UNKNOWN, -5),)
    assert stream.read_goodbye(msgpack.packb([1, 1, 1, "rebooting"])).reason is GoodbyeReason.UNKNOWN
    assert stream.read_frame(msgpack.packb([*FRAME, [1, 2, 3, 4, 5, "new"], "new"])).count == 3


def test_roster_without_tombstones() -> None:
    """Tombstones may be left out."""
    head, roster = ROSTER[:3], ROSTER[3]
    assert isinstance(roster, list)
    assert stream.read_roster(msgpack.packb([*head, roster[:7]])).roster.tombstones == ()


def test_an_empty_host() -> None:
    """A host without VMs has a roster, a digest and frames like any other."""
    roster = Roster(1, 2, HostFacts(), b"", b"", b"", b"")
    assert stream.read_roster(wire.write(RosterMessage(1, 1, 1, roster))).roster == roster
    frame = Frame(1, 1, 2, 1, 0, roster.digest(), 3, None, None, None, None, 0)
    assert stream.read_frame(msgspec.msgpack.encode(frame)) == frame
