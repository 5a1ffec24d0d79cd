"""``vmpulse-agent`` and ``vmpulse view`` as processes: their exit codes, their one line, and their end on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.edges.service_manager import listening
from tests.real_broker import Program, Tap, address, delete_queue, ended, started, tapped, unique
from tests.waiting import eventually
from vmpulse_contract import topology
from vmpulse_contract.topology import Kind
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = pytest.mark.broker

AGENT = "vmpulse_agent"
VIEW = "vmpulse_consumers"
HOST = "program-host"
SECRET = "a-secret-of-ours"
USER = """\
rabbit_auth_backend_internal:add_user(<<"{host}">>, <<"{secret}">>, <<"test">>),
rabbit_auth_backend_internal:set_permissions(<<"{host}">>, <<"/">>, <<"{own}">>, <<".*">>, <<".*">>, <<"test">>).
"""
REMOVE = 'rabbit_auth_backend_internal:delete_user(<<"{host}">>, <<"test">>).'
NO_RIGHTS = "program-nobody"


@pytest.fixture(scope="module")
def host_users(broker: PrivateBroker) -> Iterator[None]:
    """A broker user named like the host, as in production; and one that may declare nothing."""
    users = {HOST: r"^vmpulse\\.rpc\\." + HOST + "$", NO_RIGHTS: "^$"}
    for host, own in users.items():
        broker.ctl("eval", USER.format(host=host, secret=SECRET, own=own))
    yield
    for host in users:
        broker.ctl("eval", REMOVE.format(host=host))


@pytest.fixture
async def tap(broker: PrivateBroker, host_users: None) -> AsyncIterator[Tap]:  # noqa: ARG001 - they must exist
    """A tap on the stream; it also declares the exchanges, which a view does in production."""
    async with tapped(broker) as opened:
        yield opened


@pytest.fixture
def nobody_calls() -> Iterator[str]:
    """A broker address at which nobody may knock."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        yield f"127.0.0.1:{door.getsockname()[1]}"
        with pytest.raises(BlockingIOError):
            door.accept()


@pytest.fixture
def password(tmp_path: Path) -> str:
    """A file with the password."""
    path = tmp_path / "password"
    path.write_text(SECRET + "\n", encoding="utf-8")
    return str(path)


def run(broker: PrivateBroker, password: str, *, host: str = HOST, uri: str = "test:///default") -> tuple[str, ...]:
    """Arguments of an agent."""
    url = f"amqp://127.0.0.1:{broker.port}/"
    options = {"--host": host, "--uri": uri, "--broker-url": url, "--broker-password-file": password, "--tick-s": "0.3"}
    options["--metrics-port"] = "0"
    return ("run", *(word for option in options.items() for word in option))


def assert_one_line(done: Program, code: int, *parts: str) -> None:
    """The program ended with *code* and one line, without a traceback or a secret."""
    own = [line for line in done.lines if line.startswith("vmpulse")]
    assert (done.code, len(own)) == (code, 1), done.err
    assert "Traceback" not in done.err
    assert SECRET not in done.err
    for part in parts:
        assert part in own[0]


async def test_agent_publishes_and_says_goodbye(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """The agent on libvirt's test driver publishes frames as its own user; SIGTERM makes it say goodbye within 2 s."""
    async with started(AGENT, *run(broker, password)) as (process, said):
        await eventually(lambda: len(tap.of(HOST, Kind.FRAME)) > 1 or process.returncode is not None, 12)
        before = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0, said.read_text()
        assert time.monotonic() - before < 2
        await eventually(lambda: tap.of(HOST, Kind.GOODBYE))
        assert "Traceback" not in said.read_text()


async def test_agent_with_wrong_password_ends(broker: PrivateBroker, tap: Tap, tmp_path: Path) -> None:
    """A wrong password ends the agent with 1 and one line that names the user and what to check."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong", encoding="utf-8")
    done = await ended(AGENT, *run(broker, str(wrong)))
    assert_one_line(done, 1, f"'{HOST}'", "check its password")
    assert not tap.of(HOST, Kind.FRAME)


@pytest.mark.usefixtures("tap")
async def test_agent_without_permission_ends(broker: PrivateBroker, password: str) -> None:
    """A user who may not declare the host's queue ends the agent with 1 and the broker's own words."""
    done = await ended(AGENT, *run(broker, password, host=NO_RIGHTS))
    assert_one_line(done, 1, "access to queue 'vmpulse.rpc.program-nobody'", "check the user's permissions")


async def test_agent_is_watched_and_scraped(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """A real agent tells systemd READY, STATUS, WATCHDOG and STOPPING, serves its metrics, and is well when asked."""
    with listening() as manager:
        environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
        async with started(AGENT, *run(broker, password), **environment) as (process, said):
            await manager.hears("WATCHDOG", 3)
            assert manager.lines("READY") == ["1"]
            assert manager.lines("STATUS")[-1] == "1 VMs; broker and hypervisor answer"
            await eventually(lambda: len(tap.of(HOST, Kind.FRAME)) > 1)
            found = await scrape(metrics_url(said))
            well = await ended(AGENT, "health", "--url", metrics_url(said))
            assert (well.code, well.out) == (0, "ok\n")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0, said.read_text()
        await manager.hears("STOPPING")
    assert manager.heard[0][1][0] == "READY=1"
    assert found["vmpulse_agent_broker_up", ""] == found["vmpulse_agent_hypervisor_up", ""] == 1
    assert found["vmpulse_agent_vms", "active"] == 1
    assert found["vmpulse_agent_published_total", "frame"] >= 2
    assert found["vmpulse_agent_confirms_total", "taken"] >= 1
    assert found["vmpulse_agent_libvirt_call_seconds_count", "look"] >= 2
    assert found["vmpulse_agent_libvirt_call_seconds_count", "connect"] >= 1
    assert found["vmpulse_agent_tick_seconds_count", ""] >= 1


def metrics_url(said: Path) -> str:
    """Where an agent that took any free port serves its metrics."""
    line = next(line for line in said.read_text().splitlines() if "metrics at" in line)
    return line.split()[-1].removesuffix("/metrics")


async def scrape(url: str) -> dict[tuple[str, str], float]:
    """All samples by name and label value."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{url}/metrics")).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}


async def test_agent_with_a_taken_port_ends(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """A port of the metrics that is in use ends the agent with 1 and one line, and nothing is published."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = await ended(AGENT, *run(broker, password), "--metrics-port", str(port))
    assert_one_line(done, 1, f"cannot serve metrics at 127.0.0.1:{port}", "metrics_port")
    assert not tap.of(HOST, Kind.FRAME)


async def test_agent_is_ready_without_a_broker() -> None:
    """A broker that is away does not keep the unit from starting: READY, and the status says what is amiss."""
    arguments = ("run", "--host", HOST, "--uri", "test:///default", "--broker-url", "amqp://127.0.0.1:1/")
    with listening() as manager:
        async with started(AGENT, *arguments, "--metrics-port=0", NOTIFY_SOCKET=manager.address) as (process, said):
            assert "broker: no connection" in (await manager.hears("STATUS"))[0]
            assert manager.lines("READY") == ["1"]
            done = await ended(AGENT, "health", "--url", metrics_url(said))
            assert done.code == 1
            assert done.out.startswith("broker: no connection to amqp://program-host@127.0.0.1:1/ for ")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_agent_keeps_trying_an_unreachable_broker() -> None:
    """A broker that is not there yet is tried again, with a line for each try; SIGTERM ends that with 0."""
    arguments = ("run", "--host", HOST, "--uri", "test:///default", "--broker-url", "amqp://127.0.0.1:1/")
    async with started(AGENT, *arguments, "--metrics-port=") as (process, said):
        await eventually(lambda: said.read_text().count("trying again in") >= 2, 12)
        before = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        assert time.monotonic() - before < 2
        tries = [line for line in said.read_text().splitlines() if "127.0.0.1:1" in line]
        assert all("check that RabbitMQ runs there" in line and "trying again" in line for line in tries)
        assert "Traceback" not in said.read_text()


async def test_agent_without_libvirt_ends(broker: PrivateBroker, password: str, tap: Tap, tmp_path: Path) -> None:
    """A libvirt socket that is not there ends the agent with 1 and one line, and nothing is published."""
    missing = tmp_path / "no-socket"
    done = await ended(AGENT, *run(broker, password, uri=f"qemu+unix:///system?socket={missing}"))
    assert_one_line(done, 1, str(missing))
    assert not tap.of(HOST, Kind.FRAME)


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("--host", "Not.A.Host"), "1 to 63 of a-z, 0-9, - and _"),
        (("--host", HOST, "--tick-s", "0"), "0.1 to 3600 seconds"),
        (("--host", HOST, "--tick-s", "nan"), "0.1 to 3600 seconds"),
        (("--host", "another-host"), "a broker user named like the host, another-host"),
        (("--host", HOST, "--labels", "a=" + "x" * 300), "labels"),
        (("--host", HOST, "--broker-password-file", "no/such/file"), "broker_password_file"),
        (("--host", HOST, "--config", "no/such/file"), "a readable TOML file"),
        (("--host", HOST, "--log-level", "loud"), "--log-level"),
    ],
)
async def test_agent_refuses_wrong_settings_unconnected(
    arguments: tuple[str, ...], named: str, nobody_calls: str
) -> None:
    """A wrong setting ends the agent with 2 and one line that says what is allowed, before it connects anywhere."""
    url = f"amqp://{HOST}:{SECRET}@{nobody_calls}/"
    done = await ended(AGENT, "run", "--uri", "test:///default", "--broker-url", url, *arguments)
    assert_one_line(done, 2, named)


async def test_unknown_setting_in_the_file_is_named(tmp_path: Path, nobody_calls: str) -> None:
    """A setting in the TOML file that does not exist ends agent and view with 2 and its name."""
    config = tmp_path / "settings.toml"
    config.write_text(f'broker_url = "amqp://engine.view@{nobody_calls}/"\nticks = 3\n', encoding="utf-8")
    agent, view = await asyncio.gather(
        ended(AGENT, "run", "--config", str(config)), ended(VIEW, "view", "--config", str(config))
    )
    for done in (agent, view):
        assert_one_line(done, 2, "setting ticks: 3")


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("--name", "Not A View"), "1 to 40 of a-z"),
        (("--http-port", "99999"), "0 to 65535"),
        (("--broker-url", "http://nowhere"), "amqp://USER"),
    ],
)
async def test_view_refuses_wrong_settings_unconnected(
    arguments: tuple[str, ...], named: str, nobody_calls: str
) -> None:
    """A wrong setting ends the view with 2 and one line that says what is allowed, before it connects anywhere."""
    done = await ended(VIEW, "view", *arguments, VMPULSE_VIEW_BROKER_URL=f"amqp://engine.view@{nobody_calls}/")
    assert_one_line(done, 2, named)


async def test_view_with_wrong_password_ends(broker: PrivateBroker) -> None:
    """A wrong password ends the view with 1 and one line."""
    url = str(address(broker)).replace("@", f":{SECRET}@")
    done = await ended(VIEW, "view", "--http-port", "0", VMPULSE_VIEW_BROKER_URL=url)
    assert_one_line(done, 1, "check its password")


async def test_view_with_foreign_queue_ends(broker: PrivateBroker) -> None:
    """A queue of the view's name with other arguments ends the view with 1 and says to delete it."""
    name = unique("foreign")
    async with tapped(broker) as tap:
        await tap._channel.declare_queue(topology.view_queue(name).name, durable=True)
    done = await ended(VIEW, "view", "--http-port", "0", "--name", name, VMPULSE_VIEW_BROKER_URL=broker.url())
    await delete_queue(broker, topology.view_queue(name).name)
    assert_one_line(done, 1, "exists with other arguments", "delete it")


async def test_view_serves_and_ends_on_sigterm(broker: PrivateBroker) -> None:
    """The view consumes and serves until SIGTERM, which ends it with 0 within 2 s; systemd is told all along."""
    name = unique("view")
    arguments = ("view", "--http-port", "0", "--name", name)
    with listening() as manager:
        told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
        async with started(VIEW, *arguments, VMPULSE_VIEW_BROKER_URL=broker.url(), **told) as (process, said):
            await manager.hears("WATCHDOG", 2)
            assert manager.heard[0][1][0] == "READY=1"
            assert "consuming vmpulse.view." in said.read_text()
            before = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0, said.read_text()
            assert time.monotonic() - before < 2.5
            assert "Traceback" not in said.read_text()
        await manager.hears("STOPPING")
    await delete_queue(broker, topology.view_queue(name).name)
