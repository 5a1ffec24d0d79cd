"""How the program fails: one line on stderr that says what to do, and an exit code that --help documents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.consumers.cli.running import run, run_and_interrupt, run_into_closed_pipe
from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import guest_id, small_fleet
from vmpulse_consumers.http import listen
from vmpulse_contract.identity import vm_text

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[str]:
    """The address of a small fleet's view."""
    async with served(small_fleet()) as url:
        yield url


async def test_no_view_there() -> None:
    """Where nobody listens, the line names the address and both ways to name another; exit code 1."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    done = await run("vms", "--api", f"http://127.0.0.1:{port}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"vmpulse: no view answers at http://127.0.0.1:{port} (")
    assert "`vmpulse view`" in done.err
    assert "VMPULSE_API" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("vm", vm_text(guest_id(99))), "there is no VM"),
        (("vm", "web-1"), "allowed: a UUID such as"),
        (("vm", ""), "allowed: a UUID such as"),
        (("vm", "../fleet"), "allowed"),
        (("host", "nobody"), "allowed: a host's id, FQDN or UUID"),
        (("host", ""), "allowed: a host's id, FQDN or UUID"),
        (("vms", "--host", ""), "allowed: a host's id, FQDN or UUID"),
        (("vms", "--sort", "color"), "allowed: name, host, status, age, cpu, mem, elapsed"),
        (("vms", "--status", "happy"), "allowed: Down, Up, Powering up"),
        (("vms", "--limit", "many"), "allowed: 1 to 10000"),
        (("vms", "--text", "x" * 3000), "allowed: at most 2048 bytes"),
    ],
)
async def test_refusals_say_what_is_allowed(api: str, arguments: tuple[str, ...], words: str) -> None:
    """What the view refuses is one line with what is allowed; exit code 1."""
    done = await run(*arguments, api=api)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1:1", "127.0.0.1:8080", "http://", "http://h:0", "http://h:x", "http://h/x", "http://u@h"]
)
async def test_address_that_is_none(url: str) -> None:
    """An address that is no http://HOST:PORT is a wrong setting: exit code 2, and the line names where it stands."""
    by_flag, by_variable = await run("hosts", "--api", url), await run("hosts", api=url)
    assert (by_flag.code, by_variable.code) == (2, 2)
    assert by_flag.err.startswith("vmpulse: setting --api: ")
    assert by_variable.err.startswith("vmpulse: setting VMPULSE_API: ")
    assert "http://HOST:PORT" in by_flag.err


async def test_another_server_at_the_address(unused_answers: str) -> None:
    """A server that is no view is told apart from a view that refuses; exit code 1."""
    done = await run("vms", api=unused_answers)
    assert done.code == 1
    assert "is no view" in done.err


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unused_answers() -> AsyncIterator[str]:
    """The address of an HTTP server that has never heard of views."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_interrupt_is_silent() -> None:
    """Ctrl-C while waiting for a reply ends with code 130 and says nothing."""
    asked = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await run_and_interrupt("vms", api=url, asked=asked)
    assert done == (130, "", "")


@pytest.mark.parametrize("arguments", [("vms",), ("vms", "--json"), ("host", "alpha"), ("vm", vm_text(guest_id(1)))])
async def test_closed_pipe_is_quiet(api: str, arguments: tuple[str, ...]) -> None:
    """A reader that has gone is no failure and no traceback."""
    assert await run_into_closed_pipe(*arguments, api=api) == (0, "", "")


async def test_help_documents_exit_codes() -> None:
    """``--help`` names each subcommand and each exit code."""
    done = await run("--help")
    assert done.code == 0
    for words in ("vms", "vm ", "hosts", "host ", "exit codes:", "130"):
        assert words in done.out


@pytest.mark.parametrize(
    "command, words",
    [
        (("view",), "rights of engine.view"),
        (("call",), "rights of engine.cli"),
        (("broker", "guard"), "a user with the tag administrator"),
    ],
)
async def test_help_of_programs_that_need_a_broker(command: tuple[str, ...], words: str) -> None:
    """``--help`` of what talks to the broker says what it needs there, and lists its exit codes."""
    done = await run(*command, "--help")
    assert done.code == 0
    for expected in ("needs:", words, "exit codes:", "  0 ", "  1 ", "  2 "):
        assert expected in done.out


@pytest.mark.parametrize(
    "package, program, arguments",
    [
        ("uvloop", "vmpulse", ("view",)),
        ("aio_pika", "vmpulse", ("call", "a-host", "list")),
        ("rich", "vmpulse", ("vms",)),
        ("libvirt", "vmpulse-agent", ("run",)),
        ("aio_pika", "vmpulse-agent", ("run",)),
        ("pythonjsonlogger", "vmpulse-agent", ("run",)),
    ],
)
async def test_extra_that_is_not_installed(package: str, program: str, arguments: tuple[str, ...]) -> None:
    """Without a package of its extra a program ends with 1 and one line that says which extra to install."""
    module, extra = {"vmpulse": ("vmpulse_consumers", "consumers"), "vmpulse-agent": ("vmpulse_agent", "agent")}[
        program
    ]
    code = (
        f"import sys; sys.modules[{package!r}] = None; from {module}.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.decode() == f"{program}: the package {package} is missing here: install vmpulse[{extra}]\n"


@pytest.mark.parametrize("arguments", [(), ("nosuch",), ("vms", "--nosuch"), ("vms", "--limit", "1", "--all")])
async def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """A wrong command line is exit code 2."""
    done = await run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "usage: vmpulse" in done.err
