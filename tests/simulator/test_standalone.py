"""A fleet alone: asked by a signal it compares a view with its truth and goes on, and it tells how its agents do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ADMIN
from tests.real_broker import address, at_work, delete_queue
from tests.simulator.test_demo import FIELDS
from tests.waiting import eventually
from vmpulse_agent.errors import PortTaken
from vmpulse_consumers.settings import ViewSettings
from vmpulse_contract import broker_url, topology
from vmpulse_simulator.broker_files import free_ports
from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.settings import RunSettings
from vmpulse_simulator.standalone import Standalone
from vmpulse_simulator.view_api import ViewApi
from vmpulse_simulator.view_process import ViewProcess

HOSTS, VMS = 3, 4
NOWHERE = broker_url.parse("url", "amqp://engine.simulator@127.0.0.1:1/")


def settings(**others: Any) -> RunSettings:
    """A small fleet in which much happens."""
    return RunSettings(hosts=HOSTS, vms=VMS, tick=0.5, migrations=60, metrics_port="", **others)


async def run(fleet: Standalone) -> None:
    """Run a fleet until cancelled."""
    await fleet.run()


@asynccontextmanager
async def view_of_the_fleet(broker: PrivateBroker, folder: Path) -> AsyncIterator[ViewApi]:
    """A view in a process of its own."""
    port = free_ports().management
    url = f"amqp://{ADMIN.name}@{broker.host}:{broker.port}/"
    try:
        async with ViewProcess(url, ADMIN.password, port, folder):
            yield ViewApi(f"http://127.0.0.1:{port}", time.monotonic)
    finally:
        await delete_queue(broker, topology.view_queue(ViewSettings().name).name)


async def until_live(api: ViewApi) -> None:
    """Wait until the view sees every host live."""
    live = 0
    while live < HOSTS:
        await asyncio.sleep(0.1)
        with contextlib.suppress(ViewUnreachable):
            live = (await api.fleet()).live()


async def said_when_asked(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Send the signal, and wait for the answer."""
    os.kill(os.getpid(), signal.SIGUSR1)
    line = await eventually(lambda: capsys.readouterr().out, within_s=15)
    told: dict[str, Any] = json.loads(line)
    return told


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_view_is_compared_on_a_signal_and_the_fleet_goes_on(
    broker: PrivateBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGUSR1 gives a line that says whether the view is right, and afterwards things happen as before."""
    async with view_of_the_fleet(broker, tmp_path) as api:
        fleet = Standalone(settings(api=api.url), address(broker))
        async with at_work(run(fleet)):
            await asyncio.wait_for(until_live(api), 15)
            told = await said_when_asked(capsys)
            await eventually(lambda: fleet.happened.migrations > told["migrations"])
    assert tuple(told) == (*FIELDS, "clean")
    assert (told["clean"], told["mismatched_vms"], told["live_hosts"], told["vms"]) == (True, 0, HOSTS, HOSTS * VMS)


async def test_signal_without_a_view_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    """Without the address of a view there is nothing to compare, and one line says so."""
    with caplog.at_level(logging.WARNING, "vmpulse_simulator"):
        async with at_work(run(Standalone(settings(), NOWHERE))):
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGUSR1)
            await eventually(lambda: caplog.text)
    assert "set api (--api or VMPULSE_SIMULATOR_API)" in caplog.text


async def test_early_and_late_signals_end_nothing() -> None:
    """Before the fleet is there, and after it, SIGUSR1 is ignored: by itself it would end the program."""
    code = (
        "import os, signal; from vmpulse_simulator.__main__ import main; "
        "code = main(['run', '--broker-url', 'amqp://engine.simulator@127.0.0.1:1/', '--api', 'nonsense']); "
        "os.kill(os.getpid(), signal.SIGUSR1); raise SystemExit(code)"
    )
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(program.wait(), 15) == 2
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        async with at_work(run(Standalone(settings(), NOWHERE))):
            await eventually(lambda: signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.broker
async def test_metrics_and_health_of_all_agents_are_served(broker: PrivateBroker) -> None:
    """One port tells of every agent of the fleet, and that all are well; it cannot be had twice."""
    port = free_ports().management
    chosen = RunSettings(hosts=HOSTS, vms=VMS, tick=0.5, metrics_port=port)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return str(reply.read().decode())

    fleet = Standalone(chosen, address(broker))
    async with at_work(run(fleet)):
        await eventually(lambda: len(fleet.epochs()) == HOSTS)
        assert await asyncio.to_thread(get, "/healthz") == "ok\n"
        metrics = await asyncio.to_thread(get, "/metrics")
        with pytest.raises(PortTaken, match=f"{port}"):
            await Standalone(chosen, address(broker)).run()
    assert "vmpulse_agent_broker_up 1.0" in metrics
    assert f"vmpulse_agent_hosts {HOSTS}.0" in metrics
