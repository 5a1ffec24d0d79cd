"""The connection mends itself: peers that never answer, refusals that pass, errors that nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import libvirt
import pytest

from tests.agent.libvirt_edge.following import following
from tests.agent.libvirt_edge.mute_socket import MuteSocket
from tests.lab.libvirt_access import probed, reconfigure
from tests.lab.private_libvirt import PrivateLibvirt, missing
from tests.waiting import eventually
from vmpulse_agent.errors import HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.hypervisor import ConnectionBack, ConnectionLost
from vmpulse_agent.libvirt_edge import LibvirtOptions
from vmpulse_agent.libvirt_edge.connection import Connection, Listener
from vmpulse_agent.libvirt_edge.threads import Lane

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(60),
]
LOST, BACK, GRANTED = "lost", "back", "granted"


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """A daemon with one domain."""
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        admin = libvirt.open(started.uri)
        admin.createXML(started.light_domain("a", uuid=UUID(int=1)))
        admin.close()
        yield started


@pytest.fixture
def options(node: PrivateLibvirt) -> LibvirtOptions:
    """Impatient ones; the daemon has tried out its QEMU by then."""
    probed(node.uri)
    return LibvirtOptions(
        uri=node.uri,
        run_dir=node.run_dir,
        connect_deadline_s=1.0,
        retry_first_s=0.05,
        retry_most_s=0.1,
        retry_refused_s=0.2,
    )


@asynccontextmanager
async def connected(options: LibvirtOptions) -> AsyncIterator[tuple[Connection, list[str]]]:
    """Open, hand over with what is told, close."""
    told: list[str] = []
    connection = Connection(
        options,
        Listener(lambda _: None, lambda _: told.append(LOST), lambda: told.append(BACK), lambda: told.append(GRANTED)),
        askers=3,
    )
    await connection.open()
    try:
        yield connection, told
    finally:
        await connection.close()


async def why(connection: Connection) -> str:
    """Why there is no connection."""
    lane = Lane("asking", 1)
    with pytest.raises(HypervisorUnavailable) as caught:
        await connection.call(lane, "x", lambda _: None, 1.0)
    lane.close()
    return str(caught.value)


def opening() -> int:
    """Threads in which connections are opened."""
    return sum(thread.name == "libvirt-connect" for thread in threading.enumerate())


async def test_an_opening_that_never_ends(node: PrivateLibvirt, options: LibvirtOptions) -> None:
    """It costs its thread and no more: the next attempt has another one, and finds the daemon that is back."""
    async with connected(options._replace(connect_deadline_s=0.3)) as (connection, told):
        node.terminate()
        with MuteSocket(node.root / "sock" / "libvirt-sock") as mute:
            await eventually(lambda: mute.waiting == 1 or None)
            mute.leave()
            await asyncio.to_thread(node.start)
            connection.options = options._replace(connect_deadline_s=8.0)
            await eventually(lambda: BACK in told or None)
            assert opening() == 2
        assert told == [LOST, BACK]


async def test_openings_that_never_end_are_few(node: PrivateLibvirt, options: LibvirtOptions) -> None:
    """Two threads at most; that is said, and as soon as one of them ends it is tried again."""
    async with connected(options._replace(connect_deadline_s=0.2)) as (connection, told):
        node.terminate()
        with MuteSocket(node.root / "sock" / "libvirt-sock") as mute:
            await eventually(lambda: mute.waiting == 2 or None)
            async with asyncio.timeout(8):
                while "all of its 2 threads are waiting" not in await why(connection):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert (mute.waiting, opening()) == (2, 2)
            mute.leave()
            await asyncio.to_thread(node.start)
            assert told == [LOST]
            connection.options = options._replace(connect_deadline_s=8.0)
            mute.hang_up()
            await eventually(lambda: BACK in told or None)


async def test_what_nobody_foresaw(
    node: PrivateLibvirt, options: LibvirtOptions, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of no known kind is told once, with its traceback, and it is tried on."""
    async with connected(options) as (connection, told):
        # The library refuses such text with an exception of its own.
        connection.options = options._replace(uri=f"{options.uri}\0")
        await asyncio.to_thread(node.restart)
        await eventually(lambda: "null character" in caplog.text or None)
        await asyncio.sleep(0.5)
        assert "null character" in await why(connection)
        assert [(record.levelno, record.exc_info is not None) for record in caplog.records] == [(logging.ERROR, True)]
        connection.options = options
        await eventually(lambda: BACK in told or None)


async def test_a_refusal_passes(
    node: PrivateLibvirt, options: LibvirtOptions, caplog: pytest.LogCaptureFixture
) -> None:
    """Guests may be asked as soon as read-write access is granted, without a new connection; that is said once."""
    caplog.set_level(logging.INFO)
    socket = node.root / "sock" / "libvirt-sock"
    away = socket.with_name("away")
    # Without the one socket, libvirt's own rules lead to the other for read-only connections alone.
    read_only = socket.with_name("libvirt-sock-ro")
    socket.rename(away)
    socket.symlink_to(read_only)
    try:
        async with following(options) as follower:
            hypervisor = follower.hypervisor
            assert not hypervisor.asks_guests
            assert "read only access prevents" in (hypervisor.lacking or "")
            await asyncio.sleep(0.5)
            assert not hypervisor.asks_guests
            socket.unlink()
            away.rename(socket)
            await eventually(lambda: hypervisor.asks_guests or None)
            assert hypervisor.lacking is None
            assert (await hypervisor.look()).domains
            assert not [event for event in follower.events if isinstance(event, ConnectionLost | ConnectionBack)]
    finally:
        if away.exists():
            socket.unlink()
            away.rename(socket)
    assert caplog.text.count("guest agents may not be asked") == 1
    assert caplog.text.count("guest agents may be asked now") == 1


async def test_nothing_leaks(node: PrivateLibvirt, options: LibvirtOptions) -> None:
    """After five reconnections there are no more sockets than after the first opening, and after the close none."""

    def sockets() -> int:
        return sum(path.is_socket() for path in Path("/proc/self/fd").iterdir())

    before = sockets()
    async with connected(options._replace(connect_deadline_s=8.0)) as (_, told):
        first = sockets()
        while told.count(BACK) < 5:
            back = told.count(BACK)
            await asyncio.to_thread(probed, node.uri)
            await asyncio.to_thread(node.restart)
            async with asyncio.timeout(8):
                while told.count(BACK) == back:
                    await asyncio.sleep(0.01)
        await eventually(lambda: sockets() <= first or None)
    await eventually(lambda: sockets() <= before or None)


async def test_a_full_daemon_is_said(node: PrivateLibvirt, options: LibvirtOptions) -> None:
    """Where not even the first connections are let in, the error names what bounds them."""
    await asyncio.to_thread(lambda: reconfigure(node, max_clients=2, max_anonymous_clients=2))
    await asyncio.to_thread(probed, node.uri)
    try:
        with pytest.raises(HypervisorTimeout, match="max_clients"):
            async with connected(options):
                pass
    finally:
        await asyncio.to_thread(lambda: reconfigure(node, max_clients=100, max_anonymous_clients=20))
    await eventually(lambda: not opening() or None)
