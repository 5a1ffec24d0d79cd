"""The door: hostile bytes cost no more than their length and end in a MessageError."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.golden_messages import FRAME
from tests.contract.readers import READERS, Reader
from vmpulse_contract import limits, sections, stream, verbs, wire
from vmpulse_contract.errors import MalformedMessage, MessageError, MistypedMessage, UnknownVersion
from vmpulse_contract.sections import Info, Section

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(0, 5), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("reader", READERS)
@given(raw=st.binary(max_size=200))
def test_random_bytes(reader: Reader, raw: bytes) -> None:
    """Whatever the bytes, a reader gives a message or a MessageError; for replies also a VerbError."""
    with suppress(*reader.refusals):
        reader.read(raw)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_mutated_messages(reader: Reader, data: st.DataObject) -> None:
    """A valid message with some bytes changed, cut or added is read or refused like random bytes."""
    raw = bytearray(wire.write(data.draw(reader.messages)) if not reader.is_body else data.draw(reader.messages))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(*reader.refusals):
        reader.read(bytes(raw))


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_replaced_fields(reader: Reader, data: st.DataObject) -> None:
    """A valid message in which one field has become anything else is read or refused like random bytes."""
    drawn = data.draw(reader.messages)
    tree = msgpack.unpackb(drawn if isinstance(drawn, bytes) else wire.write(drawn), strict_map_key=False)
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    if keys:
        tree[data.draw(st.sampled_from(keys))] = data.draw(ANYTHING)
    with suppress(*reader.refusals):
        reader.read(msgpack.packb(tree))


BOMBS = {
    "array of 2^32-1": b"\xdd\xff\xff\xff\xff",
    "map of 2^32-1": b"\xdf\xff\xff\xff\xff",
    "bytes of 2^32-1": b"\xc6\xff\xff\xff\xff",
    "text of 2^32-1": b"\xdb\xff\xff\xff\xff",
    "extension of 2^32-1": b"\xc9\xff\xff\xff\xff\x01",
    "arrays in arrays": b"\xdc\xff\xff" * 300,
    "nested arrays": b"\x91" * 100_000 + b"\x01",
    "nested maps": b"\x81\x01" * 100_000 + b"\x01",
    "nested keys": b"\x81" * 100_000 + b"\x01",
    "nothing": b"",
    "never used": b"\xc1",
    "cut": b"\x93\x01",
    "two values": b"\x01\x01",
    "not UTF-8": b"\xa1\xff",
    "half a surrogate pair": b"\xa3\xed\xa0\x80",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "empty extension": b"\xc7\x00\x05",
    "map as key": b"\x81\x80\x01",
    "repeated key": b"\x82\xa1a\x01\xa1a\x02",
    "repeated key of another type": b"\x82\x01\x01\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x02",
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_bombs_are_malformed(raw: bytes) -> None:
    """Announced sizes beyond the message, deep nesting, repeated keys, extensions and broken texts are malformed."""
    with pytest.raises(MalformedMessage):
        wire.unpack(raw)


def test_a_map_that_nobody_reads_may_repeat_a_key() -> None:
    """What newer senders have added to messages without maps is passed over for less; numbers are no keys there too."""
    frame = wire.write(FRAME)
    assert frame[0] == 0x9D, "an array of 13"
    assert stream.read_frame(b"\x9e" + frame[1:] + BOMBS["repeated key"]) == FRAME
    for extra in ("repeated key of another type", "map as key", "cut"):
        with pytest.raises(MalformedMessage):
            stream.read_frame(b"\x9e" + frame[1:] + BOMBS[extra])


def test_nesting_limit() -> None:
    """Nesting is read up to the limit, and not beyond it."""
    deepest = limits.NESTING.maximum
    wire.unpack(b"\x91" * deepest + b"\x01")
    with pytest.raises(MalformedMessage):
        wire.unpack(b"\x91" * (deepest + 1) + b"\x01")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "head",
    [b"", b"\x91", b"\x81\xa7version", b"\x81\xa3new", b"\x81"],
    ids=["bare", "array", "version", "field", "key"],
)
def test_deep_nesting_anywhere(reader: Reader, head: bytes) -> None:
    """A message nested as deeply as is read overflows nobody's stack, not even where an error is worded."""
    raw = head + b"\x91" * (limits.NESTING.maximum - 1) + b"\x01" + (b"\x01" if head == b"\x81" else b"")
    try:
        reader.read(raw)
    except MessageError:
        return
    assert reader.is_body, "only a section body, whose fields are all optional, may be so much else"


@pytest.mark.parametrize("version", [0, 2, -1, 1 << 63, None, "1", b"1", [1], {}, 1.5])
@pytest.mark.parametrize("reader", [reader for reader in READERS if not reader.is_body])
def test_unknown_versions(reader: Reader, version: object) -> None:
    """A message of another version says so, whatever else it holds."""
    raw = msgpack.packb({"version": version} if reader.is_envelope else [version])
    with pytest.raises(UnknownVersion) as caught:
        reader.read(raw)
    assert caught.value.reason == "version"


@pytest.mark.parametrize("version", [True, 1.0])
@pytest.mark.parametrize("reader", [reader for reader in READERS if not reader.is_body])
def test_versions_that_only_equal_ours(reader: Reader, version: object) -> None:
    """True and 1.0 are equal to 1 in Python and still no versions."""
    raw = msgpack.packb({"version": version} if reader.is_envelope else [version])
    with pytest.raises(MessageError):
        reader.read(raw)


@pytest.mark.parametrize("value", [1, None, "x", b"x", [], {}, {"version": 1}, [1]])
@pytest.mark.parametrize("reader", READERS)
def test_wrong_tops(reader: Reader, value: object) -> None:
    """A message whose outermost value is another is refused; an empty map is a section that says nothing."""
    if (reader.is_body and isinstance(value, dict)) or (reader.name == "request" and value == {"version": 1}):
        reader.read(msgpack.packb(value))
        return
    with pytest.raises(MessageError):
        reader.read(msgpack.packb(value))


@pytest.mark.parametrize(
    "content",
    [{"vmName": b"x"}, {"vmName": 1}, {"pid": True}, {"pid": 1.0}, {"pid": "1"}, {"acpiEnable": 1}, {b"pid": 1}],
)
def test_types_are_not_guessed(content: object) -> None:
    """A field of another type is mistyped, also where Python would find the two equal."""
    with pytest.raises(MistypedMessage):
        wire.read(msgpack.packb(content), Info)


def test_text_is_no_bytes() -> None:
    """A text is not read as base64 where bytes are expected: not in a column, an id, a key or a body."""
    id_text = "AAAAAAAAAAAAAAAAAAAAAA=="
    head = [1, 1, 1]
    for read, tree in (
        (stream.read_frame, [*head, 1, 40, 1, 1, id_text, 1, 1, 1, 1]),
        (stream.read_change, [*head, id_text, 1, 5, 0]),
        (stream.read_change, [*head, b"A" * 16, 1, 5, 0, id_text]),
        (verbs.read_request, {"version": 1, "vmIDs": [id_text]}),
    ):
        with pytest.raises(MistypedMessage):
            read(msgpack.packb(tree))
    reply = {"version": 1, "epoch": 1, "asOf": 1, "monotonicMs": 1, "vms": {id_text: {"status": 1}}}
    with pytest.raises(MistypedMessage):
        verbs.read_reply(verbs.Verb.LIST, msgpack.packb(reply))


@pytest.mark.parametrize("content", [Info(vm_name="\ud800"), Info(pid=1 << 64), Info(pid=-(1 << 63) - 1)])
def test_what_msgpack_cannot_hold(content: Info) -> None:
    """A text that is not Unicode and an integer beyond 64 bits are refused with a typed error when written."""
    with pytest.raises(MistypedMessage):
        sections.encode(content)


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=8))
def test_canonical_bytes(content: dict[str, int]) -> None:
    """Equal content gives equal bytes, whatever the order of the keys."""
    backwards = dict(reversed(content.items()))
    assert wire.write_canonical(content) == wire.write_canonical(backwards)


def test_unknown_fields_and_longer_arrays() -> None:
    """A newer sender's additions are passed over: fields of maps, and elements at the end of arrays."""
    assert sections.decode(Section.INFO, msgpack.packb({"pid": 4, "new": [1]})) == Info(pid=4)
    goodbye = stream.read_goodbye(msgpack.packb([1, 2, 3, "stopped", {"new": 1}]))
    assert (goodbye.epoch, goodbye.seq) == (2, 3)
    request = verbs.read_request(msgpack.packb({"version": 1, "vmIDs": [], "new": 1}))
    assert request.vms == ()
