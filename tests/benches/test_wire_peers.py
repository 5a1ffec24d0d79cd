"""The pollers of the wire bench: they say what the fleet is, ask what they are said to ask, and are counted rightly."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benches.wire.ages import Ages
from benches.wire.peers.__main__ import PEERS, measured
from benches.wire.peers.calls import JsonCodec, Station, XmlCodec
from benches.wire.peers.engine import Polled, Recipe
from benches.wire.peers.exporter import METRICS, OF_DEVICES, RUNTIME, Exported, text_of
from benches.wire.peers.http_wire import HttpClient, HttpHost, Relays, Reply
from benches.wire.peers.peer import Held
from benches.wire.peers.seed import Pulled
from benches.wire.peers.stomp import StompClient
from benches.wire.peers.stomp_host import StompHost
from benches.wire.peers.world import BEGINS_AT, PolledHost, Size, World
from vmpulse_agent.hypervisor import Look
from vmpulse_agent.session import Session
from vmpulse_contract import columns, stream
from vmpulse_contract.identity import HostId, vm_text
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import Frame, HostFacts
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import STATUS_LABELS, VmStatus
from vmpulse_simulator.dynamics import EXITS
from vmpulse_simulator.lots import Lots

SIZE = Size(hosts=4, vms=12, seed=5, asked=1)
Values = dict[str, tuple[str, float, float, float]]
"""By VM: status, cpuUser, cpuSys, memUsage; 0 where unknown, as VDSM has it."""
TCP_INFO_RECEIVED, TCP_INFO_SENT = 128, 200
"""Where Linux has bytes_received and bytes_sent in tcp_info (linux/tcp.h)."""


@pytest.fixture
def relays() -> Iterator[Relays]:
    """Relays for one test."""
    with Relays() as made:
        yield made


def session_of(host: PolledHost, world: World, session: Session) -> None:
    """One look of vmpulse's agent at the host, now."""
    looks = [domain.look(world.now) for domain in host.hypervisor.domains.values()]
    session.looked(Look(world.now, looks), world.now)


def of_frame(frame: Frame, session: Session) -> Values:
    """What a frame says of VMs that run."""
    told = [columns.unpack(column, frame.count) for column in frame.columns[:4]]
    rows = zip(session.ledger.order, *told, strict=True)
    return {
        vm_text(row.vm): (STATUS_LABELS[status or 0], (user or 0) / 10, (system or 0) / 10, memory or 0)
        for row, status, user, system, memory in rows
        if status != VmStatus.DOWN
    }


def of_entries(entries: list[dict[str, str]]) -> Values:
    """What VDSM's entries say."""
    return {
        entry["vmId"]: (entry["status"], float(entry["cpuUser"]), float(entry["cpuSys"]), float(entry["memUsage"]))
        for entry in entries
        if entry["status"] != "Down"
    }


def of_page(exported: Exported) -> Values:
    """What an exporter's page says."""
    samples = {
        (sample.labels["vm"], sample.name): sample.value
        for family in exported.scrape(METRICS)
        for sample in family.samples
    }
    names = ("vm_cpu_user_percent", "vm_cpu_sys_percent", "vm_memory_usage_percent")
    return {
        vm: (STATUS_LABELS[int(value)], *(samples.get((vm, each), 0.0) for each in names))  # type: ignore[misc]
        for (vm, name), value in samples.items()
        if name == "vm_status" and value != VmStatus.DOWN
    }


def test_all_say_the_same_of_every_vm(relays: Relays) -> None:
    """Status, CPU and memory of each VM read the same over XML-RPC, STOMP, JSON, Prometheus and vmpulse's frames."""
    world = World(SIZE, None)
    (host,) = world.hosts
    session = Session(HostId("h"), 1, HostFacts(), world.now)
    session.connected(world.now)
    for at in (BEGINS_AT + 0.5, BEGINS_AT + 3.5):
        world.advance(at)
        host.sample()
        session_of(host, world, session)
    session.begin(world.now)
    (raw,) = [message.body for message in session.drain() if message.kind is Kind.FRAME]
    expected = of_frame(stream.read_frame(raw), session)
    assert len(expected) > SIZE.vms / 2
    assert max(user for _, user, _, _ in expected.values()) > 5000

    def close_to(values: Values) -> bool:
        return values.keys() == expected.keys() and all(values[vm] == pytest.approx(expected[vm]) for vm in values)

    held = Held(Ages())
    for recipe in (Recipe(), Recipe(today=True), Recipe(fake=True)):
        polled = Polled(host, world, recipe, relays, hashes={}, held=held)
        assert close_to(of_entries(polled.ask_all()))
        polled.station.close()
    for codec in (XmlCodec(), JsonCodec()):
        pulled = Pulled(host, world, codec, held, relays)
        told = [{"vmId": vm} | record for vm, record in pulled.pull().items()]
        assert close_to(of_entries(told))
        pulled.station.close()
    server = StompHost(host, world)
    client = StompClient(relays.to(server.port))
    assert close_to(of_entries(client.ask(0)))
    client.close()
    server.close()
    exported = Exported(host, relays)
    assert close_to(of_page(exported))
    exported.close()


def test_the_relay_counts_what_the_kernel_counts(relays: Relays) -> None:
    """Bytes through the relay are those that the client's socket sent and received, by the kernel's own count."""
    server = HttpHost(lambda _, asked: Reply("text/plain", asked * 1000))
    client = HttpClient(relays.to(server.port))
    for size in (1, 10, 200):
        assert client.post("/RPC2", b"x" * size, "text/plain") == b"x" * size * 1000
    connected = client._connection.sock
    assert isinstance(connected, socket.socket)
    info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    received, sent = (struct.unpack_from("<Q", info, at)[0] for at in (TCP_INFO_RECEIVED, TCP_INFO_SENT))
    client.close()
    server.close()
    traffic = relays.all[0].traffic
    assert (traffic.up.bytes, traffic.down.bytes) == (sent, received)
    assert received > 211_000


def test_gzip_only_for_who_asks(relays: Relays) -> None:
    """A page is compressed, and a call's reply is not."""
    text = b"vm_status 1\n" * 500
    server = HttpHost(lambda *_: Reply("text/plain", text))
    client = HttpClient(relays.to(server.port))
    page = client.get("/metrics")
    assert gzip.decompress(page) == text
    assert len(page) < len(text) / 10
    assert client.post("/RPC2", b"", "text/xml") == text
    client.close()
    server.close()


@pytest.mark.parametrize("codec", [XmlCodec(), XmlCodec(compact=True), JsonCodec()], ids=["xml", "compact", "json"])
def test_calls_come_through(codec: XmlCodec | JsonCodec, relays: Relays) -> None:
    """Arguments and results are what they were, and two messages are counted for a call."""
    result = {"text": "a<b & ü", "number": 5, "real": 1.5, "flag": True, "list": [{"x": ""}], "map": {}}
    station = Station({"echo": lambda *given: [result, *given]}, codec, relays)
    assert station.call("echo", "one", 2) == [result, "one", 2]
    assert station.messages == 2
    assert station.cpu_s > 0
    station.close()


def test_an_engine_fetches_what_has_another_hash(relays: Relays) -> None:
    """The real engine asks for the one VM that was edited; with the fake's hashes for all of them, each time."""
    world = World(SIZE, None)
    (host,) = world.hosts
    host.sample()
    domain = next(domain for domain in host.hypervisor.domains.values() if domain.life)
    real = Polled(host, world, Recipe(), relays, hashes={}, held=Held(Ages()))
    fake = Polled(host, world, Recipe(fake=True), relays, hashes={}, held=Held(Ages()))
    asked: list[int] = []
    for polled in (real, fake):
        before = [polled.station.messages]
        for _ in range(2):
            polled.ask_all()
            before.append(polled.station.messages)
        domain.edit()
        polled.ask_all()
        before.append(polled.station.messages)
        asked += [later - earlier for earlier, later in pairwise(before)]
        polled.station.close()
    assert asked == [4, 4, 6, 6, 6, 6]


def test_the_seed_pulls_sections_once(relays: Relays) -> None:
    """All sections at first, none when nothing has changed, and the one that did."""
    world = World(SIZE, None)
    (host,) = world.hosts
    pulled = Pulled(host, world, JsonCodec(), Held(Ages()), relays)
    counts = []
    for act in (None, None, "log in"):
        if act:
            domain = next(each for each in host.hypervisor.domains.values() if each.agent_answers)
            domain.guest.log_in(Lots(7))
        before = pulled.station.messages
        pulled.pull()
        counts.append(pulled.station.messages - before)
    pulled.station.close()
    assert counts == [8, 2, 4]


def test_events_of_today(relays: Relays) -> None:
    """A change of a status is told by an event before the next answer, and a change of a section by none."""
    world = World(SIZE, None)
    (host,) = world.hosts
    host.sample()
    server = StompHost(host, world)
    client = StompClient(relays.to(server.port))
    client.ask(0)
    host.events.clear()
    vm = next(vm for vm in host.hypervisor.domains if host.hypervisor.running(vm))
    host.hypervisor.changed(vm, Section.STATUS)
    assert server.tell_events() == 0
    host.hypervisor.power_off(vm, EXITS[0][0])
    events = server.tell_events()
    assert events == 1
    assert vm_text(vm) in {entry["vmId"] for entry in client.ask(events)}
    assert client.messages == 2 + 3
    client.close()
    server.close()


def test_exporter_pages_parse() -> None:
    """Every line of both pages is one that Prometheus' parser takes, whatever names and addresses guests have."""
    world = World(SIZE, None)
    world.hosts[0].sample()
    for metrics in (RUNTIME, OF_DEVICES):
        families = list(text_string_to_metric_families(text_of(world.hosts[0], metrics)))
        assert len(families) == len(metrics)
        assert all(family.samples for family in families)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_is_measured(name: str) -> None:
    """A minute of two hosts: bytes, messages and CPU are there, and values are as old as the cadence says."""
    outcome = measured(PEERS[name], Size(4, 6, 5, 2), 60.0)
    assert outcome.hosts == 2
    assert outcome.bytes > 20_000
    assert outcome.cpu_s > 0
    cycles = {"as_captured": 12, "as_captured_all_vms": 12, "vdsm_today": 5}.get(name, 21)
    assert outcome.messages >= 2 * 2 * cycles
    prompt = name.startswith(("seed", "prometheus"))
    assert (outcome.freshness.p99_s <= 3.0) == prompt
    assert 1.3 < outcome.freshness.mean_s < (1.6 if prompt else 25)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """What two runs of one peer move is the same to a byte."""
    runs = [measured(PEERS["vdsm_today"], Size(4, 6, 5, 2), 45.0) for _ in range(2)]
    assert runs[0].bytes == runs[1].bytes
