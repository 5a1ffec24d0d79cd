"""``vmpulse watch`` as its user runs it, against a real server that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from tests.consumers.cli.running import PROGRAM, run, run_into_closed_pipe
from tests.consumers.http.stocked_view import guest_id, small_fleet
from tests.real_broker import at_work
from tests.waiting import eventually
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Teller
from vmpulse_consumers.http import EventStreams, build_app, listen, serve_on
from vmpulse_consumers.view.events import Event, HostEvent, RelistEvent, VmStatusChanged
from vmpulse_consumers.view.states import HostState
from vmpulse_contract.identity import HostId, vm_text
from vmpulse_contract.values import VmStatus

ALPHA, BETA = HostId("alpha"), HostId("beta")
ODD = "w\u2028e\x85b \u00e9\x7f\x9b2J\x00"
"""A name with what some programs take for the end of a line, and with what terminals obey."""


def changed(name: str = "web-1") -> Event:
    """A VM of alpha is paused."""
    return VmStatusChanged(guest_id(1), ALPHA, VmStatus.PAUSED, VmStatus.UP, name)


def lost(host: HostId) -> Event:
    """A host is lost."""
    return HostEvent(host, HostState.LOST, HostState.LATE)


@contextlib.asynccontextmanager
async def serving(streams: EventStreams, listener: socket.socket) -> AsyncIterator[str]:
    """A view's API on that socket; gives its address."""
    fleet = small_fleet()
    async with at_work(serve_on(build_app(fleet.view, fleet.clock, streams), listener)):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def streams_of(instance: str) -> EventStreams:
    """What a start of a view streams."""
    return EventStreams(Teller("main", EventLog(instance)))


class Watching(NamedTuple):
    """The program at work."""

    process: asyncio.subprocess.Process

    async def event(self) -> dict[str, Any]:
        """The next line."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 8)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", line.decode()), "no control character comes out raw"
        found: dict[str, Any] = json.loads(line)
        return found

    async def said(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), 8)).decode()


@contextlib.asynccontextmanager
async def watching(*arguments: str, api: str) -> AsyncIterator[Watching]:
    """Run the program for as long as the block lasts."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "watch", *arguments, stdout=pipe, stderr=pipe, env={"VMPULSE_API": api}
    )
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.timeout(40)
async def test_events_are_lines_over_the_end_of_a_connection_and_of_a_view() -> None:
    """Each event is a line at once; a lost view is waited for and resumed; a new start of it brings one relist."""
    first, listener = streams_of("ab12"), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with contextlib.AsyncExitStack() as stack:
        async with serving(first, listener) as api:
            watch = await stack.enter_async_context(watching(api=api))
            await eventually(lambda: first.open)
            first.teller.tell([changed(ODD)])
            event = await watch.event()
            assert (event["id"], event["type"], event["data"]["name"]) == ("ab12-1", "vm.status", ODD)
        assert "resuming after ab12-1" in await watch.said()
        first.teller.tell([changed(), lost(ALPHA)])
        async with serving(first, listen("127.0.0.1", port)):
            assert [(await watch.event())["id"] for _ in range(2)] == ["ab12-2", "ab12-3"]
        second = streams_of("cd34")
        second.teller.tell([RelistEvent("the view has begun")])
        async with serving(second, listen("127.0.0.1", port)):
            event = await watch.event()
            assert (event["id"], event["type"]) == ("cd34-1-relist", "fleet.relist")
            second.teller.tell([lost(BETA)])
            assert (await watch.event())["id"] == "cd34-2"
            watch.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(watch.process.wait(), 5) == 130


async def test_flags_choose_events() -> None:
    """Types, hosts and VMs given with flags pass, and --after begins in the past."""
    streams = streams_of("ab12")
    streams.teller.tell([changed(), lost(ALPHA), lost(BETA), changed()])
    async with serving(streams, listen("127.0.0.1", 0)) as api:
        types = ("--type", "host.lost", "--type", "host.gone")
        async with (
            watching(*types, "--host", "beta", "--after", "ab12-0", api=api) as hosts,
            watching("--vm", vm_text(guest_id(1)), "--after", "ab12-1", api=api) as vms,
        ):
            assert (await hosts.event())["id"] == "ab12-3"
            assert (await vms.event())["id"] == "ab12-4"


async def test_what_cannot_begin_ends_with_one_line() -> None:
    """No view, an unknown type and a token that is none end the program with 1 and one line; nothing is retried."""
    async with serving(streams_of("ab12"), listen("127.0.0.1", 0)) as api:
        for arguments, words in ((("--type", "vm.up"), "allowed: vm.appeared"), (("--after", "x"), "id of an event")):
            done = await run("watch", *arguments, api=api)
            assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
            assert words in done.err
    done = await run("watch", api=api)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "no view answers" in done.err


async def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    """When nobody reads its lines any more it ends like the other commands: no error, no traceback."""
    streams = streams_of("ab12")
    streams.teller.tell([changed()])
    async with serving(streams, listen("127.0.0.1", 0)) as api:
        done = await asyncio.wait_for(run_into_closed_pipe("watch", "--after", "ab12-0", api=api), 10)
    assert done == (0, "", "")
