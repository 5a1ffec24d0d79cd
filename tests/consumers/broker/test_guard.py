"""`vmpulse broker guard` against a real broker, whose memory a host fills by a transaction that it never commits."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
import time
from pathlib import Path

import aio_pika
import pytest

from tests.conftest import require_broker
from tests.consumers.broker.deaf_host import deaf_host, hoarding_host
from tests.consumers.broker.guarding import CLOSED_S, MIB, binaries, guarding, speaking, until_alarm, until_below, words
from tests.consumers.broker.operating import ADMIN
from tests.real_broker import Cable, cable, ended, started
from tests.waiting import eventually
from vmpulse_consumers.broker.conduct import AMPLE, UNACKNOWLEDGED, Misconduct
from vmpulse_consumers.broker.guard import REASON, Guard
from vmpulse_consumers.broker.management import Management
from vmpulse_consumers.view.budget import MESSAGES_BURST
from vmpulse_contract.broker_url import parse
from vmpulse_contract.rights import MONITOR, VIEW, host_rights
from vmpulse_edges.amqp_connection import connect
from vmpulse_edges.errors import BrokerError
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


async def test_a_host_that_holds_messages_back_is_closed(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """16 MiB in a transaction end with the connection, within 15 s; an engine user's and hosts without one stay."""
    before = await asyncio.to_thread(binaries, guarded_broker)
    users = ("h001", "h0011", VIEW)
    async with speaking(guarded_broker, *users) as (bad, idle, view), guarding(guarded_broker, tmp_path) as said:
        async with speaking(guarded_broker, "h002", confirms=True) as (honest,):
            await view.hold_back(1, 1, "vmpulse.fleet")
            await bad.hold_back(64, MIB // 4)
            begun = time.monotonic()
            assert REASON in await bad.ends()
            assert time.monotonic() - begun < CLOSED_S
            await honest.say()
            assert (idle.open, view.open, honest.open) == (True, True, True)
        await eventually(lambda: "64 messages" in said.read_text(), what="it is told")
        assert said.read_text().count("closed a connection of host h001") == 1
        assert "engine" not in said.read_text()
    assert await asyncio.to_thread(binaries, guarded_broker) < before + 4 * MIB


@pytest.mark.long
async def test_a_host_that_does_it_again_and_again_is_let_in_no_more(
    guarded_broker: PrivateBroker, tmp_path: Path
) -> None:
    """The third time within ten minutes its user gets no connection any more; another host still does."""
    limits = guarded_broker.ctl("list_user_limits", "--user", "h001")
    try:
        async with guarding(guarded_broker, tmp_path) as said:
            for _ in range(3):
                async with speaking(guarded_broker, "h001") as (bad,):
                    await bad.hold_back(4, MIB // 4)
                    assert REASON in await bad.ends()
            with pytest.raises(BrokerError, match="closes the door"):
                await connect(parse("broker_url", guarded_broker.url("h001")), "again")
            assert "host h001 is let in no more, for it does so again and again: mend the host" in said.read_text()
            async with speaking(guarded_broker, "h0011", confirms=True) as (honest,):
                await honest.say()
    finally:
        guarded_broker.ctl("set_user_limits", "h001", json.dumps(host_rights("h001").limits))
    assert guarded_broker.ctl("list_user_limits", "--user", "h001") == limits


async def test_a_memory_alarm_that_a_transaction_set_is_over(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """One host sets RabbitMQ's alarm, so nobody's publishes are taken; the guard closes it, and another's are again."""
    used = int(guarded_broker.ctl("eval", "vm_memory_monitor:get_process_memory()."))
    guarded_broker.ctl("set_vm_memory_high_watermark", "absolute", str(used + 64 * MIB))
    try:
        async with (
            speaking(guarded_broker, "h001") as (bad,),
            speaking(guarded_broker, "h002", confirms=True) as (honest,),
        ):
            filling = asyncio.create_task(bad.hold_back(400, MIB))
            await asyncio.to_thread(until_alarm, guarded_broker)
            waiting = asyncio.create_task(honest.say())
            assert not (await asyncio.wait({waiting}, timeout=1.0))[0], "the alarm holds everybody up"
            async with guarding(guarded_broker, tmp_path):
                assert REASON in await bad.ends()
                await asyncio.wait_for(waiting, CLOSED_S)
            await asyncio.gather(filling, return_exceptions=True)
    finally:
        guarded_broker.ctl("set_vm_memory_high_watermark", "0.4")


@pytest.mark.long
async def test_a_memory_alarm_that_unread_returns_set_is_over(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """What comes back to a host that reads none of it is kept for it, however little the broker has room for."""
    used = int(guarded_broker.ctl("eval", "vm_memory_monitor:get_process_memory()."))
    guarded_broker.ctl("set_vm_memory_high_watermark", "absolute", str(used + 64 * MIB))
    try:
        with hoarding_host(guarded_broker.port, "h001", "h001-password") as bad:
            async with speaking(guarded_broker, "h002", confirms=True) as (honest,):
                filling = asyncio.create_task(asyncio.to_thread(bad.send, 400))
                await asyncio.to_thread(until_alarm, guarded_broker)
                waiting = asyncio.create_task(honest.say())
                assert not (await asyncio.wait({waiting}, timeout=1.0))[0], "the alarm holds everybody up"
                async with guarding(guarded_broker, tmp_path):
                    await asyncio.wait_for(waiting, 2 * CLOSED_S)
                await filling
    finally:
        guarded_broker.ctl("set_vm_memory_high_watermark", "0.4")


@pytest.mark.long
async def test_a_host_that_reads_nothing_holds_up_no_other_closing(
    guarded_broker: PrivateBroker, tmp_path: Path
) -> None:
    """RabbitMQ needs some seconds to be rid of it, and says then that it failed: others are closed meanwhile."""
    before = await asyncio.to_thread(binaries, guarded_broker)
    with deaf_host(guarded_broker.port, "h001", "h001-password", 64) as deaf:
        async with speaking(guarded_broker, "h0011", "h002") as others, guarding(guarded_broker, tmp_path) as said:
            await asyncio.gather(*(other.hold_back(4, MIB) for other in others))
            assert all(REASON in word for word in await asyncio.gather(*(other.ends() for other in others)))
            await eventually(lambda: {"h0011", "h002"} <= set(said.read_text().split()), CLOSED_S)
            assert "not guarding" not in said.read_text()
        await asyncio.to_thread(until_below, guarded_broker, before + 4 * MIB)
        assert deaf.fileno() >= 0


async def test_a_host_that_does_not_read_what_comes_back_is_cut_off(guarded_broker: PrivateBroker) -> None:
    """Messages come back that nobody is bound to; RabbitMQ keeps them for one that does not read, and ends that."""
    before = await asyncio.to_thread(binaries, guarded_broker)
    with hoarding_host(guarded_broker.port, "h001", "h001-password") as host:
        await asyncio.to_thread(host.send, 200)
        await asyncio.to_thread(until_below, guarded_broker, before + 4 * MIB)
        await asyncio.to_thread(host.send, 1)
        assert host.cut_off


@pytest.mark.long
async def test_a_host_that_reads_much_less_than_comes_back_is_closed(
    guarded_broker: PrivateBroker, tmp_path: Path
) -> None:
    """It reads 2 MiB a second, so that RabbitMQ lets it be, and what waits for it is there for a minute."""
    async with guarding(guarded_broker, tmp_path) as said:
        with hoarding_host(guarded_broker.port, "h001", "h001-password") as host:
            await asyncio.to_thread(host.send, 120)
            reading = asyncio.create_task(asyncio.to_thread(host.sip_until_cut_off, 0.5))
            await eventually(lambda: "closed a connection of host h001" in said.read_text(), 2 * CLOSED_S)
            await asyncio.wait_for(reading, 2 * CLOSED_S)
        assert "bytes that came back and that it does not read" in said.read_text()


@pytest.mark.long
async def test_a_host_that_says_more_than_any_agent_is_closed(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """So no flood lasts, of small messages neither; another host stays."""
    async with guarding(guarded_broker, tmp_path) as said, speaking(guarded_broker, "h002") as (honest,):
        with hoarding_host(guarded_broker.port, "h001", "h001-password", size=1) as host:
            await asyncio.to_thread(host.send, int(AMPLE * MESSAGES_BURST) + 30_000)
            await eventually(lambda: "closed a connection of host h001" in said.read_text(), 2 * CLOSED_S)
        assert "more than any agent sends" in said.read_text()
        assert honest.open


async def test_a_host_that_acknowledges_nothing_is_closed(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """What was handed out is no longer of the queue's bound: a host could have it grow for half an hour."""
    async with guarding(guarded_broker, tmp_path), speaking(guarded_broker, "h001") as (bad,):
        own = "vmpulse.rpc.h001"
        await bad.channel.exchange_declare(own, exchange_type="fanout", auto_delete=True)
        await bad.channel.queue_declare(own, exclusive=True)
        await bad.channel.queue_bind(own, own, "")
        await bad.channel.basic_consume(own, unacknowledged)
        for _ in range(UNACKNOWLEDGED + 1):
            await bad.channel.basic_publish(b"x", exchange=own, routing_key="")
        assert REASON in await bad.ends()


async def unacknowledged(_: object) -> None:
    """Take a message and say nothing."""


async def test_an_api_that_is_away_is_waited_for(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """From the start and later: it says so once each time, says when it is back, and ends with 0 when told."""
    async with cable(guarded_broker, guarded_broker.ports.management) as way:
        way.plugged = False
        command = words(guarded_broker, tmp_path, "--every", "0.1", port=way.port)
        async with started("vmpulse_consumers", *command) as (process, said):
            await eventually(lambda: said.read_text().count("not guarding: no management API answers") == 1)
            await tried_often(way)
            way.plugged = True
            await eventually(lambda: said.read_text().count(" guarding virtual host /") == 1)
            way.plugged = False
            way.cut()
            await eventually(lambda: said.read_text().count("not guarding: ") == 2)
            way.plugged = True
            await eventually(lambda: "again, a look each 0.1 s" in said.read_text())
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5.0) == 0
            assert said.read_text().count("\n") == 5
            assert said.read_text().endswith("stopped\n")


async def tried_often(way: Cable) -> None:
    """Wait until it was tried some more times, in vain."""
    before = way.refused
    await eventually(lambda: way.refused >= before + 3)


async def test_a_signal_ends_it_also_while_the_api_hangs(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """A request that is not answered is not waited for."""
    async with cable(guarded_broker, guarded_broker.ports.management) as way:
        way.hold(both_ways=True)
        async with started("vmpulse_consumers", *words(guarded_broker, tmp_path, port=way.port)) as (process, _):
            await eventually(lambda: way.connections > 0)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 5.0) == 0


@pytest.mark.parametrize(
    "more, code, amiss",
    [
        (["--admin", "nobody"], 1, "refuses the user 'nobody': name a user with the tag administrator"),
        (["--vhost", "nowhere"], 1, "has no virtual host 'nowhere': create it, or name another (--vhost)"),
        (["--every", "0"], 2, "allowed: more than 0"),
        (["--management-url", "http://192.0.2.1:15672"], 2, "--insecure, where something else protects the way"),
    ],
)
async def test_what_cannot_work_is_refused_at_the_start(
    guarded_broker: PrivateBroker, tmp_path: Path, more: list[str], code: int, amiss: str
) -> None:
    """Wrong user, virtual host, option or address: a line with a remedy."""
    done = await ended("vmpulse_consumers", *words(guarded_broker, tmp_path, *more))
    assert (done.code, done.out) == (code, "")
    assert amiss in done.lines[-1]


async def test_who_may_only_look_is_refused_at_the_start(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """The tag monitoring shows channels and closes nobody's connection: the line names the tag that does."""
    (tmp_path / "monitor").write_text(f"{MONITOR}-password", encoding="ascii")
    monitor = ("--admin", MONITOR, "--admin-password-file", str(tmp_path / "monitor"))
    done = await ended("vmpulse_consumers", *words(guarded_broker, tmp_path, *monitor))
    assert (done.code, len(done.lines)) == (1, 1)
    assert f"the user '{MONITOR}' may not close others' connections" in done.err
    assert "a user with the tag administrator" in done.err


async def test_a_broker_without_statistics_is_refused_at_the_start(tmp_path: Path) -> None:
    """Nothing would be seen there; the line names the settings."""
    require_broker()
    config = "management.disable_stats = true\n"
    async with PrivateBroker(root=tmp_path, users=[ADMIN], management=True, extra_config=config) as node:
        done = await ended("vmpulse_consumers", *words(node, tmp_path))
        await asyncio.to_thread(node.kill)
    assert (done.code, len(done.lines)) == (1, 1)
    assert "statistics have to be on: neither management.disable_stats" in done.err


@pytest.mark.long
async def test_all_channels_are_seen(guarded_broker: PrivateBroker) -> None:
    """More than RabbitMQ has on a page, 500 at most: each is read, with its user and its connection."""
    url = f"http://{guarded_broker.host}:{guarded_broker.ports.management}"
    with Management(url, ADMIN.name, ADMIN.password, ssl.create_default_context()) as api:
        async with await aio_pika.connect(guarded_broker.url(ADMIN.name)) as connection:
            for _ in range(510):
                await connection.channel()
            seen = await eventually(lambda: found if len(found := api.channels()) >= 510 else None, CLOSED_S)
    assert sum(channel.user == ADMIN.name for channel in seen) == 510
    assert all(" -> " in channel.connection for channel in seen)


def test_a_host_that_does_it_again_and_again_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Five lines at once, then one every 10 s with how many there were in between; another host has its own."""
    now = 100.0
    with Management("http://127.0.0.1:1", "admin", "", ssl.create_default_context()) as unasked:
        guard = Guard(unasked, "/", lambda: now)
        with caplog.at_level(logging.WARNING):
            for _ in range(12):
                guard._tell(Misconduct("h001", "a", "it did"))
            guard._tell(Misconduct("h002", "b", "it did"))
            now += 10.0
            guard._tell(Misconduct("h001", "a", "it did"))
    told = [record.getMessage() for record in caplog.records]
    assert [("h001" in line, "h002" in line) for line in told] == [(True, False)] * 5 + [(False, True), (True, False)]
    assert told[-1].endswith("; 7 more of this host were closed since the last line")
