"""The example workers of docs/examples, run as their users run them: real broker, real view, simulated hosts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aio_pika
import pytest
from litestar.types import Receive, Scope, Send

from tests.conftest import require
from tests.real_broker import address, agent_of, at_work, cable, delete_queue, simulated_host, unique, view_at_work
from tests.soon_ready import soon_ready
from tests.waiting import eventually
from vmpulse_agent.amqp_link import AmqpLink
from vmpulse_agent.host_agent import HostAgent
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers import amqp_upkeep, service
from vmpulse_consumers.http import EventStreams, build_app, listen, serve_on
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import topology
from vmpulse_contract.fleet import EventType
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"
WORKER = EXAMPLES / "ha_worker.py"
QUEUE = topology.worker_queue("ha").name
EXIT = Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN)
USER, SECRET = "engine.worker", "a secret/of the worker"
ADD = """\
rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{secret}">>, <<"test">>),
rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, {rights}, <<"test">>).
"""
FENCE = """\
#!/bin/sh
echo $1 >> {folder}/begun
while [ ! -e {folder}/go ]; do sleep 0.02; done
echo $1 >> {folder}/fenced
case $1 in *refuses*) exit 1; esac
"""


@pytest.fixture
def fast_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view is ready after a second, and a host LOST after 1.5 s."""
    soon_ready(monkeypatch)
    for name, value in (("LOST_S", 1.5), ("GRACE_S", 0.5)):
        monkeypatch.setattr(f"vmpulse_consumers.view.view.{name}", value)
    monkeypatch.setattr(service, "CANARY_S", 0.2)
    monkeypatch.setattr(service, "TICK_S", 0.1)
    monkeypatch.setattr(amqp_upkeep, "BACKOFF_MOST_S", 1.0)


@pytest.fixture(scope="module")
def account(broker: PrivateBroker) -> None:
    """A user with no more than the rights that docs/operating.md gives to engine.worker."""
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rights = re.findall("'([^']*)'", page.split(f"set_permissions -p / {USER} \\\n")[1].split("\n\n")[0])
    assert len(rights) == 3
    quoted = ", ".join(f'<<"{pattern}">>' for pattern in rights).replace("\\", "\\\\")
    broker.ctl("eval", ADD.format(user=USER, secret=SECRET, rights=quoted))


class Host(NamedTuple):
    """A simulated host with its agent; ``running`` and ``down`` are two of its VMs, both highly available."""

    hypervisor: SimulatedHypervisor
    agent: HostAgent
    task: asyncio.Task[None]
    running: VmId
    down: VmId

    @property
    def id(self) -> str:
        """Its name."""
        return self.hypervisor.host

    async def crash(self) -> None:
        """Let the agent vanish without a word."""
        self.agent.crash()
        await self.stop()

    async def stop(self) -> None:
        """End the agent; with a goodbye, unless it has crashed."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Stand:
    """A view with its API, hosts that can be lost, and a folder for the fencing to leave its traces in."""

    def __init__(self, view: ViewService, api: str, link: AmqpLink, folder: Path) -> None:
        self.view = view
        self.api = api
        self.link = link
        self.folder = folder
        self.tasks: list[asyncio.Task[None]] = []
        self.questions: Counter[str] = Counter()
        """How often each path of the API was asked for."""
        (folder / "password").write_text(f"{SECRET}\n", encoding="utf-8")
        (folder / "fence").write_text(FENCE.format(folder=folder), encoding="utf-8")
        (folder / "fence").chmod(0o755)

    def add(self, name: str, seed: int) -> Host:
        """Begin a host of three VMs: prod-up, which runs, prod-down, which does not, and another that runs."""
        hypervisor = simulated_host(unique(name), seed=seed)
        running, other, down = hypervisor.domains
        for vm, called in ((running, "prod-up"), (other, "other-up"), (down, "prod-down")):
            hypervisor.domains[vm].name = f"{called}-{name}"
            if not hypervisor.running(vm):
                hypervisor.power_on(vm)
        hypervisor.power_off(down, EXIT)
        return self.start(hypervisor, running, down)

    def start(self, hypervisor: SimulatedHypervisor, running: VmId, down: VmId) -> Host:
        """Begin an agent of a host."""
        agent = agent_of(hypervisor, self.link)
        task = asyncio.create_task(agent.run())
        self.tasks.append(task)
        return Host(hypervisor, agent, task, running, down)

    def state(self, host: Host) -> HostState | None:
        """What the view says of a host."""
        known = self.view.view.hosts.get(host.hypervisor.host)
        return None if known is None else known.state

    async def until(self, state: HostState, *hosts: Host) -> None:
        """Wait until the view says so of all these hosts."""
        await eventually(lambda: all(self.state(host) is state for host in hosts), 8, f"{state}")

    @property
    def fenced(self) -> list[str]:
        """The hosts that were fenced, in order."""
        return self._traces("fenced")

    @property
    def begun(self) -> list[str]:
        """The hosts whose fencing has begun, in order."""
        return self._traces("begun")

    def _traces(self, name: str) -> list[str]:
        traces = self.folder / name
        return traces.read_text(encoding="utf-8").split() if traces.exists() else []

    def both_run(self, vm: VmId) -> bool:
        """Whether the view knows two hosts that claim to run a VM."""
        known = self.view.view.vms[vm]
        return len(known.claims) == 2 and all(known.active_on(host) for host in known.claims)

    @contextlib.asynccontextmanager
    async def worker(self, port: int) -> AsyncIterator[list[dict[str, str]]]:
        """The example worker at work through *port*; gives what it asks for, as it asks."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(WORKER), "--ha", "prod-*", "--fence", str(self.folder / "fence")),
            *("--settle", "0.4"),
            stdout=asyncio.subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "VMPULSE_WORKER_API": self.api,
                "VMPULSE_WORKER_BROKER_URL": f"amqp://{USER}@127.0.0.1:{port}/?reconnect_interval=0.2",
                "VMPULSE_WORKER_BROKER_PASSWORD_FILE": str(self.folder / "password"),
            },
        )
        assert process.stdout is not None
        asked: list[dict[str, str]] = []
        reading = asyncio.create_task(_read(process.stdout, asked))
        try:
            yield asked
        finally:
            process.kill()
            await process.wait()
            await reading


async def _read(stream: asyncio.StreamReader, asked: list[dict[str, str]]) -> None:
    while line := await stream.readline():
        asked.append(json.loads(line))


@contextlib.asynccontextmanager
async def standing(broker: PrivateBroker, folder: Path, view_port: int | None = None) -> AsyncIterator[Stand]:
    """A stand, and afterwards nothing of it; *view_port*: the view's way to the broker."""
    link, listener = AmqpLink(address(broker), "test hosts", declare=True), listen("127.0.0.1", 0)
    api = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with view_at_work(broker, url=address(broker, view_port)) as view, at_work(link.run()):
        stand, app = Stand(view, api, link, folder), build_app(view.view, view.clock, EventStreams(view.teller))

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            stand.questions[scope.get("path", "")] += 1
            await app(scope, receive, send)

        async with at_work(serve_on(counted, listener)):
            try:
                yield stand
            finally:
                for task in stand.tasks:
                    task.cancel()
                await asyncio.gather(*stand.tasks, return_exceptions=True)
                await delete_queue(broker, QUEUE)


async def consumers(broker: PrivateBroker) -> int:
    """How many read the worker's queue."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        with contextlib.suppress(aio_pika.exceptions.ChannelClosed):
            found = await channel.declare_queue(QUEUE, passive=True)
            return found.declaration_result.consumer_count or 0
    return 0


async def until_consumed(broker: PrivateBroker) -> None:
    """Wait until the worker reads its queue."""
    for _ in range(200):
        if await consumers(broker):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the worker does not come")


def wish(host: Host) -> dict[str, str]:
    """The restart that is to be asked for when a host was lost."""
    return {
        "restart": vm_text(host.running),
        "name": host.hypervisor.domains[host.running].name,
        "was_on": host.id,
    }


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("fast_clocks", "account")
async def test_restarts_are_asked_for_only_after_fencing(broker: PrivateBroker, tmp_path: Path) -> None:
    """Only what ran on a lost host, was fenced and is still not heard is asked for, also after a worker was away."""
    async with standing(broker, tmp_path) as stand, cable(broker) as way:
        names = ("lost", "moves", "refuses", "stopped", "back", "meanwhile", "later")
        lost, moves, refuses, stopped, back, meanwhile, later = (
            stand.add(name, seed) for seed, name in enumerate(names, 11)
        )
        everyone = (lost, moves, refuses, stopped, back, meanwhile, later)
        await stand.until(HostState.LIVE, *everyone)
        await eventually(lambda: EventType.FLEET_RELIST in stand.view.teller.told)
        async with stand.worker(way.port) as asked:
            await until_consumed(broker)
            # Fencing waits for a word of ours: until then nothing may be asked for.
            await moves.crash()
            await eventually(lambda: stand.begun == [moves.id], 8)
            await asyncio.gather(lost.crash(), refuses.crash(), stopped.stop())
            await stand.until(HostState.LOST, lost, refuses)
            gone = moves.hypervisor.undefine(moves.running)
            later.hypervisor.define(gone)
            later.hypervisor.power_on(moves.running)
            await eventually(lambda: stand.view.view.vms[moves.running].owner.id == later.id)  # type: ignore[union-attr]
            assert (asked, stand.fenced) == ([], [])
            (tmp_path / "go").touch()
            await eventually(lambda: sorted(stand.fenced) == sorted([lost.id, moves.id, refuses.id]))
            await eventually(lambda: asked)
            assert stand.state(stopped) is HostState.STOPPED
        # Nobody reads now; the queue keeps what happens, also what is no longer true when it is read.
        await asyncio.gather(back.crash(), meanwhile.crash())
        await stand.until(HostState.LOST, back, meanwhile)
        stand.start(back.hypervisor, back.running, back.down)
        await stand.until(HostState.LIVE, back)
        async with stand.worker(way.port) as asked_later:
            await eventually(lambda: asked_later)
            connections = way.connections
            way.cut()
            await eventually(lambda: way.connections > connections)
            await later.crash()
            # What the first worker had not acknowledged comes again, and is no other wish than before.
            wanted = [wish(lost), wish(meanwhile), wish(later)]
            await eventually(lambda: all(each in [*asked, *asked_later] for each in wanted))
        assert asked == [wish(lost)]
        # Nor what has moved to the last host: the one that it left claims it still, and nobody heard it say otherwise.
        assert [each for each in asked_later if each not in wanted] == []
        assert set(stand.fenced) == {lost.id, moves.id, refuses.id, meanwhile.id, later.id}


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("fast_clocks", "account")
async def test_what_may_run_is_never_asked_for(broker: PrivateBroker, tmp_path: Path) -> None:
    """Neither what two hosts claim nor what a view that is cut off says is; what was lost before the worker came is."""
    (tmp_path / "go").touch()
    async with cable(broker) as way, standing(broker, tmp_path, way.port) as stand:
        # The view lists lost hosts by id, so whoever is last is judged when all others were.
        names = ("a-both", "b-both", "c-source", "d-target", "e-back", "f-later", "g-last")
        source, target, other_source, other_target, back, later, last = everyone = [
            stand.add(name, seed) for seed, name in enumerate(names, 41)
        ]
        await stand.until(HostState.LIVE, *everyone)
        await eventually(lambda: EventType.FLEET_RELIST in stand.view.teller.told)
        for leaves, enters in ((source, target), (other_source, other_target)):
            enters.hypervisor.receive(leaves.hypervisor.domains[leaves.running])
        await eventually(lambda: stand.both_run(source.running) and stand.both_run(other_source.running))
        lost = (source, target, other_source, back, last)
        await asyncio.gather(*(host.crash() for host in lost))
        await stand.until(HostState.LOST, *lost)
        way.plugged = False
        way.cut()
        await eventually(lambda: not stand.view.view.broker_ok)
        stand.start(back.hypervisor, back.running, back.down)
        async with stand.worker(broker.port) as asked:
            await eventually(lambda: stand.questions["/api/v1/fleet"] >= 3, 8)
            assert (stand.state(back), stand.begun, asked) == (HostState.LOST, [], [])
            way.plugged = True
            await eventually(lambda: wish(last) in asked, 12)
            await until_consumed(broker)
            # The last word on where a VM is has no name, for nothing else is known of it there yet.
            await say(broker, EventType.VM_STATUS, vm=vm_text(later.running), name="prod-x", host="nowhere")
            await say(broker, EventType.VM_MIGRATED, vm=vm_text(later.running), host=later.id)
            await later.crash()
            await eventually(lambda: wish(later) in asked, 8)
        # Of the target all but the VM that both claim ran there alone.
        assert [each for each in asked if each not in (wish(target), wish(last), wish(later))] == []
        assert set(stand.fenced) == {target.id, last.id, later.id}


async def say(broker: PrivateBroker, kind: EventType, **data: str) -> None:
    """Publish an event by hand."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(topology.FLEET, ensure=False)
        message = aio_pika.Message(json.dumps(data).encode(), headers={"cloudEvents_type": kind})
        await exchange.publish(message, f"{kind}.by-hand")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "settings, words",
    [
        ({"BROKER_PASSWORD_FILE": "/nowhere/password"}, "/nowhere/password"),
        ({"BROKER_URL": "amqp://engine.worker:wrong@127.0.0.1:{port}/"}, "ACCESS_REFUSED"),
    ],
)
async def test_a_worker_that_cannot_begin_says_why(broker: PrivateBroker, settings: dict[str, str], words: str) -> None:
    """A password file that is not there and a login that is refused each give one line, and exit code 1."""
    environment = {f"VMPULSE_WORKER_{name}": value.format(port=broker.port) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(WORKER)), stderr=asyncio.subprocess.PIPE, env=environment
    )
    _, said = await asyncio.wait_for(process.communicate(), 15)
    assert (process.returncode, said.count(b"\n")) == (1, 1), said
    assert said.startswith(b"ha_worker: ")
    assert words in said.decode()


@pytest.mark.timeout(40)
@pytest.mark.usefixtures("fast_clocks", "account")
async def test_a_plain_client_in_shell_prints_changes_of_status(broker: PrivateBroker, tmp_path: Path) -> None:
    """With amqp-tools and a few lines of shell, each change of a VM's status is a line."""
    if shutil.which("amqp-consume") is None:
        require_tools()
    async with standing(broker, tmp_path) as stand:
        host = stand.add("logged", 31)
        await eventually(lambda: EventType.FLEET_RELIST in stand.view.teller.told)
        await stand.until(HostState.LIVE, host)
        login = tmp_path / "login"
        login.write_text(f"username:{USER}\npassword:{SECRET}\n", encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(str(EXAMPLES / "log_status.sh"), "127.0.0.1", str(login), str(broker.port)),
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )
        assert process.stdout is not None
        try:
            line = b""
            while not line:  # its queue is there at some moment: what happens from then on is printed
                host.hypervisor.power_off(host.running, EXIT)
                await asyncio.sleep(0.3)
                host.hypervisor.power_on(host.running)
                with contextlib.suppress(TimeoutError):
                    line = await asyncio.wait_for(process.stdout.readline(), 0.3)
        finally:
            process.kill()
            await process.communicate()
    pattern = rf"[-0-9]+T[:0-9]+Z {vm_text(host.running)} on {host.id}: (Down \(was Up\)|Up \(was Down\))\n"
    assert re.fullmatch(pattern, line.decode())


def require_tools() -> None:
    """Without amqp-tools: skip on a laptop, fail in CI, as for the broker."""
    require("amqp-consume is not installed: run `make setup`, or install what Debian calls amqp-tools")


def test_the_worker_is_short_enough_to_be_read() -> None:
    """The example has at most 60 lines, none longer than the project's own, and no import beyond aio-pika."""
    lines = WORKER.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120
