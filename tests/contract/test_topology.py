"""Addresses: what is published somewhere is read back as what it was, and other addresses are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_contract import topology
from vmpulse_contract.errors import MistypedMessage
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section
from vmpulse_contract.topology import Kind, StreamKey, parse_stream_key
from vmpulse_contract.verbs import Verb

HOST = HostId("h1")
hosts = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True).map(HostId)


@given(hosts, st.sampled_from(Section))
def test_stream_keys_parse_back(host: HostId, section: Section) -> None:
    """Every address that a host publishes to says again which host, kind and section it was made from."""
    runtime, changes = topology.RUNTIME, topology.CHANGES
    assert parse_stream_key(runtime, topology.frame_key(host)) == StreamKey(host, Kind.FRAME, None)
    assert parse_stream_key(runtime, topology.roster_key(host)) == StreamKey(host, Kind.ROSTER, None)
    assert parse_stream_key(runtime, topology.roster_change_key(host)) == StreamKey(host, Kind.ROSTER_CHANGE, None)
    assert parse_stream_key(runtime, topology.goodbye_key(host)) == StreamKey(host, Kind.GOODBYE, None)
    assert parse_stream_key(topology.DEVICES, topology.devices_key(host)) == StreamKey(
        host, Kind.DEVICES, None, columns=True
    )
    assert parse_stream_key(topology.DEVICES, topology.device_map_key(host)) == StreamKey(host, Kind.DEVICES, None)
    assert parse_stream_key(changes, topology.change_key(host, section)) == StreamKey(host, Kind.CHANGE, section)


@pytest.mark.parametrize(
    "exchange, key",
    [
        (topology.RUNTIME, ""),
        (topology.RUNTIME, "h1."),
        (topology.RUNTIME, ".roster"),
        (topology.RUNTIME, "h1.roster."),
        (topology.RUNTIME, "h1.roster.x"),
        (topology.RUNTIME, "h1..roster"),
        (topology.RUNTIME, "H1"),
        (topology.RUNTIME, "h1.status"),
        (topology.RUNTIME, "a" * 64),
        (topology.CHANGES, "h1"),
        (topology.CHANGES, "h1."),
        (topology.CHANGES, "h1.roster"),
        (topology.CHANGES, "h1.Status"),
        (topology.CHANGES, "h1.status.x"),
        (topology.DEVICES, "h1.roster"),
        (topology.DEVICES, "h1.columns.x"),
        (topology.RUNTIME, "h1.columns"),
        (topology.CHANGES, "h1.columns"),
        (topology.DEVICES, "h1.Devices"),
        (topology.DEVICES, "h1.devices.x"),
        (topology.FLEET, "h1"),
        ("", "h1"),
    ],
)
def test_other_addresses_are_refused(exchange: str, key: str) -> None:
    """An address that no agent uses is mistyped."""
    with pytest.raises(MistypedMessage):
        parse_stream_key(exchange, key)


@pytest.mark.parametrize("exchange", [topology.RUNTIME, topology.CHANGES, topology.DEVICES])
def test_kinds_to_come_are_known_as_such(exchange: str) -> None:
    """A second word that no version so far uses is one of a newer version, and still its host's."""
    assert parse_stream_key(exchange, "h1.forecast2") == StreamKey(HostId("h1"), None, None)


@given(st.text(max_size=80))
def test_any_key_parses_or_is_refused(key: str) -> None:
    """A routing key is the address of a stream message or mistyped, and what it says makes the same key again."""
    try:
        parsed = parse_stream_key(topology.RUNTIME, key)
    except MistypedMessage:
        return
    makers = {
        Kind.FRAME: topology.frame_key,
        Kind.ROSTER: topology.roster_key,
        Kind.ROSTER_CHANGE: topology.roster_change_key,
        Kind.GOODBYE: topology.goodbye_key,
    }
    assert key.startswith(f"{parsed.host}.") if parsed.kind is None else makers[parsed.kind](parsed.host) == key


def _matches(pattern: str, key: str) -> bool:
    """Match as a topic exchange does: ``*`` is one word, ``#`` any number of them."""
    expression = re.escape(pattern).replace(r"\*", r"[^.]+").replace(r"\#", ".*")
    return re.fullmatch(expression, key) is not None


@pytest.mark.parametrize("verb", Verb)
def test_requests_and_replies_find_their_queues(verb: Verb) -> None:
    """A host's queue is bound to each verb of its own and of no other host; an asker's to its token from any host."""
    ((exchange, pattern),) = topology.rpc_queue(HOST).bindings
    assert exchange == topology.RPC
    assert _matches(pattern, topology.request_key(HOST, verb))
    assert not _matches(pattern, topology.request_key(HostId("h2"), verb))
    ((exchange, pattern),) = topology.reply_queue("tok").bindings
    assert exchange == topology.REPLIES
    assert _matches(pattern, topology.reply_key(HOST, "tok"))
    assert not _matches(pattern, topology.reply_key(HOST, "other"))


def test_view_queue_takes_the_stream_and_its_own_canaries() -> None:
    """A view's queue is bound to the whole stream and to the canaries of its name, and of no other."""
    bindings = topology.view_queue("v1").bindings
    assert (topology.RUNTIME, "#") in bindings
    assert (topology.CHANGES, "#") in bindings
    assert (topology.DEVICES, "#") in bindings
    (fleet,) = [pattern for exchange, pattern in bindings if exchange == topology.FLEET]
    assert _matches(fleet, topology.canary_key("v1", "a"))
    assert not _matches(fleet, topology.canary_key("v2", "a"))


@pytest.mark.parametrize("queue", [topology.view_queue("v1"), topology.dead_queue()], ids=lambda queue: queue.name)
def test_queues_that_outlive_their_reader_are_bounded(queue: topology.Queue) -> None:
    """A durable queue holds a bounded number of messages and drops the oldest."""
    assert queue.durable
    assert not queue.exclusive
    assert queue.arguments["x-max-length"]
    assert queue.arguments["x-overflow"] == "drop-head"
    assert "x-dead-letter-exchange" not in queue.arguments


@pytest.mark.parametrize("queue", [topology.rpc_queue(HOST), topology.reply_queue("t")], ids=lambda queue: queue.name)
def test_other_queues_are_exclusive(queue: topology.Queue) -> None:
    """A queue that is not durable belongs to one connection: transient and shared is never used."""
    assert queue.exclusive
    assert not queue.durable


def test_bindings_name_declared_exchanges() -> None:
    """Every binding is to an exchange that is declared."""
    queues = [topology.view_queue("v"), topology.rpc_queue(HOST), topology.reply_queue("t"), topology.dead_queue()]
    assert {exchange for queue in queues for exchange, _ in queue.bindings} <= set(topology.EXCHANGES)
