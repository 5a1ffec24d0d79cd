"""What the wire bench counts with: its relay, its reader of AMQP, its ages, its floor and its clock."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from pamqp import body, commands, frame, header
from pamqp.heartbeat import Heartbeat

from benches.frame import realistic_frame
from benches.wire.ages import BIN_S, Ages
from benches.wire.amqp_meter import PROTOCOL_HEADER, AmqpMeter, Breakdown
from benches.wire.clock import BEGINS_AT, FleetClock, FleetLoop, LeadingSelector
from benches.wire.floor import columns_of, floor_of
from benches.wire.relay import LOOPBACK, SEGMENT_BYTES, SEGMENT_HEADER, Relay
from benches.wire.report import broker_heartbeats
from vmpulse_contract import columns, stream, topology

HALF = 1 << 17
"""More than a socket takes at once."""


async def test_a_relay_counts_what_was_written_and_read() -> None:
    """Both directions are counted byte for byte, hung-up connections included, and nothing is changed on its way."""
    asked, answer = bytes(range(256)) * 700, bytes(reversed(range(256))) * 1100

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(asked)) == asked
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
        writer.write(asked)
        assert await reader.read() == answer
        writer.close()
        assert (relay.traffic.up.bytes, relay.traffic.down.bytes) == (len(asked), len(answer))
        assert relay.traffic.bytes == len(asked) + len(answer)
        assert relay.traffic.connections == 1
        least = (len(asked) // SEGMENT_BYTES + len(answer) // SEGMENT_BYTES) * SEGMENT_HEADER
        assert relay.traffic.header_bytes >= least


async def test_a_relay_to_nobody_hangs_up() -> None:
    """Who connects while nobody listens behind it is not left waiting."""
    server = await asyncio.start_server(lambda *_: None, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    async with Relay(port) as relay:
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
        assert await reader.read() == b""
        writer.close()


def conversation() -> list[bytes]:
    """Frames of a connection: its opening, messages of three kinds, one of them in two parts, acks and a heartbeat."""
    runtime = commands.Basic.Deliver("c", 7, False, topology.RUNTIME, "h1")
    changed = commands.Basic.Publish(exchange=topology.CHANGES, routing_key="h1.status")
    canary = commands.Basic.Deliver("c", 8, False, topology.FLEET, topology.canary_key("main", "1"))
    props = commands.Basic.Properties(message_type="frame", user_id="h1")
    return [
        PROTOCOL_HEADER,
        frame.marshal(commands.Connection.TuneOk(1, 131072, 5), 0),
        *(
            frame.marshal(part, 1)
            for part in (runtime, header.ContentHeader(0, 300, props), body.ContentBody(b"f" * 300))
        ),
        *(frame.marshal(part, 2) for part in (changed, header.ContentHeader(0, HALF * 2, props))),
        # Another channel's message may come between the parts of one.
        *(frame.marshal(part, 1) for part in (canary, header.ContentHeader(0, 0, props))),
        *(frame.marshal(body.ContentBody(b"c" * HALF), 2) for _ in range(2)),
        frame.marshal(commands.Basic.Ack(8, True), 1),
        frame.marshal(Heartbeat(), 0),
    ]


@pytest.mark.parametrize("cut", [1, 7, 4096, 1 << 20])
def test_all_bytes_of_amqp_are_counted_somewhere(cut: int) -> None:
    """However the bytes come in, each is in one part, each message under its kind, and bodies come out whole."""
    raw, breakdown, bodies = b"".join(conversation()), Breakdown(), []
    meter = AmqpMeter(breakdown, lambda kind, said: bodies.append((kind, said)))
    for at in range(0, len(raw), cut):
        meter.watch(raw[at : at + cut])
    assert breakdown.bytes == len(raw)
    assert {kind: counted.messages for kind, counted in breakdown.kinds.items()} == {
        "frame": 1,
        "change": 1,
        "canary": 1,
    }
    assert bodies == [("frame", b"f" * 300), ("change", b"c" * HALF * 2)]
    assert [breakdown.of(kind).bodies for kind in ("frame", "change", "canary")] == [300, HALF * 2, 0]
    assert breakdown.of("change").framing == 8 * 4
    assert breakdown.heartbeats == 8
    assert breakdown.acks == len(conversation()[-2])
    assert breakdown.set_up == len(PROTOCOL_HEADER) + len(conversation()[1])


def test_ages_add_up() -> None:
    """The mean is exact, and 99 of 100 ages are not beyond the percentile by more than a bin."""
    ages = Ages()
    ages.add(np.arange(0.0, 3.0, 0.01))
    ages.add(np.array([60.0]))
    told = ages.freshness()
    assert told.mean_s == pytest.approx((sum(at * 0.01 for at in range(300)) + 60) / 301, abs=0.001)
    assert 2.97 <= told.p99_s <= 2.97 + 2 * BIN_S


def test_the_floor_is_below_the_frame_and_knows_all_values() -> None:
    """Columns take less than their frame does, and of equal frames a memory needs only one."""
    bodies = [realistic_frame(seed)[1] for seed in range(20)]
    floor = floor_of(bodies)
    assert floor.frames == 20
    assert 1.0 < floor.ratio < 1.5
    again = floor_of(bodies[:1] * 20)
    assert again.ratio == pytest.approx(floor_of(bodies[:1]).ratio)
    assert again.ratio_with_memory > 4 * again.ratio


def test_columns_hold_every_value() -> None:
    """Two frames that differ in one value differ in their columns."""
    told = stream.read_frame(realistic_frame(3)[1])
    values = columns.unpack(told.cpu_sys, told.count)
    values[5] = 70_000
    other = structs.replace(told, cpu_sys=columns.pack(values))
    assert len(columns_of(other)) == len(columns_of(told)) + 2 * told.count
    assert columns_of(structs.replace(told, host_stats=None)) != columns_of(told)


def fleet_time(tmp_path: Path, speed: float) -> FleetLoop:
    """A loop on fleet time."""
    clock = FleetClock.begun(tmp_path / "clock")
    return FleetLoop(clock, LeadingSelector(clock, speed))


def test_fleet_time_runs_ahead(tmp_path: Path) -> None:
    """A minute of waiting takes a fraction of one; timers come in order, none early; others see the same time."""
    order: list[int] = []

    async def wait() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def sleep(seconds: int) -> None:
            await asyncio.sleep(seconds)
            assert loop.time() >= began + seconds - 1e-6
            order.append(seconds)

        await asyncio.gather(*map(sleep, (60, 1, 30)))
        return loop.time() - began

    began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: fleet_time(tmp_path, 600.0)) as runner:
        passed = runner.run(wait())
    assert time.monotonic() - began < 5
    assert order == [1, 30, 60]
    assert 60 <= passed < 61
    assert FleetClock(tmp_path / "clock").now() >= BEGINS_AT + 60


def test_a_timer_that_came_a_moment_early_does_not_come_for_ever(tmp_path: Path) -> None:
    """A loop that waits for what is left of its tick, and publishes each time, gets on, for each round takes time."""

    async def tick() -> int:
        loop = asyncio.get_running_loop()
        due, rounds = loop.time() + 0.1 + 0.2, 0
        while loop.time() < due and rounds < 10_000:
            rounds += 1
            await asyncio.sleep(max(0.0, due - loop.time() - 5e-10))
            await asyncio.gather(asyncio.sleep(0))
        return rounds

    with asyncio.Runner(loop_factory=lambda: fleet_time(tmp_path, 600.0)) as runner:
        assert runner.run(tick()) < 10


def test_processing_takes_no_fleet_time(tmp_path: Path) -> None:
    """While the loop is at work its clock stands still, so that nothing is late for want of CPU."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        began, until = loop.time(), time.monotonic() + 0.1
        while time.monotonic() < until:
            await asyncio.sleep(0)
        return loop.time() - began

    with asyncio.Runner(loop_factory=lambda: fleet_time(tmp_path, 600.0)) as runner:
        assert runner.run(work()) < 1.0


def test_heartbeats_of_the_broker_by_arithmetic() -> None:
    """A confirm every 3 s leaves one in six looks of 2.5 s empty: four heartbeats of 8 bytes a minute for each host."""
    assert broker_heartbeats(10, 60.0) == 10 * 4 * 8
