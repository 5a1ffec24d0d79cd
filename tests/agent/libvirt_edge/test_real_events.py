"""What libvirt announces of real domains, and how soon it is published."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import UUID

import libvirt
import pytest

from tests.lab import boot_sectors as boot
from tests.lab.private_libvirt import PrivateLibvirt, missing
from tests.waiting import eventually
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions, domain_xml
from vmpulse_agent.session import Outgoing, Policy
from vmpulse_contract import columns, sections
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import Section, Status, WatchdogEvent
from vmpulse_contract.stream import HostFacts, read_change, read_frame
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import WatchdogAction

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(120),
]
PATIENCE_S = 15.0
SOON_S = 0.1
ROUNDS = 3
"""A machine under load may be late; what is never soon is not published on the event."""
DAMPING_S = 0.5
NAMES = ("plain", "watched", "clock", "screen")
VMS = {name: VmId(UUID(int=number + 1).bytes) for number, name in enumerate(NAMES)}
VIEWER = """
import socket, sys
viewer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
viewer.recv(12)
for words, answer in ((b"RFB 003.008\\n", 64), (b"\\x01", 4), (b"\\x01", 200)):
    viewer.sendall(words)
    viewer.recv(answer)
sys.stdin.read()
"""
ADDRESS = "52:54:00:00:00:07"
CARD = f"<interface type='bridge'><mac address='{ADDRESS}'/><source bridge='lab0'/><model type='virtio'/></interface>"


class Announced(NamedTuple):
    """One event as another client of the same daemon hears it."""

    vm: VmId
    kind: int
    at: float


class Watch:
    """Catches what a host agent publishes, and beside it hears what libvirt announces."""

    def __init__(self) -> None:
        self.said: list[tuple[float, Outgoing]] = []
        self._statuses: list[int | None] = []
        self.announced: list[Announced] = []

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Take a message as the broker link does, and confirm changes at once."""
        if not self._is_idle(message):
            self.said.append((time.monotonic(), message))
        if message.change is not None:
            agent.confirmed(message.change, message.seq)

    def _is_idle(self, message: Outgoing) -> bool:
        """Whether it is a frame in which no status has changed."""
        if message.kind is not Kind.FRAME:
            return False
        frame = read_frame(message.body)
        before, self._statuses = self._statuses, columns.unpack(frame.status, frame.count)
        return before == self._statuses

    async def attach(self, agent: HostAgent) -> None:
        """Take messages from now on."""
        agent.link_up()

    async def detach(self, agent: HostAgent) -> None:
        """Nothing is kept for anybody."""

    def listen(self, connection: libvirt.virConnect, kinds: tuple[int, ...]) -> None:
        """Hear events of these kinds."""
        for kind in kinds:
            connection.domainEventRegisterAny(None, kind, self._heard(kind), None)

    def _heard(self, kind: int) -> Callable[..., None]:
        def heard(_: libvirt.virConnect, domain: libvirt.virDomain, *__: Any) -> None:
            self.announced.append(Announced(VmId(domain.UUID()), kind, time.monotonic()))

        return heard

    async def delay(self, vm: VmId, kind: int, what: Section | Kind, since: float) -> float:
        """How long after the event its section, frame or roster was said; waits for both."""

        def event() -> float | None:
            return next((one.at for one in self.announced if (one.vm, one.kind) == (vm, kind) and one.at > since), None)

        def said() -> float | None:
            return next((at for at, one in self.said if at > since and _is_of(one, vm, what)), None)

        announced = await eventually(event, PATIENCE_S)
        return await eventually(said, PATIENCE_S) - announced

    def status(self, vm: VmId) -> Status:
        """The status section as it was said last."""
        bodies = [read_change(one.body).body for _, one in self.said if _is_of(one, vm, Section.STATUS)]
        found = sections.decode(Section.STATUS, bodies[-1] or b"")
        assert isinstance(found, Status)
        return found


def _is_of(message: Outgoing, vm: VmId, what: Section | Kind) -> bool:
    if what is Kind.ROSTER:
        return message.kind in {Kind.ROSTER, Kind.ROSTER_CHANGE}
    if isinstance(what, Kind):
        return message.kind is what
    return message.change is not None and message.change == (vm, what)


def _another_hour() -> int:
    """One that it is not now, nor soon: a clock that is set to what it shows already changes nothing."""
    return (time.gmtime().tm_hour + 6) % 24


def _bcd(number: int) -> int:
    """As a real-time clock holds it: a digit in four bits."""
    return number // 10 << 4 | number % 10


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """One daemon; its domains are defined, and each boots what provokes its events."""
    # Not pytest's own folder: its path may be too long for a socket.
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        watchdog = "<watchdog model='ib700' action='none'/><memballoon"
        codes = {"watched": boot.watchdog_2s(), "clock": boot.wait(2) + boot.set_clock(4, _bcd(_another_hour()))}
        admin = libvirt.open(started.uri)
        for name in NAMES:
            xml = started.light_domain(name, uuid=UUID(bytes=VMS[name]), vnc=name == "screen")
            boot.write(started.root / "disks" / f"{name}.raw", codes.get(name, b""))
            admin.defineXML(xml.replace("<memballoon", watchdog))
        admin.close()
        yield started


@asynccontextmanager
async def watched(node: PrivateLibvirt) -> AsyncIterator[Watch]:
    """A host agent at work on the daemon."""
    watch = Watch()
    hypervisor = LibvirtHypervisor(LibvirtOptions(uri=node.uri, run_dir=node.run_dir))
    facts = HostFacts(fqdn="h1.example.org", agent_version="0", tick_ms=3000)
    agent = HostAgent(HostId("h1"), hypervisor, watch, facts=facts, policy=Policy(damping_s=DAMPING_S))
    task = asyncio.create_task(agent.run())
    await eventually(lambda: bool(watch.said), PATIENCE_S)
    ear = await asyncio.to_thread(libvirt.openReadOnly, node.uri)
    kinds = (
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG,
        libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE,
        libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS,
        libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    )
    await asyncio.to_thread(watch.listen, ear, kinds)
    try:
        yield watch
    finally:
        await asyncio.to_thread(ear.close)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Provoker:
    """Provokes each kind of event once, and measures how soon it was published."""

    def __init__(self, watch: Watch, admin: libvirt.virConnect, node: PrivateLibvirt, number: int) -> None:
        self.watch = watch
        self.admin = admin
        self.node = node
        self.number = number
        self.delays: dict[str, float] = {}

    async def measure(self, what: str, name: str, kind: int, said: Section | Kind, work: Awaitable[object]) -> None:
        """Do *work* and keep its delay."""
        await asyncio.sleep(2 * DAMPING_S)
        since = time.monotonic()
        await work
        self.delays[what] = await self.watch.delay(VMS[name], kind, said, since)

    async def lifecycle(self) -> None:
        """A life with a pause in it."""
        domain = self.admin.lookupByName("plain")
        lifecycle, status = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, Section.STATUS
        await self.measure("start", "plain", lifecycle, Kind.ROSTER, asyncio.to_thread(domain.create))
        await asyncio.sleep(1)
        await self.measure("suspend", "plain", lifecycle, Kind.FRAME, asyncio.to_thread(domain.suspend))
        await self.measure("resume, section", "plain", lifecycle, status, asyncio.to_thread(domain.resume))
        both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        metadata = libvirt.VIR_DOMAIN_METADATA_DESCRIPTION
        described = asyncio.to_thread(domain.setMetadata, metadata, f"round {self.number}", None, None, both)
        changed = libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE
        await self.measure("metadata", "plain", changed, Section.CONFIG, described)
        added = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED
        plugged = asyncio.to_thread(domain.attachDeviceFlags, CARD, both)
        await self.measure("device added", "plain", added, Section.CONFIG, plugged)
        await asyncio.to_thread(domain.detachDeviceFlags, CARD, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        await self.measure("stop", "plain", lifecycle, Kind.ROSTER, asyncio.to_thread(domain.destroy))

    async def watchdog(self) -> None:
        """A guest that arms its watchdog and feeds it not."""
        domain = self.admin.lookupByName("watched")
        kind = libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG
        begun = int(time.time())
        await self._after_start("watchdog", domain, kind)
        fired = self.watch.status(VMS["watched"]).watchdog_event
        assert isinstance(fired, WatchdogEvent)
        assert fired.action is WatchdogAction.NONE
        assert fired.time is not None
        assert begun <= fired.time <= time.time()
        await asyncio.to_thread(domain.destroy)

    async def clock(self) -> None:
        """A guest that sets its clock to another hour."""
        domain = self.admin.lookupByName("clock")
        await self._after_start("clock", domain, libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE)
        kept = domain_xml.facts(await asyncio.to_thread(domain.XMLDesc, 0)).time_offset
        said = self.watch.status(VMS["clock"]).time_offset
        assert kept is not None
        assert said is not None
        assert abs(kept - said) < 5
        await asyncio.to_thread(domain.destroy)

    async def _after_start(self, what: str, domain: libvirt.virDomain, kind: int) -> None:
        """What the guest does by itself, some time after its sections have been said for the first time."""
        since = time.monotonic()
        await asyncio.to_thread(domain.create)
        await eventually(lambda: any(one.kind == kind and one.at > since for one in self.watch.announced), PATIENCE_S)
        event = next(one for one in self.watch.announced if one.kind == kind and one.at > since)
        self.delays[what] = await self.watch.delay(VmId(domain.UUID()), kind, Section.STATUS, event.at - SOON_S)

    async def screen(self) -> None:
        """Somebody who looks at the screen, and goes."""
        domain = self.admin.lookupByName("screen")
        await asyncio.to_thread(domain.create)
        await asyncio.sleep(1)
        port = domain_xml.facts(await asyncio.to_thread(domain.XMLDesc, 0)).info.display_port
        words = ["nsenter", "-t", str(self.node.keeper_pid), "-n", sys.executable, "-c", VIEWER, str(port)]
        kind = libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS
        viewers: list[asyncio.subprocess.Process] = []

        async def look() -> None:
            viewers.append(await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE))

        async def leave() -> None:
            await viewers[0].communicate(b"")

        await self.measure("console client", "screen", kind, Section.STATUS, look())
        assert self.watch.status(VMS["screen"]).client_ip == "127.0.0.1"
        await self.measure("console client gone", "screen", kind, Section.STATUS, leave())
        assert self.watch.status(VMS["screen"]).client_ip is None
        await asyncio.to_thread(domain.destroy)


async def test_what_is_announced_is_published_within_100_ms(node: PrivateLibvirt) -> None:
    """From another client's callback to the message handed to the broker link, for each kind, in the best of rounds."""
    best: dict[str, float] = {}
    admin = await asyncio.to_thread(libvirt.open, node.uri)
    async with watched(node) as watch:
        for number in range(ROUNDS):
            provoker = Provoker(watch, admin, node, number)
            for provoke in (provoker.lifecycle, provoker.watchdog, provoker.clock, provoker.screen):
                await provoke()
            best = {what: min(delay, best.get(what, delay)) for what, delay in provoker.delays.items()}
            shown = {what: f"{1000 * delay:.0f} ms" for what, delay in sorted(provoker.delays.items())}
            slowest = max(provoker.delays, key=provoker.delays.__getitem__)
            sys.stdout.write(f"round {number}, slowest {slowest}: {shown}\n")
            if max(best.values()) < SOON_S:
                break
    await asyncio.to_thread(admin.close)
    assert {what: delay for what, delay in best.items() if delay >= SOON_S} == {}
