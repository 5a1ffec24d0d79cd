"""The whole edge on a real libvirtd with real QEMU domains, and what happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import libvirt
import pytest

from tests.agent.libvirt_edge.following import Following, following
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.errors import HypervisorError, HypervisorUnavailable
from vmpulse_agent.hypervisor import ConnectionBack, ConnectionLost, Exit, LifecycleChange
from vmpulse_agent.libvirt_edge import LibvirtOptions, inspection, opening
from vmpulse_contract import sections
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import GuestDetails, Section
from vmpulse_contract.values import DisplayType, ExitCode, ExitReason, PauseCode, VmStatus

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(60),
]
NAMES = ("a", "b", "c")
VMS = {name: VmId(UUID(int=number + 1).bytes) for number, name in enumerate(NAMES)}
UNSEEN = {name: VmId(UUID(int=number + 50).bytes) for number, name in enumerate("de")}
CARD_MAC = "52:54:00:aa:bb:cc"
CARD = f"<interface type='bridge'><mac address='{CARD_MAC}'/><source bridge='lab0'/><model type='virtio'/></interface>"
TICK_S = 1.5
AWAY_S = 6.0
"""Longer than it takes until the pauses between attempts grow no more."""
BACK_S = 3.0
"""One tick, by default."""
USER = """
import sys, time
from pathlib import Path
import libvirt
from tests.lab.private_libvirt import PrivateLibvirt

node = PrivateLibvirt(Path(sys.argv[1]))
node.start()
libvirt.open(node.uri).createXML(node.light_domain("left"))
print(node.daemon_pid, node.domain_pid("left"), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """One daemon for all tests of this file; "a" and "b" run, "c" is only defined."""
    # Not pytest's own folder: its path may be too long for a socket.
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        admin = libvirt.open(started.uri)
        for name in NAMES:
            admin.defineXML(started.light_domain(name, uuid=UUID(bytes=VMS[name]), vnc=name == "a"))
        for name in ("a", "b"):
            admin.lookupByName(name).create()
        admin.close()
        yield started


@pytest.fixture
async def follower(node: PrivateLibvirt) -> AsyncIterator[Following]:
    """The edge, with a tick that makes hanging cheap."""
    options = LibvirtOptions(
        uri=node.uri,
        run_dir=node.run_dir,
        tick_s=TICK_S,
        keepalive_interval_s=1,
        keepalive_count=1,
        retry_first_s=0.02,
        retry_most_s=0.1,
    )
    async with following(options) as opened:
        yield opened


@pytest.fixture
async def admin(node: PrivateLibvirt, follower: Following) -> AsyncIterator[libvirt.virConnect]:
    """The one who does things."""
    assert follower.events == []
    connection = await asyncio.to_thread(libvirt.open, node.uri)
    yield connection
    await asyncio.to_thread(connection.close)


async def tokens(follower: Following) -> dict[VmId, int]:
    """Start tokens by VM."""
    return {domain.vm: domain.token for domain in (await follower.hypervisor.look()).domains}


async def answering(follower: Following, vm: VmId) -> None:
    """Wait until a monitor answers: a daemon that comes back has to take up its domains first."""
    async with asyncio.timeout(20):
        answered = False
        while not answered:
            await asyncio.sleep(0.02)
            with suppress(HypervisorError):
                answered = bool((domain := await follower.seen(vm)) and domain.answered)


async def test_look(node: PrivateLibvirt, follower: Following) -> None:
    """Running and defined domains; times from their processes."""
    a, c = await follower.seen(VMS["a"]), await follower.seen(VMS["c"])
    assert a is not None
    assert c is not None
    assert (a.status, a.answered, a.mem_usage) == (VmStatus.UP, True, None)
    assert a.cpu_time_ns
    assert a.cpu_system_ns is not None
    assert a.elapsed_ms is not None
    assert 0 <= a.elapsed_ms < 60_000
    assert (c.token, c.status, c.cpu_time_ns) == (0, VmStatus.DOWN, None)
    facts = await follower.hypervisor.facts()
    assert facts.host_uuid == node.host_uuid
    assert (facts.hypervisor_version or "").startswith("QEMU ")


async def test_sections(node: PrivateLibvirt, follower: Following) -> None:
    """All four, for a domain whose agent has not come."""
    reading = await follower.hypervisor.read(VMS["a"], frozenset(Section))
    info = reading.info
    assert info is not None
    assert (info.vm_name, info.pid, info.display_type) == ("a", node.domain_pid("a"), DisplayType.VNC)
    assert (info.display_ip, info.vm_type, info.kvm_enable) == ("127.0.0.1", "qemu", False)
    assert (info.display_port or 0) >= 5900
    assert reading.status is not None
    assert (reading.status.time_offset, reading.status.pause_code) == (0, None)
    assert reading.guest_details == GuestDetails()
    assert reading.config
    assert sections.encode(info)


async def test_config_is_the_same_up_and_down(follower: Following, admin: libvirt.virConnect) -> None:
    """A start fills in ports, aliases, labels and paths; none of that is configuration."""
    wanted = frozenset({Section.CONFIG})
    before = (await follower.hypervisor.read(VMS["c"], wanted)).config
    domain = await asyncio.to_thread(admin.lookupByUUID, VMS["c"])
    await asyncio.to_thread(domain.create)
    await follower.change(VMS["c"], LifecycleChange.STARTED)
    assert (await follower.hypervisor.read(VMS["c"], wanted)).config == before
    await asyncio.to_thread(domain.destroy)
    event = await follower.change(VMS["c"], LifecycleChange.STOPPED)
    assert event.exit == Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)


async def test_suspend_and_resume(follower: Following, admin: libvirt.virConnect) -> None:
    """An event, a status and a pause code."""
    domain = await asyncio.to_thread(admin.lookupByUUID, VMS["a"])
    await asyncio.to_thread(domain.suspend)
    await follower.change(VMS["a"], LifecycleChange.SUSPENDED)
    assert await follower.status(VMS["a"]) == "Paused"
    status = (await follower.hypervisor.read(VMS["a"], frozenset({Section.STATUS}))).status
    assert status is not None
    assert status.pause_code is PauseCode.NOERR
    await asyncio.to_thread(domain.resume)
    await follower.change(VMS["a"], LifecycleChange.RESUMED)
    assert await follower.status(VMS["a"]) == "Up"


async def test_reset_is_no_new_life(follower: Following, admin: libvirt.virConnect) -> None:
    """The same process goes on, and so does its token."""
    before = await tokens(follower)
    domain = await asyncio.to_thread(admin.lookupByUUID, VMS["a"])
    await asyncio.to_thread(domain.reset)
    await follower.change(VMS["a"], LifecycleChange.OTHER)
    assert await tokens(follower) == before


async def test_devices(follower: Following) -> None:
    """Disk, card and balloon, joined with the XML."""
    sample = await follower.hypervisor.device_sample()
    assert sample.domains.keys() == {VMS["a"], VMS["b"]}
    counters = sample.domains[VMS["a"]]
    async with asyncio.timeout(10):
        # The daemon may be busy with the domain for a moment: the guest's card has just been reset.
        while counters.disks[0].read_ops is None:
            counters = (await follower.hypervisor.device_sample()).domains[VMS["a"]]
    (disk,), (card,) = counters.disks, counters.network
    assert (disk.name, disk.image_id, disk.apparentsize) == ("vda", "disk-a", 1 << 20)
    assert disk.read_ops is not None
    assert card.name.startswith("vnet")
    assert (card.mac_addr or "").startswith("52:54:00")
    assert counters.balloon is not None
    assert (counters.balloon.balloon_cur, counters.balloon.ballooning_enabled) == (16384, True)
    assert counters.token == (await tokens(follower))[VMS["a"]]


async def test_killed_qemu(node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect) -> None:
    """An end in error; the next start is another life."""
    before = (await tokens(follower))[VMS["b"]]
    os.kill(node.domain_pid("b"), signal.SIGKILL)
    event = await follower.change(VMS["b"], LifecycleChange.STOPPED)
    assert event.exit == Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION)
    domain = await asyncio.to_thread(admin.lookupByUUID, VMS["b"])
    await asyncio.to_thread(domain.create)
    await follower.change(VMS["b"], LifecycleChange.STARTED)
    assert (await tokens(follower))[VMS["b"]] not in {0, before}


async def test_killed_daemon(node: PrivateLibvirt, follower: Following) -> None:
    """Lost, unavailable, back; the domains lived on and are the same."""
    before = await tokens(follower)
    node.kill()
    await follower.until(lambda event: isinstance(event, ConnectionLost))
    with pytest.raises(HypervisorUnavailable):
        await follower.hypervisor.look()
    await asyncio.to_thread(node.start)
    await follower.until(lambda event: isinstance(event, ConnectionBack))
    assert await tokens(follower) == before
    await answering(follower, VMS["a"])


async def test_what_began_and_changed_while_the_daemon_was_away(
    node: PrivateLibvirt, follower: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new life under the old number has another token and its own devices; one that went on keeps its token."""
    admin = await asyncio.to_thread(libvirt.open, node.uri)
    xmls = {name: node.light_domain(name, uuid=UUID(bytes=vm)) for name, vm in UNSEEN.items()}
    for name in ("e", "d"):
        await asyncio.to_thread(admin.defineXML, xmls[name])
        await asyncio.to_thread(admin.lookupByName(name).create)
    numbers = {name: admin.lookupByName(name).ID() for name in UNSEEN}
    for vm in UNSEEN.values():
        await answering(follower, vm)
    before = await tokens(follower)
    assert len((await follower.hypervisor.device_sample()).domains[UNSEEN["e"]].network) == 1
    await asyncio.to_thread(admin.lookupByName("d").destroy)
    await asyncio.to_thread(admin.close)
    opened = opening.Opener.open

    def away(*_: object, **_named: object) -> libvirt.virConnect:
        raise libvirt.libvirtError("away")

    monkeypatch.setattr(opening.Opener, "open", away)
    node.kill()
    await asyncio.to_thread(node.start)
    admin = await asyncio.to_thread(libvirt.open, node.uri)
    await asyncio.to_thread(admin.lookupByName("d").create)
    await asyncio.to_thread(admin.lookupByName("e").attachDeviceFlags, CARD, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    monkeypatch.setattr(opening.Opener, "open", opened)
    await follower.until(lambda event: isinstance(event, ConnectionBack))
    for vm in UNSEEN.values():
        await answering(follower, vm)
    after = await tokens(follower)
    assert {name: admin.lookupByName(name).ID() for name in UNSEEN} == numbers
    assert after[UNSEEN["e"]] == before[UNSEEN["e"]]
    assert after[UNSEEN["d"]] not in {0, before[UNSEEN["d"]]}
    async with asyncio.timeout(5):
        cards: list[str | None] = []
        while len(cards) < 2:
            cards = [nic.mac_addr for nic in (await follower.hypervisor.device_sample()).domains[UNSEEN["e"]].network]
    assert CARD_MAC in cards
    assert None not in cards
    for name in UNSEEN:
        await asyncio.to_thread(admin.lookupByName(name).destroy)
        await asyncio.to_thread(admin.lookupByName(name).undefine)
    await asyncio.to_thread(admin.close)


async def test_daemon_killed_during_a_look(node: PrivateLibvirt) -> None:
    """Whoever waits for a look is told that it failed, and is not cancelled: the agent's sampler must live on."""
    async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir, tick_s=20)) as follower:
        await follower.hypervisor.look()
        node.send(signal.SIGSTOP)
        looking = asyncio.create_task(follower.hypervisor.look())
        await asyncio.sleep(0.2)
        await asyncio.to_thread(node.kill)
        with pytest.raises(HypervisorUnavailable, match="lost"):
            await looking
        await asyncio.to_thread(node.start)
        await follower.until(lambda event: isinstance(event, ConnectionBack))


async def test_daemon_is_found_within_a_tick(node: PrivateLibvirt) -> None:
    """However long libvirt was away, the agent is back at once when its socket is, and then looks."""
    async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir)) as follower:
        for _ in range(2):
            node.kill()
            await follower.until(lambda event: isinstance(event, ConnectionLost))
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(node.start)
            began = time.monotonic()
            await follower.until(lambda event: isinstance(event, ConnectionBack))
            assert time.monotonic() - began < BACK_S
            assert (await follower.hypervisor.look(states_only=True)).domains


async def test_hung_daemon(node: PrivateLibvirt, follower: Following) -> None:
    """Keepalives end the waiting; afterwards everything is as before."""
    before = await tokens(follower)
    node.send(signal.SIGSTOP)
    try:
        with pytest.raises(HypervisorError):
            await follower.hypervisor.look()
        lost = await follower.until(lambda event: isinstance(event, ConnectionLost))
        assert isinstance(lost, ConnectionLost)
        assert "keepalive" in lost.why
    finally:
        node.send(signal.SIGCONT)
    await follower.until(lambda event: isinstance(event, ConnectionBack))
    assert await tokens(follower) == before


async def test_read_only_socket(node: PrivateLibvirt, caplog: pytest.LogCaptureFixture) -> None:
    """Everything but what only a guest can tell; and what is lacking is said, once."""
    options = LibvirtOptions(uri=node.uri_read_only, run_dir=node.run_dir)
    async with following(options._replace(uri=node.uri)) as follower:
        assert (follower.hypervisor.asks_guests, follower.hypervisor.lacking) == (True, None)
    async with following(options) as follower:
        assert not follower.hypervisor.asks_guests
        assert "read only access prevents" in (follower.hypervisor.lacking or "")
        assert (await tokens(follower))[VMS["a"]]
        reading = await follower.hypervisor.read(VMS["a"], frozenset(Section))
        assert reading.info
        assert reading.config
        assert (await follower.hypervisor.device_sample()).domains
    assert caplog.text.count("guest agents may not be asked") == 1


async def test_processes_are_inspected(node: PrivateLibvirt) -> None:
    """The check counts running domains and readable pid files, and finds none in a wrong folder."""
    options = LibvirtOptions(uri=node.uri, run_dir=node.run_dir)
    assert await asyncio.to_thread(inspection.processes, options) == (2, 2, [])
    elsewhere = options._replace(run_dir=Path("/no/such/folder"))
    assert (await asyncio.to_thread(inspection.processes, elsewhere)).readable == 0


def test_nothing_is_left_behind() -> None:
    """A second daemon beside the first; whoever used it is killed, and daemon, domains and folder are gone."""
    with TemporaryDirectory(prefix="lv") as folder:
        root = Path(folder) / "n"
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(root)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        assert user.stdout is not None
        pids = [int(word) for word in user.stdout.readline().split()]
        assert len(pids) == 2
        user.kill()
        user.wait()
        user.stdout.close()
        end = time.monotonic() + 10
        while root.exists() or any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.01)
