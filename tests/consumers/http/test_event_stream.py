"""The stream of events, over real sockets: resuming, filtering, and clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, guest_id, small_fleet
from tests.real_broker import at_work
from tests.waiting import eventually
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Backlog, Teller
from vmpulse_consumers.http import EventStreams, build_app, listen, serve_on
from vmpulse_consumers.http.event_stream import Timing
from vmpulse_consumers.view.events import (
    BrokerEvent,
    Event,
    HostEvent,
    RelistEvent,
    VmMigrated,
    VmSectionHeld,
    VmStatusChanged,
)
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import sections
from vmpulse_contract.identity import HostId, vm_text
from vmpulse_contract.sections import GuestDetails, Section
from vmpulse_contract.values import VmStatus

ALPHA, BETA = HostId("alpha"), HostId("beta")
LARGE = sections.encode(GuestDetails(apps_list=tuple(f"{number:03}-{'x' * 240}" for number in range(200))))
"""A section body of 50 KB."""


class Stand(NamedTuple):
    """A view's API and what it streams."""

    url: str
    streams: EventStreams

    def tell(self, *events: Event) -> None:
        """Let events happen."""
        self.streams.teller.tell(events)

    def status(self, vm: int, count: int = 1) -> None:
        """Let a VM of alpha change its status so many times."""
        self.tell(*[VmStatusChanged(guest_id(vm), ALPHA, VmStatus.UP, VmStatus.PAUSED, None)] * count)


@contextlib.asynccontextmanager
async def standing(
    timing: Timing | None = None, *, events: int = 10_000, size: int = 64 << 20, most: int = 10
) -> AsyncIterator[Stand]:
    """A view's API with a log of its own."""
    fleet = small_fleet()
    streams = EventStreams(Teller("main", EventLog("ab12", events=events, size=size)), timing, most)
    async with served(fleet, build_app(fleet.view, fleet.clock, streams)) as url:
        yield Stand(url, streams)


class Reader:
    """Reads one stream, block by block, each a dict of its fields."""

    def __init__(self, reply: httpx.Response) -> None:
        self.reply = reply
        self._lines = reply.aiter_lines()

    async def block(self) -> dict[str, str]:
        """The next block; comments have the name "". Raises StopAsyncIteration at the end."""
        found: dict[str, str] = {}
        while (line := await asyncio.wait_for(anext(self._lines), 5)) or not found:
            name, _, value = line.partition(":")
            found[name] = value.strip()
        return found

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The data of the next events, which are this many."""
        return [json.loads((await self.block())["data"]) for _ in range(count)]

    async def begin(self) -> str:
        """Read the first block; gives its token."""
        return (await self.block())["id"]


@contextlib.asynccontextmanager
async def reading(stand: Stand, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    """An open stream."""
    async with (
        httpx.AsyncClient(base_url=stand.url, trust_env=False) as client,
        client.stream("GET", f"/api/v1/events{query}", headers=headers) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield Reader(reply)


async def test_events_come_as_they_happen() -> None:
    """A stream begins with the token of now, then brings each event with its id, its type and one JSON object."""
    async with standing() as stand:
        stand.status(1)
        async with reading(stand) as reader:
            assert await reader.block() == {"retry": "2000", "id": "ab12-1"}
            stand.tell(HostEvent(ALPHA, HostState.LOST, HostState.LATE))
            block = await reader.block()
    assert (block["id"], block["event"]) == ("ab12-2", "host.lost")
    told = json.loads(block["data"])
    assert (told["id"], told["type"], told["data"]["host"]) == ("ab12-2", "host.lost", "alpha")


FILTERS = {
    "": [1, 2, 3, 4, 5],
    "type=vm.status": [1, 2, 5],
    "type=vm.status&type=broker.lost": [1, 2, 4, 5],
    "host=beta": [3, 5],
    "host=alpha&type=vm.migrated": [3, 5],
    f"vm={vm_text(guest_id(2)).upper()}": [2, 5],
    f"vm={vm_text(guest_id(1))}&vm={vm_text(guest_id(2))}": [1, 2, 5],
    f"vm={vm_text(guest_id(1))}&host=beta": [5],
}


async def test_filters() -> None:
    """An event has to fit each kind of filter and one value of it; that something was missed, everybody is told."""
    async with standing() as stand:
        stand.status(1)
        stand.status(2)
        stand.tell(VmMigrated(guest_id(3), BETA, ALPHA, None), BrokerEvent(back=False), RelistEvent("for a test"))
        for query, wanted in FILTERS.items():
            async with reading(stand, f"?after=ab12-0&{query}") as reader:
                await reader.begin()
                found = [event["id"] for event in await reader.events(len(wanted))]
            assert found == [f"ab12-{number}" for number in wanted], query


async def test_a_stream_resumes_without_gap_or_repeat() -> None:
    """After a break, the token of the last event, by parameter or header, brings what came after it and only that."""
    async with standing() as stand:
        async with reading(stand) as reader:
            token = await reader.begin()
            stand.status(1, 3)
            seen = [event["id"] for event in await reader.events(3)]
        stand.status(1, 700)
        for query, headers in ((f"?after={seen[-1]}", {}), (f"?after={token}", {"Last-Event-ID": seen[-1]})):
            async with reading(stand, query, **headers) as reader:
                assert await reader.begin() == "ab12-3"
                missed = [event["id"] for event in await reader.events(700)]
            assert missed == [f"ab12-{number}" for number in range(4, 704)]


async def test_who_was_away_too_long_is_told_once_to_relist() -> None:
    """A token of another start, one that is too old and one never given bring one fleet.relist, then what is new."""
    async with standing(events=5) as stand:
        stand.tell(RelistEvent("the view has begun"))
        stand.status(1, 8)
        for last, token in enumerate(("cd34-2", "ab12-1", "ab12-999"), 9):
            async with reading(stand, f"?type=host.lost&after={token}") as reader:
                assert await reader.begin() == f"ab12-{last}"
                block = await reader.block()
                assert (block["id"], block["event"]) == (f"ab12-{last}-relist", "fleet.relist")
                assert json.loads(block["data"])["data"]["reason"]
                stand.tell(HostEvent(ALPHA, HostState.LOST, HostState.LATE))
                assert [event["id"] for event in await reader.events(1)] == [f"ab12-{last + 1}"]
            async with reading(stand, f"?after={block['id']}") as reader:
                assert await reader.begin() == f"ab12-{last}"
                assert [event["id"] for event in await reader.events(1)] == [f"ab12-{last + 1}"]


async def test_a_view_that_has_just_begun_tells_to_relist_only_once() -> None:
    """While a new start of the view builds up its picture, an old token brings no word of its own to relist."""
    async with standing() as stand, reading(stand, "?after=cd34-7") as reader:
        assert await reader.begin() == "ab12-0"
        stand.tell(RelistEvent("the view has begun"))
        stand.status(1)
        assert [event["type"] for event in await reader.events(2)] == ["fleet.relist", "vm.status"]


@pytest.mark.parametrize(
    "query, headers, where, allowed",
    [
        ("?type=vm.exploded", {}, "parameter type", "vm.appeared, vm.status"),
        ("?host=Alpha.example", {}, "parameter host", "1 to 63 of a-z"),
        ("?vm=web-1", {}, "parameter vm", "a UUID"),
        ("?after=yesterday", {}, "parameter after", "the id of an event"),
        ("?after=ab12-1&after=ab12-2", {}, "parameter after", "once"),
        ("?since=ab12-1", {}, "query", "type, host, vm, after"),
        ("", {"Last-Event-ID": "yesterday"}, "header Last-Event-ID", "the id of an event"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_bad_questions_are_refused(
    steady_api: httpx.AsyncClient, query: str, headers: dict[str, str], where: str, allowed: str
) -> None:
    """What is wrong with filter or token gets a 400 that names it and says what is allowed."""
    reply = await steady_api.get(f"/api/v1/events{query}", headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["where"]) == (400, where)
    assert allowed in error["allowed"]


async def test_a_silent_stream_says_that_it_is_there() -> None:
    """Where nothing happens that the client wants, be the fleet busy or not, it gets a comment and a younger token."""
    async with standing(Timing(keep_alive_s=0.05)) as stand, reading(stand, "?type=host.lost") as reader:
        await reader.begin()
        assert await reader.block() == {"": "", "id": "ab12-0"}
        blocks, busy = asyncio.ensure_future(_blocks(reader, 3)), 0
        while not blocks.done():  # an event every 10 ms, none of which the client wants
            stand.status(1)
            busy += 1
            await asyncio.sleep(0.01)
        found = await blocks
    assert all(block.keys() == {"", "id"} for block in found)
    tokens = [int(block["id"].removeprefix("ab12-")) for block in found]
    assert 0 < tokens[-1] <= busy
    assert tokens == sorted(tokens)


async def _blocks(reader: Reader, count: int) -> list[dict[str, str]]:
    return [await reader.block() for _ in range(count)]


async def test_a_filter_that_lets_nothing_through_holds_up_nobody() -> None:
    """A stream that passes over 90,000 events lets others have their turn in between, and comes up with the log."""
    async with standing(Timing(keep_alive_s=0.05), events=100_000) as stand:
        stand.status(1, 90_000)
        turns = asyncio.ensure_future(_turns())
        async with reading(stand, "?type=host.lost&after=ab12-0") as reader:
            await reader.begin()
            while (await reader.block())["id"] != "ab12-90000":
                pass
        turns.cancel()
        longest = await turns
    assert longest < 0.1


async def _turns() -> float:
    """The longest time between two turns of the loop, until cancelled; seconds."""
    longest, last = 0.0, time.perf_counter()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    return longest


async def test_a_loss_of_many_hosts_reaches_who_reads_fast() -> None:
    """Of 20,000 events at once a reader that reads misses none, in order, although the log keeps only a quarter."""
    async with standing(events=5_000) as stand:
        host, port = stand.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
        with contextlib.closing(writer):
            writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"ab12-0")
            backlog = Backlog(stand.streams.teller)
            async with at_work(backlog.run()):
                backlog.tell([VmStatusChanged(guest_id(1), ALPHA, VmStatus.UNKNOWN, VmStatus.UP, None)] * 20_000)
                backlog.tell([HostEvent(BETA, HostState.LOST, HostState.LATE)])
                text = await asyncio.wait_for(reader.readuntil(b"host.lost"), 10)
    found = [int(number) for number in re.findall(rb"id: ab12-(\d+)\n", text)]
    assert found == list(range(1, 20_002))


def deaf_client(url: str) -> socket.socket:
    """A client that asks for the stream and never reads a byte."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = url.removeprefix("http://").split(":")
    deaf.connect((host, int(port)))
    deaf.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    return deaf


async def test_a_client_that_does_not_read_is_dropped_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """While thousands of events pass, one that never reads is cut off with a reason; another gets every one of them."""
    async with standing(Timing(slow_s=0.5)) as stand, reading(stand) as reader:
        await reader.begin()
        with contextlib.closing(deaf_client(stand.url)) as deaf:
            await eventually(lambda: stand.streams.open == 2)
            longest = 0.0
            for _ in range(8):
                began = time.perf_counter()
                stand.status(1, 500)
                longest = max(longest, time.perf_counter() - began)
                assert len(await reader.events(500)) == 500
            assert longest < 0.5, "telling waits for nobody"
            await eventually(lambda: stand.streams.open == 1)
            assert stand.streams.dropped == {"slow": 1}
            assert [line.partition(" of ")[0] for line in caplog.messages] == ["event stream"]
            deaf.setblocking(True)
            with contextlib.suppress(ConnectionResetError):
                while deaf.recv(1 << 16):
                    pass
        stand.status(1)
        assert len(await reader.events(1)) == 1


async def test_a_client_for_whom_too_much_happens_is_told_why_it_is_dropped() -> None:
    """One for whom the log no longer holds what comes next is told so, and its token then brings a relist."""
    async with standing(events=100) as stand, reading(stand, "?type=vm.status") as reader:
        token = await reader.begin()
        stand.tell(RelistEvent("the view has begun"))
        assert len(await reader.events(1)) == 1
        stand.status(1, 300)
        block = await reader.block()
        assert block["event"] == "dropped"
        assert "before all of it could be sent" in json.loads(block["data"])["reason"]
        with pytest.raises(StopAsyncIteration):
            await reader.block()
        assert stand.streams.dropped == {"behind": 1}
        async with reading(stand, f"?after={token}") as again:
            await again.begin()
            assert [event["type"] for event in await again.events(1)] == ["fleet.relist"]


async def test_streams_are_bounded() -> None:
    """Beyond the bound a stream is refused with a reason and when to come again; one that ends makes room."""
    async with standing(most=2) as stand, httpx.AsyncClient(base_url=stand.url, trust_env=False) as client:
        async with reading(stand) as one, reading(stand):
            await one.begin()
            refused = await client.get("/api/v1/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert refused.json()["error"]["what"] == "2 event streams are open"
            assert (await client.get("/healthz")).status_code == 200
        await eventually(lambda: stand.streams.open == 0)
        async with reading(stand) as again:
            await again.begin()
    assert stand.streams.refused == 1


async def test_streams_end_when_the_server_stops(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Open streams, one of them unread and full, do not keep the server from ending in good order within 2 s."""
    caplog.set_level(logging.INFO)
    listener = listen("127.0.0.1", 0)
    stand = Stand(f"http://127.0.0.1:{listener.getsockname()[1]}", fleet.events)
    serving = asyncio.create_task(serve_on(build_app(fleet.view, fleet.clock, fleet.events), listener))
    async with reading(stand) as reader:
        await reader.begin()
        with contextlib.closing(deaf_client(stand.url)):
            await eventually(lambda: stand.streams.open == 2)
            for number in range(40):
                stand.tell(VmSectionHeld(guest_id(1), ALPHA, Section.GUEST_DETAILS, number + 1, LARGE, None))
            await reader.events(40)
            began = time.monotonic()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert time.monotonic() - began < 1.5
            assert await reader.block() == {"": "the view stops"}
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_stream_is_described(steady_api: httpx.AsyncClient) -> None:
    """The API's own description has the stream, its content type and its parameters."""
    described = (await steady_api.get("/schema/openapi.json")).json()["paths"]["/api/v1/events"]["get"]
    assert list(described["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {each["name"] for each in described["parameters"]} == {"type", "host", "vm", "after"}
