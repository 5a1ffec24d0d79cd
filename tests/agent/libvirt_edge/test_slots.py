"""Connections that are opened when they are needed: once, closed once, and nobody waits long for a full daemon."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import libvirt
import pytest

from tests.lab import libvirt_access
from tests.lab.libvirt_access import SECRET, USER, probed, reconfigure
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.errors import HypervisorUnavailable
from vmpulse_agent.libvirt_edge import LibvirtOptions
from vmpulse_agent.libvirt_edge.event_thread import EVENTS
from vmpulse_agent.libvirt_edge.handles import Askers, Handles, Held, Plan, open_handles
from vmpulse_agent.libvirt_edge.slots import WIDTH, Openings, Slot
from vmpulse_agent.libvirt_edge.threads import Lane

LONG = 20.0
SHORT = 0.3
CLIENTS = 5
"""watch, detail, one to ask monitors, one to ask guests; and one more."""

Test = TypeVar("Test", bound=Callable[..., object])
WHY_NOT = missing() or libvirt_access.missing()


def lab_marks(test: Test) -> Test:
    """Mark a test that needs a private libvirt and its event loop."""
    skip = pytest.mark.skipif(WHY_NOT is not None, reason=f"private libvirt: {WHY_NOT}")
    marked: Test = pytest.mark.lab(skip(pytest.mark.timeout(60)(pytest.mark.usefixtures("events")(test))))
    return marked


class Place:
    """A slot whose openings the test lets end."""

    def __init__(self, wait_s: float = LONG, openings: Openings | None = None) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self.opened: list[libvirt.virConnect] = []
        self.slot = Slot(self._connect, openings or Openings("there", wait_s))

    def _connect(self) -> libvirt.virConnect:
        self.begun += 1
        assert self.may_end.wait(LONG)
        self.opened.append(libvirt.open("test:///default"))
        return self.opened[-1]


def is_open(connection: libvirt.virConnect) -> bool:
    """Whether it has not been closed by whoever opened it."""
    try:
        return connection.isAlive() == 1
    except libvirt.libvirtError:
        return False


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_opened_once() -> None:
    """Nobody needs it: it is not opened; eight need it at once: one opening, and all get what came of it."""
    place = Place()
    assert (place.slot.opened, place.begun) == (None, 0)
    with ThreadPoolExecutor(8) as pool:
        all_need_it = [pool.submit(place.slot.get) for _ in range(8)]
        until(lambda: place.begun == 1)
        place.may_end.set()
        assert {id(needed.result()) for needed in all_need_it} == {id(place.opened[0])}
    assert place.begun == 1
    assert place.slot.retire() is place.opened[0]
    assert place.slot.retire() is None
    place.opened[0].close()


def test_a_failure_is_not_kept() -> None:
    """Who needs it gets the error; the next one tries again."""
    errors = [HypervisorUnavailable("not now")]

    def connect() -> libvirt.virConnect:
        if errors:
            raise errors.pop()
        return libvirt.open("test:///default")

    slot = Slot(connect, Openings("there", LONG))
    with pytest.raises(HypervisorUnavailable, match="not now"):
        slot.get()
    connection = slot.get()
    assert slot.opened is connection
    connection.close()


def test_nobody_waits_long(caplog: pytest.LogCaptureFixture) -> None:
    """An opening that takes long is said once, holds up nobody twice, and serves who comes after its end."""
    caplog.set_level("INFO")
    place = Place(SHORT)
    with pytest.raises(HypervisorUnavailable, match="max_clients"):
        place.slot.get()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(HypervisorUnavailable, match="max_clients"):
            place.slot.get()
    assert time.monotonic() - began < SHORT
    assert caplog.text.count("max_clients") == 1
    place.may_end.set()
    until(lambda: place.slot.opened is not None)
    assert place.slot.get() is place.opened[0]
    assert place.begun == 1
    until(lambda: caplog.text.count("has let the further connection in") == 1)
    place.opened[0].close()


def test_openings_are_few() -> None:
    """While all threads wait for ever, no other is started; once one has ended, others are served."""
    openings = Openings("there", SHORT)
    places = [Place(openings=openings) for _ in range(WIDTH + 1)]
    for place in places:
        with pytest.raises(HypervisorUnavailable, match="max_clients"):
            place.slot.get()
    assert [place.begun for place in places] == [1] * WIDTH + [0]
    for place in places:
        place.may_end.set()
    assert places[-1].slot.get() is places[-1].opened[0]
    until(lambda: all(place.slot.opened for place in places))
    for place in places:
        place.opened[0].close()


def test_what_comes_too_late_is_closed() -> None:
    """A slot that is retired while it is opened leaves nothing open."""
    place = Place(SHORT)
    with pytest.raises(HypervisorUnavailable):
        place.slot.get()
    assert place.slot.retire() is None
    place.may_end.set()
    until(lambda: bool(place.opened) and not is_open(place.opened[0]))
    assert place.slot.opened is None


# --- with a real daemon ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """A daemon that serves five clients."""
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        reconfigure(started, max_clients=CLIENTS, max_anonymous_clients=CLIENTS)
        probed(started.uri)
        yield started


@pytest.fixture
def events() -> Iterator[None]:
    """The thread for libvirt's events."""
    EVENTS.acquire()
    yield
    EVENTS.release()


def held(options: LibvirtOptions, wait_s: float) -> Held:
    """Open what is always needed, with three connections for calls that may hang."""
    shown = options.uri
    plan = Plan(
        options,
        lambda _: None,
        lambda _: None,
        3,
        openings=Openings(shown, wait_s),
        guest_openings=Openings(shown, wait_s),
    )
    return open_handles(plan)


def everything(handles: Handles) -> list[libvirt.virConnect]:
    """All that is open."""
    slots = (slot.opened for slot in (*handles.askers, *handles.guests))
    return [one for one in (handles.watch, handles.detail, *slots) if one is not None]


@lab_marks
def test_closed_with_the_rest(node: PrivateLibvirt) -> None:
    """At first four are open; each other one when two calls meet; the close closes each, and opens none."""
    ours = held(LibvirtOptions(uri=node.uri, run_dir=node.run_dir), LONG)
    try:
        askers = Askers()
        assert len(everything(ours.handles)) == 4
        with askers.one(ours.handles) as first, askers.one(ours.handles) as second:
            assert first is not second
        opened = everything(ours.handles)
        assert len(opened) == len({id(one) for one in opened}) == 5
        with askers.one(ours.handles) as again:
            assert again is first
    finally:
        ours.close()
    assert not any(map(is_open, opened))
    assert everything(ours.handles) == [ours.handles.watch, ours.handles.detail]
    with pytest.raises(HypervisorUnavailable):
        ours.use(lambda handles: handles)


@lab_marks
async def test_a_full_daemon_is_no_hung_monitor(node: PrivateLibvirt, caplog: pytest.LogCaptureFixture) -> None:
    """A call that would need a sixth client fails in time and says why; its lane is free, and later it is served."""
    ours = await asyncio.to_thread(held, LibvirtOptions(uri=node.uri, run_dir=node.run_dir), SHORT)
    guest = await asyncio.to_thread(libvirt.open, node.uri)
    lane, askers = Lane("probe", 1), Askers()

    def work(handles: Handles) -> int:
        with askers.one(handles), askers.one(handles) as second:
            return int(second.isAlive())

    try:
        for _ in range(2):
            with pytest.raises(HypervisorUnavailable, match="max_clients"):
                await lane.run("vm", lambda: ours.use(work), 2 * SHORT)
            assert lane.overdue == 0
        assert caplog.text.count("max_clients") == 1
        guest.close()
        async with asyncio.timeout(LONG):
            while ours.handles.askers[1].opened is None:
                await asyncio.sleep(0.01)
        assert await lane.run("vm", lambda: ours.use(work), LONG) == 1
    finally:
        await asyncio.to_thread(ours.close)
        lane.close()


@lab_marks
def test_each_opening_knows_what_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later openings say what to mend as the first does, also two at once, each for itself."""
    with TemporaryDirectory(prefix="lv") as path:
        folder = Path(path)
        monkeypatch.setenv("SASL_CONF_PATH", f"{folder}/sasl2")
        libvirt_access.sasl_config(folder / "sasl2", "scram-sha-256")
        with libvirt_access.sasl_node(folder / "n") as strict:
            reconfigure(strict, auth_unix_ro="sasl", auth_unix_rw="sasl")
            probed(strict.uri)
            tell_apart(strict, folder)


def tell_apart(strict: PrivateLibvirt, folder: Path) -> None:
    """Two openings at once with a wrong password, then one with none."""
    password = folder / "password"
    password.write_text(SECRET)
    options = LibvirtOptions(uri=strict.uri, run_dir=strict.run_dir, user=USER, password_file=password)
    ours = held(options, LONG)
    try:
        password.write_text("not-the-" + SECRET)
        with ThreadPoolExecutor(2) as pool:
            refused = [pool.submit(slot.get) for slot in ours.handles.askers[1:]]
            errors = [str(one.exception()) for one in refused]
        assert ["user or password are wrong" in error for error in errors] == [True, True], errors
        password.unlink()
        with pytest.raises(HypervisorUnavailable, match="its password cannot be read"):
            ours.handles.askers[1].get()
    finally:
        ours.close()
