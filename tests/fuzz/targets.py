"""What is fuzzed: each decoder with the messages that it is meant for, and the errors that it may answer with.

A target raises for a fault only: an error that is not of the decoder's own tree, or state that an invalid message has
changed. Seeds are what the programs really say: the contract's golden files, libvirt's documents, recorded answers of
guest agents; tests/fuzz/corpus has what was found or built to hurt.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from tests.agent.libvirt_edge.recorded import ACTIVE_XML, GUEST_INFO, INACTIVE_XML
from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import HOST, live_table
from tests.contract import golden_messages
from vmpulse_agent.libvirt_edge import canonical_xml, domain_xml, guest_agent, guest_apps
from vmpulse_agent.libvirt_edge.safe_xml import XmlRefused
from vmpulse_agent.measures import Mended
from vmpulse_consumers.capture.records import Reading
from vmpulse_consumers.errors import CaptureUnreadable, TokensUnusable
from vmpulse_consumers.http.access import read_tokens
from vmpulse_consumers.http.queries import HostQuery, VmQuery, read
from vmpulse_consumers.http.refusals import Refused
from vmpulse_consumers.view.memory import read_host, read_transit, remembered
from vmpulse_contract import broker_url, device_door, devices, roster_change, sections, stream, topology, verbs, wire
from vmpulse_contract.errors import ContractError, MessageError, VerbError
from vmpulse_contract.sections import Section
from vmpulse_contract.verbs import Verb

TESTS: Final = Path(__file__).resolve().parents[1]
ADDRESSES: Final = {
    "eth0": {"addrs": [{"addr": "192.0.2.5", "prefix": 24, "type": 0}], "hwaddr": "52:54:00:c9:a7:5d"},
    "lo": {"addrs": None, "hwaddr": None},
}
"""As interfaceAddresses answers."""
SEQ: Final = 2
"""Where it stands in a stream message: after version and epoch."""
BASE: Final = 1
"""Where the difference of a roster, a message's last element, says to which layout it is."""
CORPUS: Final = Path(__file__).with_name("corpus")


class Target(NamedTuple):
    """A decoder. ``seeds``: messages that it takes."""

    name: str
    seeds: tuple[bytes, ...]
    decode: Callable[[bytes], object]


def corpus() -> tuple[bytes, ...]:
    """What was found or built to hurt; given to every target as it is, and mutated."""
    return tuple(path.read_bytes() for path in sorted(CORPUS.iterdir()))


def targets() -> list[Target]:
    """All of them; the view's has a view of its own."""
    golden = {path.stem: path.read_bytes() for path in sorted((TESTS / "contract" / "golden" / "1").iterdir())}
    return [*_stream(golden), *_answers(golden), *_documents(), *_readers(), _view()]


def _allowing(error: type[Exception], decode: Callable[[Any], object], raw: Any) -> None:
    with contextlib.suppress(error):
        decode(raw)


def _stream(golden: Mapping[str, bytes]) -> list[Target]:
    frames = (golden["frame"], golden["frame_40"])
    kinds: dict[str, tuple[tuple[bytes, ...], Callable[[bytes], object]]] = {
        "frame": (frames, stream.read_frame),
        "roster": ((golden["roster"],), stream.read_roster),
        "roster change": ((golden["rosterChange"],), roster_change.read_roster_change),
        "change": ((golden["change"],), stream.read_change),
        "goodbye": ((golden["goodbye"],), stream.read_goodbye),
        "devices": ((golden["devices"],), devices.read_devices),
        "device columns": ((golden["devices_columns"],), device_door.read_columns),
        "inflated columns": ((zlib.decompress(golden_messages.PACKED_COLUMNS.vms),), _read_inflated),
        "request": ((golden["request"],), verbs.read_request),
    }
    return [Target(name, seeds, partial(_allowing, MessageError, decode)) for name, (seeds, decode) in kinds.items()]


def _read_inflated(inflated: bytes) -> object:
    """Read device statistics that inflate to this: mutated, a zlib stream would hardly ever inflate."""
    return device_door.read_columns(msgpack.packb([wire.VERSION, 5, 6, 7, zlib.compress(inflated, 1)]))


def _answers(golden: Mapping[str, bytes]) -> list[Target]:
    seeds = (*(golden[name] for name in sorted(golden) if name.startswith("reply")), _roster_reply())
    found = [Target(f"reply {verb}", seeds, partial(_allowing, VerbError, partial(_answer, verb))) for verb in Verb]
    bodies = {
        Section.INFO: sections.encode(sections.Info(vm_name="web", pid=4242)),
        Section.STATUS: sections.encode(sections.Status(guest_ips=("10.0.0.2",), monitor_response=0)),
        Section.GUEST_DETAILS: sections.encode(sections.GuestDetails(apps_list=("vim-9.0",))),
    }
    return found + [
        Target(section.label, (body,), partial(_allowing, MessageError, partial(sections.decode, section)))
        for section, body in bodies.items()
    ]


def _answer(verb: Verb, raw: bytes) -> None:
    _allowing(MessageError, partial(verbs.read_reply, verb), raw)


def _roster_reply() -> bytes:
    """What a host answers to getRoster."""
    table = live_table()
    table.view.asking.relist(table.view.hosts[HOST])
    (request,) = table.view.drain_requests(table.now)
    return table.host.answer(request, table.now)


def _documents() -> list[Target]:
    """What comes from libvirt and from guests."""
    xml = (ACTIVE_XML.encode(), INACTIVE_XML.encode())
    return [
        Target("domain XML", xml, _domain),
        Target("guest agent", (json.dumps(GUEST_INFO).encode(), json.dumps(ADDRESSES).encode()), _guest),
        Target("guest packages", (b"vim\t9.0\nbash\t5.2-1\n", b"kernel-6.1\x00"), _packages),
    ]


def _domain(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    for read_xml in (domain_xml.facts, domain_xml.device_facts, canonical_xml.canonical_config):
        with contextlib.suppress(XmlRefused):
            read_xml(text)


def _guest(raw: bytes) -> None:
    """Libvirt's binding hands over Python values: as many kinds of them as the text still spells."""
    try:
        said = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return
    if isinstance(said, dict):
        guest_agent.facts(said, Mended())
    guest_agent.interfaces_of_addresses(said, Mended())


def _packages(raw: bytes) -> None:
    guest_apps.packages(raw, Mended())


def _readers() -> list[Target]:
    """What people and files say to the engine's side."""
    table = live_table()
    host = wire.write(remembered(table.view.hosts[HOST], table.view.vms, table.view.runtime))
    transit = wire.write((b"v" * 16, "h001", 3, None))
    query = b"status=Up&host=h001&label=a:b&sort=-cpu&limit=10&offset=3&text=x"
    hosts = b"state=live&label=a:b&limit=10&sort=-vms"
    tokens = b"# who\ngrafana read " + b"0" * 64 + b"\n"
    url = b"amqps://engine.view:secret@broker:5671/vhost"
    return [
        Target("store host", (host,), partial(_allowing, MessageError, read_host)),
        Target("store transit", (transit,), partial(_allowing, MessageError, read_transit)),
        Target("capture", (_capture(),), partial(_allowing, CaptureUnreadable, lambda raw: list(Reading().feed(raw)))),
        Target("VM query", (query,), partial(_allowing, Refused, partial(read, VmQuery))),
        Target("host query", (hosts,), partial(_allowing, Refused, partial(read, HostQuery))),
        Target("tokens", (tokens,), partial(_allowing, TokensUnusable, _tokens)),
        Target("broker URL", (url,), partial(_allowing, ContractError, _url)),
        Target("stream key", (b"h001", b"h001.info", b"h001.roster"), _key),
    ]


def _capture() -> bytes:
    from vmpulse_consumers.capture.records import Header, RecordKind, write_header, write_record  # noqa: PLC0415

    records = [write_record(1.0, RecordKind.TICK), write_record(2.0, RecordKind.RECEIVE, "x", "h001", None, b"y")]
    return write_header(Header("vmpulse", 0.5)) + b"".join(records)


def _tokens(raw: bytes) -> None:
    read_tokens(raw.decode("utf-8", "replace").splitlines(), "tokens")


def _url(raw: bytes) -> None:
    broker_url.parse("broker_url", raw.decode("utf-8", "replace"))


def _key(raw: bytes) -> None:
    for exchange in topology.EXCHANGES:
        with contextlib.suppress(MessageError):
            topology.parse_stream_key(exchange, raw.decode("utf-8", "replace"))


def _view() -> Target:
    """A live view, to which a host says mutated messages of every kind; another host must not notice."""
    fuzzed = _FuzzedView()
    return Target("view", tuple(fuzzed.seeds), fuzzed.receive)


class _FuzzedView:
    KEYS: Final = (
        (topology.RUNTIME, "host-0"),
        (topology.RUNTIME, "host-0.roster"),
        (topology.RUNTIME, "host-0.rosterChange"),
        (topology.CHANGES, "host-0.info"),
        (topology.CHANGES, "host-0.status"),
        (topology.DEVICES, "host-0"),
        (topology.DEVICES, "host-0.columns"),
        (topology.RUNTIME, "host-0.goodbye"),
    )

    def __init__(self) -> None:
        self._table = live_table(hosts=2)
        self._now = self._table.now
        self._number = 0
        self._other = self._row(self._table)
        self.seeds = [delivery.message.body for delivery in self._said()]

    def receive(self, raw: bytes) -> None:
        """Say it under the next key. Raises AssertionError if the other host's VM has changed."""
        self._number += 1
        self._now += 0.01
        raw = self._made_next(raw) if self._number % 2 else raw
        exchange, key = self.KEYS[self._number % len(self.KEYS)]
        with contextlib.suppress(MessageError):
            self._table.view.receive(exchange, key, "host-0", raw, self._now)
        self._table.view.drain_events()
        if not self._number % 1000:
            assert self._row(self._table) == self._other

    def _made_next(self, raw: bytes) -> bytes:
        """Give it the epoch and number that the view waits for, where it has such: else most are repeats."""
        try:
            value = msgpack.unpackb(raw, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return raw
        if isinstance(value, list) and len(value) > SEQ:
            host = self._table.view.hosts[HOST]
            value[SEQ - 1], value[SEQ] = host.epoch, host.seq + 1
            if isinstance(value[-1], list) and len(value[-1]) > BASE:
                value[-1][BASE] = host.layout
            raw = msgpack.packb(value)
        return raw

    def _said(self) -> list[Any]:
        host = self._table.host
        host.define_vm(vm_number(9))
        for domain in host.domains.values():
            domain.user = "somebody"
        host.tick(self._now + 3.0)
        host.reconnect(self._now + 3.0)
        host.report_devices(self._now + 3.0)
        said = list(host.queue)
        host.queue.clear()
        return said

    @staticmethod
    def _row(table: Table) -> object:
        other = table.view.hosts[next(name for name in table.view.hosts if name != HOST)]
        return other.vms, other.tokens, other.announced, other.bodies, other.state
