"""Verbs: each has one reply shape, and a reply is checked as closely as the stream."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import sections, verbs, wire
from vmpulse_contract.errors import (
    VERB_ERRORS,
    HashMismatch,
    MessageError,
    MistypedMessage,
    VerbError,
)
from vmpulse_contract.sections import BODIED, Section
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import Request, Verb

VM = b"A" * 16
HEAD = {"version": 1, "epoch": 5, "asOf": 6, "monotonicMs": 7}


def _read(verb: Verb, **fields: object) -> verbs.AnyReply:
    return verbs.read_reply(verb, msgpack.packb({**HEAD, **fields}))


@pytest.mark.parametrize("verb", Verb)
@given(data=st.data())
def test_reply_round_trip(verb: Verb, data: st.DataObject) -> None:
    """A reply reads back as it was."""
    reply = data.draw(wirelings.replies(verb))
    assert verbs.read_reply(verb, wire.write(reply)) == reply


@given(wirelings.requests)
def test_request_round_trip(request_: Request) -> None:
    """A request reads back as it was, also one that names no VM: the version always travels."""
    assert verbs.read_request(wire.write(request_)) == request_


@pytest.mark.parametrize("wrong", [[b"A" * 15], ["A" * 16], [None], b"A" * 16, None, {VM: 1}])
def test_request_refuses(wrong: object) -> None:
    """A request whose ids are none is mistyped."""
    with pytest.raises(MistypedMessage):
        verbs.read_request(msgpack.packb({"version": 1, "vmIDs": wrong}))


@pytest.mark.parametrize("code", [*VERB_ERRORS, "new_code"])
@pytest.mark.parametrize("verb", Verb)
def test_failures_are_raised(verb: Verb, code: str) -> None:
    """A failure is raised as its class by its code, for every verb; a newer code as a plain VerbError."""
    with pytest.raises(VerbError, match="because") as caught:
        _read(verb, error={"code": code, "message": "because", "new": 1})
    assert type(caught.value) is VERB_ERRORS.get(code, VerbError)


def test_failures_are_shown_short() -> None:
    """A failure's sentence is cut to the length of a text."""
    with pytest.raises(VerbError) as caught:
        _read(Verb.LIST, error={"code": "not_ready", "message": "x" * 5000})
    assert len(str(caught.value)) == 256


@pytest.mark.parametrize("error", [["not_ready", "x"], "not_ready", {"code": "not_ready"}, {"code": 1, "message": "x"}])
def test_failures_of_another_shape(error: object) -> None:
    """An error of another shape is mistyped, not an answer."""
    with pytest.raises(MistypedMessage):
        _read(Verb.LIST, error=error)


@pytest.mark.parametrize("field", HEAD)
@pytest.mark.parametrize("wrong", [None, -1, 1.0, True, "1"])
def test_every_reply_has_its_head(field: str, wrong: object) -> None:
    """Epoch, asOf and the agent's time are integers of 0 or more in every reply."""
    with pytest.raises(MessageError):
        verbs.read_reply(Verb.LIST, msgpack.packb({**HEAD, field: wrong}))
    with pytest.raises(MessageError):
        verbs.read_reply(Verb.LIST, msgpack.packb({name: value for name, value in HEAD.items() if name != field}))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), -0.5, True, "1"])
def test_measured_numbers_are_finite(number: object) -> None:
    """NaN, infinity and negative shares are refused wherever a reply carries a measured number."""
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_HOST_STATS, stats={"cpuUser": number})
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ALL_RUNTIME_STATS, vms={VM: {"status": 1, "cpuUser": number}})
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ALL_DEVICE_STATS, vms={VM: {"disks": {"vda": {"readRate": number}}}})
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ALL_DEVICE_STATS, vms={VM: {"network": {"n": {"name": "n", "sampleTime": number}}}})


def test_whole_numbers_are_measured_numbers() -> None:
    """A whole number where a real one is expected is read: some encoders write 3.0 as 3."""
    reply = _read(Verb.GET_HOST_STATS, stats={"cpuUser": 3})
    assert isinstance(reply, verbs.HostStatsReply)
    assert reply.stats.cpu_user == 3.0


@pytest.mark.parametrize("verb", verbs.SECTION_OF_VERB)
def test_section_bodies_must_fit_their_hashes(verb: Verb) -> None:
    """A body with another hash is refused for every verb that carries bodies."""
    with pytest.raises(HashMismatch):
        _read(verb, vms={VM: [1, b"\x80"]})


@pytest.mark.parametrize("section", BODIED)
def test_section_bodies_must_be_sections(section: Section) -> None:
    """A body that fits its hash and is no such section is refused."""
    body = msgpack.packb([1])
    with pytest.raises(MistypedMessage):
        _read(verbs.VERB_OF_SECTION[section], vms={VM: [sections.section_hash(section, body), body]})


def test_config_is_any_bytes() -> None:
    """The configuration is read as it is: it has no structure here."""
    body = b"<domain/>"
    reply = _read(Verb.GET_CONFIG, vms={VM: [sections.section_hash(Section.CONFIG, body), body]})
    assert isinstance(reply, verbs.SectionReply)
    assert reply.vms[VM].body == body


@pytest.mark.parametrize("hashed", [0, -1, 1.0, "x"])
def test_announced_hashes(hashed: object) -> None:
    """A hash that is given is a hash; one that is not known is absent and never 0."""
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ALL_RUNTIME_STATS, vms={VM: {"status": 1, "hashes": {"info": hashed}}})


def test_a_roster_reply_has_a_roster() -> None:
    """A reply of getRoster with neither a roster nor an error is refused: silence is no empty host."""
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ROSTER)
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ROSTER, roster=None)


def test_a_roster_reply_is_checked_like_a_roster() -> None:
    """A roster that does not hold together is refused by verb as on the stream."""
    with pytest.raises(MistypedMessage):
        _read(Verb.GET_ROSTER, roster=[1, 1, {}, b"A" * 16, b"", b"", b""])


def test_newer_statuses_are_read() -> None:
    """A status that this version does not know reads as unknown."""
    reply = _read(Verb.LIST, vms={VM: {"status": 77, "new": 1}})
    assert isinstance(reply, verbs.ListReply)
    assert reply.vms[VM].status is VmStatus.UNKNOWN


def test_every_verb_has_one_shape() -> None:
    """Each verb has its reply, and each section its verb."""
    assert set(verbs.REPLIES) == set(Verb)
    assert {verbs.VERB_OF_SECTION[section] for section in Section} == set(verbs.SECTION_OF_VERB)
