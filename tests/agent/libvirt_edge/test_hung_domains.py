"""Hanging and slow: what real QEMU domains that do not answer, and a daemon that takes its time, cost (promise A1)."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import libvirt
import pytest

from tests.agent.libvirt_edge.following import PATIENCE_S, Following, following
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.errors import HypervisorTimeout
from vmpulse_agent.hypervisor import DomainLook, LifecycleChange
from vmpulse_agent.libvirt_edge import LibvirtOptions, inspection
from vmpulse_agent.libvirt_edge.evidence import Role
from vmpulse_agent.libvirt_edge.hypervisor import AGAIN_S
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(60),
]
NAMES = tuple(f"v{number}" for number in range(9))
VMS = {name: VmId(UUID(int=number + 1).bytes) for number, name in enumerate(NAMES)}
TICK_S = 1.5
PANIC = b"\xba\x05\x05\xb0\x01\xee\xf4\xeb\xfd"
"""mov dx, 0x505; mov al, 1; out dx, al; hlt; jmp: what a guest kernel does when it panics."""


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """Nine running domains."""
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        admin = libvirt.open(started.uri)
        for name in NAMES:
            admin.createXML(started.light_domain(name, uuid=UUID(bytes=VMS[name])))
        admin.close()
        yield started


@pytest.fixture
async def follower(node: PrivateLibvirt) -> AsyncIterator[Following]:
    """The edge after its first good look."""
    async with following(LibvirtOptions(uri=node.uri, run_dir=node.run_dir, tick_s=TICK_S)) as opened:
        await all_answer(opened)
        yield opened


async def looked(follower: Following) -> dict[VmId, DomainLook]:
    """All domains in one look."""
    return {domain.vm: domain for domain in (await follower.hypervisor.look()).domains}


async def inspected(follower: Following) -> inspection.Processes:
    """What the check would see."""
    return await asyncio.to_thread(inspection.processes, follower.hypervisor.options)


async def all_answer(follower: Following) -> None:
    """Wait until every monitor answers."""
    async with asyncio.timeout(20):
        answered = False
        while not answered:
            await asyncio.sleep(0.02)
            # Nine domains that have just been started keep a small machine busy.
            with suppress(HypervisorTimeout):
                answered = all(domain.answered for domain in (await looked(follower)).values())


def answers(look: dict[VmId, DomainLook]) -> dict[str, bool | None]:
    """Who answered, by name."""
    return {name: look[vm].answered for name, vm in VMS.items()}


@pytest.mark.parametrize("count", [1, 6])
async def test_hung_domains_cost_only_themselves(node: PrivateLibvirt, follower: Following, count: int) -> None:
    """No look fails; from the first on the others answer, the hung ones keep their state; all come back."""
    expected = {name: number >= count for number, name in enumerate(NAMES)}
    with node.hung(*NAMES[:count]):
        for _ in range(4):
            look = await looked(follower)
            assert answers(look) == expected
            assert {domain.status for domain in look.values()} == {VmStatus.UP}
        sample = await follower.hypervisor.device_sample()
        assert sample.domains.keys() == {VMS[name] for name in NAMES[count:]}
        assert (await follower.hypervisor.read(VMS["v0"], frozenset({Section.INFO}))).info
        async with asyncio.timeout(5):
            while set((await inspected(follower)).hung) != set(NAMES[:count]):
                await asyncio.sleep(0.05)
    await all_answer(follower)


async def test_one_after_the_other(node: PrivateLibvirt, follower: Following) -> None:
    """Domains that hang while others do are found as well; a look costs its patience once for each."""
    with node.hung("v0"):
        await looked(follower)
        with node.hung("v1"):
            await looked(follower)
            with node.hung("v2", "v3"):
                for _ in range(2):
                    assert answers(await looked(follower)) == {name: name > "v3" for name in NAMES}
            async with asyncio.timeout(20):
                while answers(await looked(follower)) != {name: name > "v1" for name in NAMES}:
                    await asyncio.sleep(0.02)
    await all_answer(follower)


async def test_more_than_there_are_threads(node: PrivateLibvirt, follower: Following) -> None:
    """With eight of nine hung threads stay few, the one that runs answers, and who was not asked is told apart."""
    with node.hung(*NAMES[:8]):
        for _ in range(3):
            found = answers(await looked(follower))
            assert found.pop("v8") is True
            assert set(found.values()) <= {False, None}
            probes = [thread for thread in threading.enumerate() if thread.name == "libvirt-probe"]
            assert len(probes) <= 6
    await all_answer(follower)


@contextmanager
def asked_by_another(node: PrivateLibvirt, name: str) -> Iterator[None]:
    """Another client's call is in this domain's monitor, which hangs until the end of the block."""
    other, watcher = libvirt.open(node.uri), libvirt.open(node.uri)
    domain = other.lookupByName(name)
    with node.hung(name):
        asking = threading.Thread(target=other.domainListGetStats, args=([domain], libvirt.VIR_DOMAIN_STATS_BLOCK))
        asking.start()
        until = time.monotonic() + PATIENCE_S
        while watcher.lookupByName(name).controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OCCUPIED:
            assert time.monotonic() < until
        yield
    asking.join()
    other.close()
    watcher.close()


@pytest.mark.parametrize("soon", [True, False])
async def test_a_domain_that_another_client_asks_is_sampled_again(
    node: PrivateLibvirt,
    follower: Following,
    soon: bool,  # noqa: FBT001
) -> None:
    """It was passed over: asked once more, its counters are complete and say when; or it is left out as a whole."""
    vm, others = VMS["v0"], {VMS[name] for name in NAMES[1:]}
    with ExitStack() as busy:
        await asyncio.to_thread(busy.enter_context, asked_by_another(node, "v0"))
        sampling = asyncio.create_task(follower.hypervisor.device_sample())
        if soon:
            await asyncio.sleep(AGAIN_S / 2)
            assert not sampling.done()
            await asyncio.to_thread(busy.close)
        sample = await sampling
    assert sample.domains.keys() == (others | {vm} if soon else others)
    if soon:
        (disk,) = sample.domains[vm].disks
        assert disk.read_ops is not None
        assert (sample.domains[vm].taken_s or 0) >= sample.started + AGAIN_S
    assert {sample.domains[other].taken_s for other in others} == {sample.started}
    await all_answer(follower)


async def test_one_in_a_job_of_its_own_keeps_nobody_from_questions(node: PrivateLibvirt, follower: Following) -> None:
    """A domain that hangs while it is migrated or saved is not asked on and on; others are asked all the while."""
    hypervisor = follower.hypervisor
    for name in ("v0", "v1"):
        hypervisor._evidence.about(VMS[name]).role = Role.SOURCE
    with node.hung("v0"):
        while await follower.status(VMS["v1"]) != "Up":
            await asyncio.sleep(0.05)
        for _ in range(8):
            await follower.hypervisor.look()
            assert hypervisor._lanes.job.overdue <= 1
            await asyncio.sleep(0.2)
        hypervisor._evidence.about(VMS["v1"]).role = Role.SOURCE
        async with asyncio.timeout(5):
            while await follower.status(VMS["v1"]) != "Up":
                await asyncio.sleep(0.05)
    async with asyncio.timeout(20):
        while await follower.status(VMS["v0"]) != "Up":
            await asyncio.sleep(0.05)
    await all_answer(follower)


async def test_states_do_not_wait(node: PrivateLibvirt, follower: Following) -> None:
    """A device sample that hangs holds up no look at the states; tokens and times are as ever."""
    whole = await looked(follower)
    with node.hung("v0"):
        sample = asyncio.create_task(follower.hypervisor.device_sample())
        # One turn of the loop: the sample has the turn of the bulk calls now.
        await asyncio.sleep(0)
        async with asyncio.timeout(0.5):
            look = await follower.hypervisor.look(states_only=True)
        assert not sample.done()
    await sample
    for domain in look.domains:
        assert (domain.answered, domain.status) == (None, VmStatus.UP)
        assert domain.token == whole[domain.vm].token
        assert (domain.elapsed_ms or 0) >= (whole[domain.vm].elapsed_ms or 0)


async def test_a_slow_look_is_not_lost(node: PrivateLibvirt, follower: Following) -> None:
    """It misses its deadline and goes on; the next call hands it over, with the moment at which it began."""
    loop = asyncio.get_running_loop()
    # A look that meets another call then would need one more connection, which nobody gives it.
    while follower.hypervisor._asking_roles:
        await asyncio.sleep(0.01)
    node.send(signal.SIGSTOP)
    try:
        with pytest.raises(HypervisorTimeout, match="it goes on"):
            await follower.hypervisor.look()
        missed = loop.time()
    finally:
        node.send(signal.SIGCONT)
    look = await follower.hypervisor.look()
    assert look.started < missed - TICK_S / 2
    assert all(domain.answered for domain in look.domains)
    assert (await follower.hypervisor.look()).started > missed


async def test_a_hung_domain_is_destroyed(node: PrivateLibvirt, follower: Following) -> None:
    """For some 10 s libvirt gives no list then; the others are asked by themselves, and nobody is taken for gone.

    A partial look says of those that it did not reach nothing at all; on a busy machine one may miss some of them.
    """
    vm = VmId(UUID(int=98).bytes)
    admin = await asyncio.to_thread(libvirt.open, node.uri)
    domain = await asyncio.to_thread(admin.createXML, node.light_domain("victim", uuid=UUID(bytes=vm)))
    while not (look := await looked(follower)).get(vm) or not look[vm].answered:
        await asyncio.sleep(0.05)
    with node.hung("victim"):
        while answers(look := await looked(follower)) != dict.fromkeys(NAMES, True) or look[vm].answered is not False:
            await asyncio.sleep(0.05)
        destroying = asyncio.create_task(asyncio.to_thread(domain.destroy))
        await asyncio.sleep(0)
        reached: list[set[VmId]] = []
        while not destroying.done():
            try:
                seen = await follower.hypervisor.look()
            except HypervisorTimeout:
                continue
            if seen.partial:
                reached.append({one.vm for one in seen.domains if one.answered})
            else:
                assert set(VMS.values()) <= {one.vm for one in seen.domains}
            await asyncio.sleep(0.2)
        await destroying
    assert len(reached) > 5
    for known in VMS.values():
        assert sum(known in vms for vms in reached) >= len(reached) - 1
    await all_answer(follower)
    assert vm not in await looked(follower)
    await asyncio.to_thread(admin.close)


async def test_a_preserved_crash_is_not_down(node: PrivateLibvirt, follower: Following) -> None:
    """The guest has panicked; its process holds its disks, so nobody may start it elsewhere."""
    vm = VmId(UUID(int=99).bytes)
    xml = node.light_domain("panic", uuid=UUID(bytes=vm))
    xml = xml.replace("<devices>", "<on_crash>preserve</on_crash><devices><panic model='isa'/>")
    with (node.root / "disks" / "panic.raw").open("r+b") as disk:
        disk.write(PANIC.ljust(510, b"\0") + b"\x55\xaa")
    admin = await asyncio.to_thread(libvirt.open, node.uri)
    domain = await asyncio.to_thread(admin.createXML, xml)
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(domain.state))[0] != libvirt.VIR_DOMAIN_CRASHED:
            await follower.until(lambda event: getattr(event, "vm", None) == vm)
    seen = await follower.seen(vm)
    assert seen is not None
    assert (seen.status, seen.token != 0) == (VmStatus.PAUSED, True)
    await asyncio.to_thread(domain.destroy)
    await follower.change(vm, LifecycleChange.STOPPED)
    await asyncio.to_thread(admin.close)
