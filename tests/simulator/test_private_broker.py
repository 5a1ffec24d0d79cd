"""The private broker: it works, refuses, comes back after a crash, and never outlives whoever started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE

import aio_pika
import pytest
from aiormq.exceptions import ProbableAuthenticationError

from tests.conftest import require_broker
from vmpulse_contract.rights import host_rights
from vmpulse_simulator import private_broker
from vmpulse_simulator.broker_files import PORTS, BrokerUser, definitions, free_ports
from vmpulse_simulator.errors import BrokerError, BrokerStartError, BrokerUnavailable
from vmpulse_simulator.private_broker import PrivateBroker, answers_amqp

WELL_KNOWN_PORTS = {4369, 5672, 15672, 25672}
GUARD_EPMD_NODE = 3
# A program that starts a broker, says which one, and then waits for its end.
CHILD = """
import json, signal, sys
from pathlib import Path
from vmpulse_simulator.private_broker import PrivateBroker
broker = PrivateBroker(root=Path(sys.argv[1]))
print(json.dumps({"home": str(broker.home), "port": broker.port}), flush=True)
broker.start()
signal.pause()
"""


def processes_of(home: Path) -> list[str]:
    """Processes that carry the node's folder in their environment: the VM, epmd and Erlang's small programs."""
    mark = os.fsencode(f"HOME={home}")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return found


def wait_until_none(home: Path, deadline_s: float = 5.0) -> list[str]:
    """What is left of the node at the deadline; returns as soon as nothing is."""
    deadline = time.monotonic() + deadline_s
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_free_ports_are_distinct_and_nobodys_default() -> None:
    """The ports of a node differ, lie below the ephemeral range, and are none of RabbitMQ's own."""
    drawn = free_ports()
    numbers = {getattr(drawn, name) for name in drawn.__slots__}
    assert len(numbers) == len(drawn.__slots__)
    assert numbers <= set(PORTS)
    assert not numbers & WELL_KNOWN_PORTS


def test_definitions_hold_no_password_in_clear() -> None:
    """What is written to disk has hashed passwords and exactly the users that were asked for."""
    written = json.dumps(definitions([BrokerUser("h001", "very secret", host_rights("h001"))]))
    assert "very secret" not in written
    assert "guest" not in written
    assert '"exchange": "vmpulse.rpc"' in written


def test_missing_rabbitmq_is_a_typed_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without RabbitMQ the start says what to install, and creates nothing."""
    monkeypatch.setattr(private_broker, "SCRIPTS", ())
    with pytest.raises(BrokerUnavailable, match="make setup"):
        PrivateBroker(root=tmp_path).start()
    assert list(tmp_path.iterdir()) == []


def test_unresolvable_localhost_is_named_before_the_start_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose /etc/hosts lacks localhost is told so."""
    require_broker()

    def unresolvable(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", unresolvable)
    assert "/etc/hosts" in (private_broker.broker_available() or "")


@pytest.mark.broker
def test_node_answers_on_its_port(broker: PrivateBroker) -> None:
    """Once started, the node speaks AMQP on loopback."""
    assert answers_amqp(broker.host, broker.port)
    assert broker.running


@pytest.mark.broker
async def test_user_can_log_in_and_pass_a_message(broker: PrivateBroker) -> None:
    """A user from the definitions logs in, and what it publishes arrives."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue.name)
        message = await queue.get(timeout=5)
        assert message.body == b"hello"
        await message.ack()


@pytest.mark.broker
@pytest.mark.parametrize("login", ["test.admin:wrong", "guest:guest"])
async def test_wrong_login_is_refused(broker: PrivateBroker, login: str) -> None:
    """A wrong password does not get in, and there is no guest."""
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://{login}@{broker.host}:{broker.port}/")


@pytest.mark.broker
def test_unusable_configuration_fails_with_the_log(tmp_path: Path) -> None:
    """A node that ends while starting gives a typed error with the end of its log, and leaves no process."""
    require_broker()
    node = PrivateBroker(root=tmp_path, extra_config="no.such.setting = 1\n")
    with pytest.raises(BrokerStartError, match=r"no\.such\.setting") as caught:
        node.start()
    assert caught.value.remedy
    assert processes_of(node.home) == []


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_crash_keeps_durable_state_and_stop_leaves_nothing(tmp_path: Path) -> None:
    """After kill -9 the node is back on its port with its queue; after the end no process and no folder is left."""
    require_broker()
    async with PrivateBroker(root=tmp_path) as node:
        connection = await aio_pika.connect(node.url())
        async with connection, connection.channel() as channel:
            await channel.declare_queue("kept", durable=True)
        first = node.pid
        await asyncio.to_thread(node.flush)
        await asyncio.to_thread(node.kill)
        assert processes_of(node.home) == []
        with pytest.raises(BrokerError, match="is down"):
            node.ctl("list_queues")
        await asyncio.to_thread(node.start)
        assert node.pid != first
        connection = await aio_pika.connect(node.url())
        async with connection, connection.channel() as channel:
            await channel.declare_queue("kept", passive=True)
    assert processes_of(node.home) == []
    assert not answers_amqp(node.host, node.port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.broker
@pytest.mark.parametrize(
    "number, started",
    [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, False)],
)
def test_node_does_not_outlive_its_program(tmp_path: Path, number: signal.Signals, *, started: bool) -> None:
    """However and whenever the program that started the node is killed, no process of the node is left."""
    require_broker()
    with subprocess.Popen((sys.executable, "-c", CHILD, str(tmp_path)), stdout=PIPE, stderr=DEVNULL) as program:
        assert program.stdout is not None
        told = json.loads(program.stdout.readline())
        home, port = Path(told["home"]), int(told["port"])
        while not (answers_amqp("127.0.0.1", port) if started else len(processes_of(home)) >= GUARD_EPMD_NODE):
            time.sleep(0.02)
        program.send_signal(number)
        program.wait(timeout=5)
        assert wait_until_none(home) == []
    assert not answers_amqp("127.0.0.1", port)


@pytest.mark.broker
async def test_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    """A start that is cancelled half-way leaves no process."""
    require_broker()
    node = PrivateBroker(root=tmp_path)

    async def run() -> None:
        async with node:
            pytest.fail("started in spite of the cancellation")

    task = asyncio.create_task(run())
    while node.pid is None:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(wait_until_none, node.home) == []
