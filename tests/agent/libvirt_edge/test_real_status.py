"""What libvirt really shows of domains that are saved, restored, dumped, switched off, put to sleep or out of disk."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import libvirt
import pytest

from tests.agent.libvirt_edge.following import Following, following
from tests.lab import boot_sectors as boot
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.errors import HypervisorTimeout
from vmpulse_agent.hypervisor import Exit, LifecycleChange
from vmpulse_agent.libvirt_edge import LibvirtOptions
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(90),
]
PATIENCE_S = 20.0
FILLED_MIB = 192
"""A domain with so much in its memory takes a few tenths of a second to save."""
DISK_BYTES = 32 << 20
LOST = Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION)
BY_GUEST = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """One daemon for all tests of this file."""
    # Not pytest's own folder: its path may be too long for a socket.
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        yield started


@pytest.fixture
async def follower(node: PrivateLibvirt) -> AsyncIterator[Following]:
    """The edge."""
    async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir)) as follower:
        yield follower


@pytest.fixture
def admin(node: PrivateLibvirt) -> Iterator[libvirt.virConnect]:
    """Who changes domains."""
    connection = libvirt.open(node.uri)
    yield connection
    connection.close()


def booting(node: PrivateLibvirt, name: str, code: bytes, *, devices: str = "", before: str = "", mib: int = 16) -> str:
    """XML of a light domain that boots this code. *before* goes before its devices."""
    xml = node.light_domain(name, uuid=uuid4(), memory_mib=mib)
    boot.write(node.root / "disks" / f"{name}.raw", code)
    return xml.replace("<features>", f"{before}<features>").replace("<memballoon", f"{devices}<memballoon")


@asynccontextmanager
async def domain(admin: libvirt.virConnect, xml: str, *, defined: bool = False) -> AsyncIterator[libvirt.virDomain]:
    """Start a domain, and leave nothing of it."""
    if defined:
        started = await asyncio.to_thread(admin.defineXML, xml)
        await asyncio.to_thread(started.create)
    else:
        started = await asyncio.to_thread(admin.createXML, xml)
    try:
        yield started
    finally:
        await asyncio.to_thread(_remove, started)


def _remove(started: libvirt.virDomain) -> None:
    for work in (started.destroy, started.undefine):
        try:
            work()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}:
                raise


def vm_of(started: libvirt.virDomain) -> VmId:
    """Its id in the contract."""
    return VmId(started.UUID())


async def shown_during(follower: Following, vm: VmId, work: Callable[[], object]) -> list[str | None]:
    """All statuses that looks show, one after the other, while *work* goes on in a thread and for a moment after it."""
    shown: list[str | None] = []
    task = asyncio.create_task(asyncio.to_thread(work))
    end = float("inf")
    while time.monotonic() < end:
        look = await follower.hypervisor.look(states_only=True)
        seen = next((one.status.label for one in look.domains if one.vm == vm), None)
        if not shown or shown[-1] != seen:
            shown.append(seen)
        if task.done() and end == float("inf"):
            end = time.monotonic() + 0.3
    await task
    return shown


async def until_status(follower: Following, vm: VmId, wanted: str | None) -> None:
    """Wait for a status."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            # A look may be late on a busy machine; the next one shows it.
            with suppress(HypervisorTimeout):
                if await follower.status(vm) == wanted:
                    return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def one_life(follower: Following, vm: VmId) -> AsyncIterator[None]:
    """After the block the domain is Up, in the life in which it was before."""
    before = await follower.seen(vm)
    yield
    after = await follower.seen(vm)
    assert before is not None
    assert after is not None
    assert (before.token, after.status.label) == (after.token, "Up")


async def pause_code(follower: Following, vm: VmId) -> PauseCode | None:
    """Its pause code as a reading gives it."""
    status = (await follower.hypervisor.read(vm, frozenset({Section.STATUS}))).status
    assert status is not None
    return status.pause_code


def filled(node: PrivateLibvirt, name: str) -> str:
    """A domain that has something to save."""
    code = boot.fill_memory(FILLED_MIB - 4)
    return booting(node, name, code, mib=FILLED_MIB)


async def until_filled(node: PrivateLibvirt, name: str) -> None:
    """Wait until the guest has filled its memory."""

    def resident_kib() -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{node.domain_pid(name)}/status").read_text())
        return int(found[1]) if found else 0

    async with asyncio.timeout(PATIENCE_S):
        while resident_kib() < FILLED_MIB << 10:
            await asyncio.sleep(0.05)


async def test_save_and_restore(node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect) -> None:
    """Saving State while it is saved, never a migration; restored it is Up in the end."""
    path = str(node.root / "saved")
    async with domain(admin, filled(node, "save"), defined=True) as saved:
        vm = vm_of(saved)
        await until_filled(node, "save")
        assert await shown_during(follower, vm, lambda: saved.save(path)) == ["Up", "Saving State", "Down"]
        ended = await follower.change(vm, LifecycleChange.STOPPED)
        assert ended.exit == Exit(ExitCode.NORMAL, ExitReason.SAVE_STATE_SUCCEEDED)
        shown = await shown_during(follower, vm, lambda: admin.restore(path))
        assert shown[-1] == "Up"
        assert set(shown) <= {"Down", "WaitForLaunch", "Restoring state", "Up"}


async def test_saved_and_restored_while_paused(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect
) -> None:
    """A paused domain keeps its state while it is saved, and a reason of migrations when it is restored."""
    path = str(node.root / "saved-paused")
    async with domain(admin, filled(node, "paused"), defined=True) as saved:
        vm = vm_of(saved)
        await until_filled(node, "paused")
        await asyncio.to_thread(saved.suspend)
        shown = await shown_during(follower, vm, lambda: saved.save(path))
        assert shown == ["Paused", "Saving State", "Down"]
        shown = await shown_during(follower, vm, lambda: admin.restore(path))
        assert set(shown) <= {"Down", "WaitForLaunch", "Restoring state", "Paused"}
        assert shown[-1] == "Paused"
        state = await asyncio.to_thread(saved.state)
        assert tuple(state) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
        async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir)) as another:
            await until_status(another, vm, "Paused")


async def test_a_live_dump_is_no_migration(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect
) -> None:
    """It iterates over the memory as a migration does, and is announced so."""
    dump = node.root / "dump"
    async with domain(admin, filled(node, "dump")) as dumped:
        await until_filled(node, "dump")
        shown = await shown_during(follower, vm_of(dumped), lambda: dumped.coreDump(str(dump), libvirt.VIR_DUMP_LIVE))
        dump.unlink()
        assert (shown[0], shown[-1]) == ("Up", "Up")
        assert set(shown) <= {"Up", "Paused"}


@pytest.mark.parametrize(
    "code,devices,before,expected",
    [
        pytest.param(boot.power_off(), "", "", BY_GUEST, id="off"),
        pytest.param(boot.reboot(), "", "<on_reboot>destroy</on_reboot>", BY_GUEST, id="reboot-destroys"),
        pytest.param(boot.panic(), "<panic model='isa'/>", "<on_crash>destroy</on_crash>", LOST, id="panic"),
        pytest.param(boot.watchdog_2s(), "<watchdog model='ib700' action='poweroff'/>", "", LOST, id="watchdog"),
    ],
)
async def test_ends_by_the_guest(  # noqa: PLR0917 - fixtures and one case
    node: PrivateLibvirt,
    follower: Following,
    admin: libvirt.virConnect,
    code: bytes,
    devices: str,
    before: str,
    expected: Exit,
) -> None:
    """Each of these ends has its exit code and reason."""
    async with domain(admin, booting(node, "ends", code, devices=devices, before=before)) as ended:
        assert (await follower.change(vm_of(ended), LifecycleChange.STOPPED)).exit == expected


@pytest.mark.parametrize(
    "end,expected",
    [
        (signal.SIGTERM, Exit(ExitCode.ERROR, ExitReason.HOST_SHUTDOWN)),
        (signal.SIGKILL, LOST),
        (None, Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)),
    ],
)
async def test_ends_by_the_host(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect, end: signal.Signals | None, expected: Exit
) -> None:
    """A signal as at the host's shutdown, a killed process, and virsh destroy, which also begins with a signal."""
    async with domain(admin, booting(node, "signal", b"")) as ended:
        if end is None:
            await asyncio.to_thread(ended.destroy)
        else:
            os.kill(node.domain_pid("signal"), end)
        assert (await follower.change(vm_of(ended), LifecycleChange.STOPPED)).exit == expected


async def test_a_guest_that_panicked_and_is_kept(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect
) -> None:
    """Its process holds its disks: Paused, not Down."""
    xml = booting(node, "kept", boot.panic(), devices="<panic model='isa'/>", before="<on_crash>preserve</on_crash>")
    async with domain(admin, xml) as kept:
        await until_status(follower, vm_of(kept), "Paused")
        assert (await asyncio.to_thread(kept.state))[0] == libvirt.VIR_DOMAIN_CRASHED


async def test_sleep_and_waking(node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect) -> None:
    """A guest that sleeps is Paused; its waking is called a start, and is no new life."""
    xml = booting(node, "sleep", boot.sleep_s3(), before="<pm><suspend-to-mem enabled='yes'/></pm>")
    async with domain(admin, xml) as slept:
        vm = vm_of(slept)
        await until_status(follower, vm, "Paused")
        async with one_life(follower, vm):
            await asyncio.to_thread(slept.pMWakeup)
            await follower.change(vm, LifecycleChange.RESUMED)


async def test_reboot_of_a_guest_without_an_agent(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect
) -> None:
    """Nothing would tell that it is over, so it is Up all the while, in one life."""
    xml = booting(node, "reboot", boot.wait(0.5) + boot.reboot())
    async with domain(admin, xml) as rebooted, one_life(follower, vm_of(rebooted)):
        await follower.change(vm_of(rebooted), LifecycleChange.OTHER)


async def test_disk_is_full_until_it_grows(
    node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect
) -> None:
    """ENOSPC by event and by question; resumed with room it is Up, without a pause code."""
    folder = node.root / "tiny"
    folder.mkdir()
    _in_node(node, "mount", "-t", "tmpfs", "-o", "size=64k", "tiny", str(folder))
    image = folder / "disk.raw"
    _in_node(node, "truncate", "-s", str(DISK_BYTES), str(image))
    _in_node(node, "dd", f"of={image}", "conv=notrunc", given=boot.boot_sector(boot.write_disk()))
    xml = booting(node, "full", b"").replace(str(node.root / "disks" / "full.raw"), str(image))
    async with domain(admin, xml.replace("type='raw'/>", "type='raw' error_policy='stop'/>")) as full:
        vm = vm_of(full)
        await follower.change(vm, LifecycleChange.SUSPENDED)
        assert (await follower.status(vm), await pause_code(follower, vm)) == ("Paused", PauseCode.ENOSPC)
        async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir)) as another:
            assert await pause_code(another, vm) is PauseCode.ENOSPC
        _in_node(node, "mount", "-o", f"remount,size={DISK_BYTES}", str(folder))
        await asyncio.to_thread(full.resume)
        await follower.change(vm, LifecycleChange.RESUMED)
        assert (await follower.status(vm), await pause_code(follower, vm)) == ("Up", None)
    _in_node(node, "umount", str(folder))


@pytest.mark.parametrize("export", ["disk", ""])
async def test_disk_error(node: PrivateLibvirt, follower: Following, admin: libvirt.virConnect, export: str) -> None:
    """EIO from a disk: libvirt 9 has no word for it, so nothing more is said than that it is an I/O error.

    Of a disk without an export name it does not even announce the error, but it can be asked.
    """
    named = f"name='{export}'" if export else ""
    with failing_disk(node, export) as socket:
        disk = (
            "<disk type='network' device='disk'><driver name='qemu' type='raw' error_policy='stop'/>"
            f"<source protocol='nbd' {named}><host transport='unix' socket='{socket}'/>"
            "</source><target dev='vda' bus='virtio'/></disk>"
        )
        xml = re.sub(r"<disk .*?</disk>", disk, booting(node, "failing", b""), flags=re.DOTALL)
        async with domain(admin, xml) as failing:
            vm = vm_of(failing)
            await follower.change(vm, LifecycleChange.SUSPENDED)
            assert (await follower.status(vm), await pause_code(follower, vm)) == ("Paused", PauseCode.EOTHER)
            await asyncio.to_thread(failing.resume)
            await follower.change(vm, LifecycleChange.RESUMED)
            assert (await follower.status(vm), await pause_code(follower, vm)) == ("Up", None)


@contextmanager
def failing_disk(node: PrivateLibvirt, export: str) -> Iterator[Path]:
    """An NBD server whose disk boots a guest that writes, and fails its first write with EIO; gives its socket."""
    image, socket = node.root / "disks" / "exported.raw", node.root / "nbd.sock"
    image.parent.mkdir(exist_ok=True)
    image.touch()
    os.truncate(image, DISK_BYTES)
    boot.write(image, boot.write_disk())
    fault = {"event": "none", "iotype": "write", "errno": 5, "once": True}
    disk = {"driver": "blkdebug", "inject-error": [fault], "image": {"driver": "file", "filename": str(image)}}
    server = subprocess.Popen(["qemu-nbd", "-t", "-x", export, "-k", str(socket), f"json:{json.dumps(disk)}"])
    try:
        end = time.monotonic() + PATIENCE_S
        while not socket.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        yield socket
    finally:
        server.terminate()
        server.wait()


def _in_node(node: PrivateLibvirt, *words: str, given: bytes = b"") -> None:
    """Run a command where QEMU sees its files."""
    entered = ["nsenter", "-t", str(node.keeper_pid), "-m", *words]
    subprocess.run(entered, input=given, check=True, capture_output=True)
