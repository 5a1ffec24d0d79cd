"""``vmpulse-agent check``: what it says of a broker, of libvirt and of the machine, and that it changes nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.agent.test_metrics import nowhere
from tests.agent.test_program import HOST, NO_RIGHTS, REMOVE, SECRET, USER, host_users, password, tap
from tests.conftest import ADMIN
from tests.real_broker import Program, Tap, address, agent_at_work, ended, simulated_host, started, unique
from tests.waiting import eventually
from vmpulse_agent.commands import check_broker, check_libvirt, check_machine, findings
from vmpulse_agent.commands.findings import Level, bounded, exit_code, fail, ok, warn
from vmpulse_agent.errors import HypervisorError, HypervisorTimeout
from vmpulse_agent.libvirt_edge import LibvirtOptions, inspection
from vmpulse_agent.metrics_server import MetricsServer
from vmpulse_agent.settings import AgentSettings
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.identity import host_id
from vmpulse_simulator.private_broker import PrivateBroker

__all__ = ["host_users", "password", "tap"]

AGENT = "vmpulse_agent"
CHANGES_ONLY = """\
rabbit_auth_backend_internal:set_permissions(
  <<"{host}">>, <<"/">>, <<".*">>, <<"^vmpulse\\\\.(changes|rpc.*)$">>, <<".*">>, <<"test">>).
"""


async def check(broker: PrivateBroker | None, *arguments: str, host: str = HOST, vhost: str = "") -> Program:
    """Run the program on libvirt's test driver."""
    url = f"amqp://127.0.0.1:{broker.port if broker else 1}/{vhost}"
    options = ("--uri", "test:///default", "--broker-url", url, "--metrics-port", "0", "--host", host)
    return await ended(AGENT, "check", *options, *arguments)


def levels(done: Program) -> dict[str, str]:
    """The level of each finding by what it is about; each that is not well says how to mend it."""
    lines = done.out.splitlines()
    found = {}
    for number, line in enumerate(lines):
        if not line.startswith(" "):
            found[line[6:20].strip()] = line[:4].strip()
            if not line.startswith("ok"):
                assert lines[number + 1].strip().startswith("-> "), line
    return found


@pytest.mark.broker
async def test_all_is_well(broker: PrivateBroker, tap: Tap, password: str, tmp_path: Path) -> None:
    """With the rights of a host nothing fails, nothing is said on the stream, and the rpc queue is free afterwards."""
    done = await check(broker, "--broker-password-file", password, "--state-dir", str(tmp_path / "state"))
    found = levels(done)
    assert done.code == 0, done.out
    assert {level for what, level in found.items() if what not in {"clock", "password file"}} == {"ok"}
    assert set(found) >= {"settings", "host", "libvirt", "domains", "broker", "exchanges", "publishing", "requests"}
    assert "1 active, 0 inactive" in done.out
    assert "RabbitMQ" in done.out
    assert SECRET not in done.out
    assert tap.heard == []
    assert not (tmp_path / "state").exists()
    again = await check(broker, "--broker-password-file", password)
    assert levels(again)["requests"] == "ok"


@pytest.mark.broker
async def test_wrong_password_is_said_to_be(broker: PrivateBroker, host_users: None, tmp_path: Path) -> None:  # noqa: ARG001
    """Who is refused by the broker is told to check the password, and not whether something hangs."""
    (tmp_path / "wrong").write_text("wrong", encoding="utf-8")
    done = await check(broker, "--broker-password-file", str(tmp_path / "wrong"))
    assert (done.code, levels(done)["broker"]) == (1, "FAIL")
    assert f"refuses the user '{HOST}'\n" in done.out
    assert "-> check its password" in done.out


@pytest.mark.broker
async def test_rights_are_tried(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """A user who may not have the host's queue is told so, in the broker's words, and all else is looked at."""
    done = await check(broker, "--broker-password-file", password, host=NO_RIGHTS)
    assert (done.code, levels(done)["requests"]) == (1, "FAIL")
    assert "ACCESS_REFUSED" in done.out
    assert "docs/operating.md" in done.out
    assert tap.heard == []


@pytest.mark.broker
async def test_publishing_is_tried_and_taken_back(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """A user who may not write to an exchange is told which; who may has said nothing to anybody."""
    host = unique("half")
    broker.ctl("eval", USER.format(host=host, secret=SECRET, own=".*"))
    broker.ctl("eval", CHANGES_ONLY.format(host=host))
    try:
        done = await check(broker, "--broker-password-file", password, host=host)
    finally:
        broker.ctl("eval", REMOVE.format(host=host))
    refused = [line for line in done.out.splitlines() if line.startswith("FAIL")]
    assert done.code == 1
    assert len(refused) == 3
    assert all("publishing" in line and "ACCESS_REFUSED" in line for line in refused)
    assert not any("vmpulse.changes:" in line for line in refused)
    assert tap.heard == []


@pytest.mark.broker
async def test_running_agent_is_not_disturbed(broker: PrivateBroker, tap: Tap, password: str) -> None:
    """Beside a live agent of the host the check warns of it, and that agent neither ends nor reconnects."""
    hypervisor = simulated_host(unique("checked"))
    broker.ctl("eval", USER.format(host=hypervisor.host, secret=SECRET, own=".*"))
    try:
        async with agent_at_work(hypervisor, address(broker)) as agent:
            await eventually(lambda: tap.of(hypervisor.host, "frame"), 12)
            seen = len(tap.heard)
            done = await check(broker, "--broker-password-file", password, host=hypervisor.host)
            assert done.code == 0, done.out
            assert levels(done)["requests"] == "warn"
            assert "another agent runs" in done.out
            await eventually(lambda: len(tap.heard) > seen)
            assert agent.publisher.reconnects == 0  # type: ignore[attr-defined]
            assert (await tap.ask(hypervisor.host, "list")).type == "reply"
    finally:
        broker.ctl("eval", REMOVE.format(host=hypervisor.host))


@pytest.mark.broker
async def test_missing_exchanges_are_named(broker: PrivateBroker, host_users: None, password: str) -> None:  # noqa: ARG001
    """In a virtual host where no view has run, the exchanges that are missing are named, and the remedy is a view."""
    vhost = unique("empty")
    broker.ctl("add_vhost", vhost)
    try:
        broker.ctl("set_permissions", "-p", vhost, HOST, ".*", ".*", ".*")
        done = await check(broker, "--broker-password-file", password, vhost=vhost)
    finally:
        broker.ctl("delete_vhost", vhost)
    assert (done.code, levels(done)["exchanges"], levels(done)["broker"]) == (1, "FAIL", "ok")
    assert "not there: vmpulse.runtime, vmpulse.changes" in done.out
    assert "-> start the view once" in done.out


@pytest.mark.broker
async def test_broker_in_alarm_is_named(broker: PrivateBroker, tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that lets us in and takes nothing is said to, after what it did answer, and within seconds."""
    monkeypatch.setattr(check_broker, "PUBLISH_S", 0.5)
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        found = await check_broker.check_broker(address(broker), host_id(ADMIN.name.replace(".", "-")))
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
    assert [(one.level, one.what) for one in found] == [
        (Level.OK, "broker"),
        (Level.OK, "exchanges"),
        (Level.OK, "requests"),
        (Level.FAIL, "publishing"),
    ]
    assert "alarm" in found[-1].detail
    assert tap.heard == []


async def test_one_failure_does_not_hide_the_next(tmp_path: Path) -> None:
    """Without broker, libvirt, password file and state folder each is named, none of them for long; the code is 2."""
    file = tmp_path / "file"
    file.touch()
    began = time.monotonic()
    done = await check(
        None,
        *("--uri", f"qemu+unix:///system?socket={tmp_path}/none", "--state-dir", f"{file}/state"),
        *("--broker-password-file", f"{tmp_path}/secret"),
    )
    assert time.monotonic() - began < 10
    found = [line.split() for line in done.out.splitlines() if line.startswith("FAIL")]
    assert [words[1] for words in found] == ["state", "libvirt", "password", "broker"]
    assert done.code == 2
    assert "Traceback" not in done.err


async def test_late_failure_of_libvirt_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libvirt refuses at the end is a finding in libvirt's words, after what it did answer."""
    processes = inspection.processes
    monkeypatch.setattr(
        inspection, "processes", lambda options: processes(options._replace(uri="test:///no/such/file"))
    )
    found = await check_libvirt.check_libvirt(LibvirtOptions("test:///default"))
    assert [(one.level, one.what) for one in found] == [
        (Level.OK, "libvirt"),
        (Level.OK, "domains"),
        (Level.OK, "guest agents"),
        (Level.FAIL, "pid files"),
    ]
    assert found[-1].detail.startswith("cannot connect to libvirt at test:///no/such/file")


async def test_reader_that_leaves_early() -> None:
    """Whoever reads only the first line gets that, without a word about the rest."""
    async with started(AGENT, "check", "--uri", "test:///default", "--host", "h1") as (process, said):
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"ok    settings")
        process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await asyncio.wait_for(process.wait(), 10) in {0, 1}
        assert said.read_text() == ""


async def test_wrong_setting_is_two() -> None:
    """A setting that is none ends the check with 2 and the line that ``run`` would give."""
    done = await ended(AGENT, "check", "--tick-s", "0")
    assert (done.code, done.out) == (2, "")
    assert "0.1 to 3600 seconds" in done.err


async def test_port_in_use() -> None:
    """A port that another program has fails; one that has an agent's metrics is only warned of."""
    with MetricsServer("127.0.0.1", 0, list, nowhere()) as server:
        port = int(server.url.rpartition(":")[2])
        settings = AgentSettings(metrics_port=port)
        assert (await asyncio.to_thread(check_machine.check_port, settings)).level is Level.WARN
    other = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    settings = AgentSettings(metrics_port=other.sockets[0].getsockname()[1])
    finding = await asyncio.to_thread(check_machine.check_port, settings)
    assert finding.level is Level.FAIL
    assert "metrics_port" in finding.mend
    other.close()
    assert check_machine.check_port(AgentSettings(metrics_port="")).level is Level.OK


def test_files(tmp_path: Path) -> None:
    """Files and folders that others can read, that are empty, or that cannot be made, are said to be."""
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    secret.chmod(0o600)
    assert check_machine.check_password(str(secret)).level is Level.OK
    secret.chmod(0o644)
    assert check_machine.check_password(str(secret)) == warn(
        "password file", f"{secret} can be read by every user (-rw-r--r--)", f"chmod 600 {secret}"
    )
    secret.write_text("\n", encoding="utf-8")
    assert "is empty" in check_machine.check_password(str(secret)).detail
    with pytest.raises(SettingsError, match="broker_password_file"):
        check_machine.check_password(str(tmp_path / "none"))
    assert check_machine.check_state_dir(str(tmp_path)).level is Level.OK
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert check_machine.check_state_dir(str(tmp_path / "a" / "b")).detail.endswith("will be made")
    assert check_machine.check_state_dir(str(secret / "x")).level is Level.FAIL
    assert check_machine.check_state_dir("").level is Level.WARN


def test_host_names() -> None:
    """A host that is called localhost for want of a name is warned of."""
    assert check_machine.check_host(AgentSettings(), "localhost.localdomain").level is Level.WARN
    assert check_machine.check_host(AgentSettings(), "h1.example.org").level is Level.OK
    assert check_machine.check_host(AgentSettings(host="h1"), "localhost").level is Level.OK


async def test_nothing_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question without an answer is a finding after its time, and so is a fault of our own."""

    async def hang() -> list[findings.Finding]:
        await asyncio.Event().wait()
        return []

    async def late() -> list[findings.Finding]:
        raise HypervisorTimeout("look: no answer within 2 s")

    async def break_down() -> list[findings.Finding]:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(findings, "ITEM_S", 0.05)
    found = [*await bounded("a", hang()), *await bounded("b", late()), *await bounded("c", break_down())]
    assert [one.level for one in found] == [Level.FAIL] * 3
    assert "no answer within 0.05 s" in found[0].detail
    assert "ZeroDivisionError: oh" in found[2].detail
    assert [one.mend for one in found] == [findings.HANGS, findings.HANGS, "report this"]
    assert findings.failed("d", HypervisorError("look: no")).mend == findings.FAILS


def test_exit_codes_and_lines() -> None:
    """Warnings are 0, failures 1; what is said stays on its line, without what a terminal would obey."""
    assert exit_code([ok("a", "b"), warn("a", "b", "c")]) == 0
    assert exit_code([ok("a", "b"), fail("a", "b", "c")]) == 1
    assert str(fail("what", "two\nlines\x1b[2J", "do")) == (
        "FAIL  what            two lines[2J\n                      -> do"
    )
