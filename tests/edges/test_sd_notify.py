"""What services tell systemd, heard on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.edges.service_manager import listening
from vmpulse_edges import sd_notify
from vmpulse_edges.sd_notify import Notifier


class Service:
    """A service that can be told how it does."""

    is_ready = True
    advances = True
    words = "3 VMs"

    @contextlib.asynccontextmanager
    async def told(self, notifier: Notifier) -> AsyncIterator[None]:
        """Let the service manager be told while the block lasts."""
        task = asyncio.create_task(
            sd_notify.keep_told(
                notifier, ready=lambda: self.is_ready, advancing=lambda: self.advances, status=lambda: self.words
            )
        )
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("abstract", [True, False])
async def test_ready_status_watchdog_stopping(abstract: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """READY is said once and first, then the watchdog is fed and the status told, and STOPPING comes last."""
    with listening(None if abstract else tmp_path) as manager:
        service = Service()
        async with service.told(Notifier(manager.address, 0.1)):
            await manager.hears("WATCHDOG", 3)
            service.words = "4\nVMs"
            await manager.hears("STATUS", 3)
        await manager.hears("STOPPING")
    assert manager.lines("READY") == ["1"]
    assert manager.heard[0][1] == ["READY=1", "STATUS=3 VMs"]
    assert manager.heard[-1][1] == ["STOPPING=1", "STATUS=stopping"]
    assert "4 VMs" in manager.lines("STATUS")


async def test_watchdog_is_fed_twice_in_its_time() -> None:
    """Signs of life come at half of the time that systemd waits for one, and less late than that time."""
    with listening() as manager:
        async with Service().told(Notifier(manager.address, 0.4)):
            await manager.hears("WATCHDOG", 4)
    times = [at for at, lines in manager.heard if "WATCHDOG=1" in lines]
    assert all(0.1 < later - earlier < 0.4 for earlier, later in pairwise(times))


async def test_what_does_not_advance_is_not_fed() -> None:
    """The watchdog is not fed while nothing advances, and again when it does."""
    with listening() as manager:
        service = Service()
        async with service.told(Notifier(manager.address, 0.1)):
            await manager.hears("WATCHDOG")
            service.advances = False
            fed = len(manager.lines("WATCHDOG"))
            for number in range(3):
                service.words = f"stuck {number}"
                await manager.hears("STATUS", 3 + number)
            assert len(manager.lines("WATCHDOG")) <= fed + 1
            service.advances = True
            await manager.hears("WATCHDOG", fed + 2)


async def test_what_is_not_ready_says_how_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is ready a service says nothing but how things stand; if it ends then, that it is stopping."""
    monkeypatch.setattr(sd_notify, "STATUS_S", 0.05)
    with listening() as manager:
        service = Service()
        service.is_ready = False
        async with service.told(Notifier(manager.address, 0.05)):
            await manager.hears("STATUS", 2)
        await manager.hears("STOPPING")
    *before, last = [lines for _, lines in manager.heard]
    assert {line for lines in before for line in lines} == {"STATUS=3 VMs"}
    assert last == ["STOPPING=1", "STATUS=stopping"]


async def test_nobody_listens() -> None:
    """Without a service manager, or with one that is gone, nothing is said and nothing fails."""
    async with Service().told(Notifier()):
        await asyncio.sleep(0)
    Notifier("/no/such/socket").say("READY=1")
    assert not Notifier().heard


@pytest.mark.parametrize(
    "environment, heard, watchdog_s",
    [
        ({}, False, None),
        ({"WATCHDOG_USEC": "30000000"}, False, None),
        ({"NOTIFY_SOCKET": "/run/x"}, True, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000"}, True, 30.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "77"}, True, 1.5),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "78"}, True, None),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"}, True, None),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "0"}, True, None),
    ],
)
def test_environment_is_read(environment: dict[str, str], heard: bool, watchdog_s: float | None) -> None:  # noqa: FBT001
    """The socket and the watchdog are systemd's variables; a watchdog of another process is none of ours."""
    notifier = sd_notify.from_environment(environment, 77)
    assert (notifier.heard, notifier.watchdog_s) == (heard, watchdog_s)
