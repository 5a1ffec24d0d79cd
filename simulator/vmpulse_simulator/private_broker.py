"""A RabbitMQ node of one's own, for demo, tests, lab and benches: no service, no shared port, nothing left behind.

    with PrivateBroker(users=[BrokerUser("engine.view", "secret")]) as broker:
        connect(broker.url("engine.view"))

``async with`` does the same without blocking the event loop. Methods block; call them from asyncio through
``asyncio.to_thread``. The node lives on loopback under a name, ports, epmd, cookie and folder of its own, and ends with
the program that started it, even if that is killed (see `broker_guard`). A program that forks without exec shares the
pipe this relies on: the node then lives as long as the last of its forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from vmpulse_simulator.broker_files import (
    ADMINISTRATOR,
    LOOPBACK,
    BrokerUser,
    ExtraConfig,
    environment,
    free_ports,
    write_files,
)
from vmpulse_simulator.errors import BrokerCommandError, BrokerError, BrokerStartError, BrokerUnavailable

__all__ = ["BrokerUser", "PrivateBroker", "broker_available"]

GUARD = Path(__file__).with_name("broker_guard.py")
SCRIPTS = ("/usr/lib/rabbitmq/lib", "/usr/local/lib/rabbitmq/lib", "/opt/rabbitmq/lib")
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
START_DEADLINE_S = 60.0  # 6 s on a quiet machine with two cores, 12 s on a busy one
STOP_DEADLINE_S = 20.0  # above the guard's own bounds for a good end and for the sweep
POLL_S = 0.05
LOG_LINES = 15


def broker_available() -> str | None:
    """Why this machine cannot run a private broker, with the remedy, or None when it can."""
    if find_scripts() is None:
        return "RabbitMQ is not installed: run `make setup`, or install what Debian calls rabbitmq-server"
    if not shutil.which("erl") or not shutil.which("epmd"):
        return "Erlang (erl, epmd) is not in PATH: install what Debian calls erlang-base"
    try:
        socket.getaddrinfo("localhost", None, socket.AF_INET)
    except OSError:
        # Erlang would wait for that name without a word.
        return "the name localhost does not resolve: add the line `127.0.0.1 localhost` to /etc/hosts"
    return None


def find_scripts() -> Path | None:
    """RabbitMQ's own start scripts, the newest; the wrappers in /usr/sbin insist on a user of their own."""
    found = (path for lib in SCRIPTS for path in Path(lib).glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    newest = max(found, default=None, key=lambda path: path.stat().st_mtime)
    return newest.parent if newest else None


class PrivateBroker:
    """One node with its data, from `start` to `stop`; `kill` and `start` again keep ports, users and durable state."""

    def __init__(
        self,
        *,
        root: Path | None = None,
        users: Iterable[BrokerUser] = (),
        management: bool = False,
        prometheus: bool = False,
        plugins: Iterable[str] = (),
        extra_config: str = "",
        advanced_config: str = "[].",
    ) -> None:
        identity = secrets.token_hex(4)
        self.node = f"vmpulse-{identity}@localhost"
        self.home = ((root or Path(".vmpulse")) / f"broker-{identity}").absolute()
        self.users = tuple(users) or (BrokerUser("vmpulse", secrets.token_urlsafe(12), ADMINISTRATOR),)
        self.ports = free_ports()
        self._plugins = ["rabbitmq_management"] * management + ["rabbitmq_prometheus"] * prometheus + [*plugins]
        self._extra_config = ExtraConfig(extra_config, advanced_config)
        self._guard: subprocess.Popen[bytes] | None = None
        self._abandoned = False
        self.pid: int | None = None
        """The Erlang VM, for tests that stop or inspect it; None while the node is down."""
        self.epmd_pid: int | None = None

    @property
    def host(self) -> str:
        """The address the node listens on."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self.ports.amqp

    @property
    def log(self) -> Path:
        """The node's log."""
        return self.home / "node.log"

    @property
    def running(self) -> bool:
        """Whether the node's processes are there."""
        return self._guard is not None and self._guard.poll() is None

    def url(self, user: str | None = None) -> str:
        """The AMQP address for one of the users, the first one by default, with its password."""
        chosen = next(each for each in self.users if user in {None, each.name})
        return f"amqp://{quote(chosen.name, safe='')}:{quote(chosen.password, safe='')}@{self.host}:{self.port}/"

    def start(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Start the node and return when it answers AMQP; also after `kill`, on the same ports and data."""
        if self.running:
            return
        if reason := broker_available():
            raise BrokerUnavailable(reason)
        write_files(self.home, self.ports, self.users, self._plugins, self._extra_config)
        try:
            self._spawn()
            self._await_answer(time.monotonic() + deadline_s, deadline_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, keep: bool = False) -> None:
        """End the node in good order, and remove its folder unless it is to be kept (for another `start`, say)."""
        self._end(b"t")
        if not keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        """End the node as kill -9 does; its folder stays as the crash left it."""
        self._end(b"k")

    def restart(self, *, crash: bool = False) -> None:
        """Down and up again on the same ports and data."""
        if crash:
            self.kill()
        else:
            self.stop(keep=True)
        self.start()

    def flush(self) -> None:
        """Put all that was declared so far on disk: Mnesia writes its log late, and `kill` loses what it has not."""
        self.ctl("eval", "mnesia:sync_log().")

    def ctl(self, *arguments: str, timeout_s: float = 30.0) -> str:
        """Run rabbitmqctl against this node and return what it prints; each call costs a second or two."""
        if not self.running:
            # Its tools would start an epmd outside our guard.
            raise BrokerError(f"{self.node} is down")
        command = (str(_scripts() / "rabbitmqctl"), "--quiet", "--node", self.node, *arguments)
        done = subprocess.run(
            command,
            env=environment(self.home, self.ports, self.node),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise BrokerCommandError(arguments, done.returncode, done.stdout)
        return done.stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def come_up(self) -> None:
        """Do what `start` does without blocking the event loop; a cancel gives the start up, for good."""
        try:
            await asyncio.to_thread(self.start)
        except asyncio.CancelledError:
            # The thread cannot be cancelled; without its guard's pipe it fails soon and leaves nothing.
            self._abandoned = True
            self._close_pipe()
            raise

    async def __aenter__(self) -> Self:
        await self.come_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _spawn(self) -> None:
        command = (sys.executable, "-I", "-S", str(GUARD), str(self.ports.epmd), str(self.home / "boot.log"))
        self._guard = subprocess.Popen(
            (*command, str(_scripts() / "rabbitmq-server")),
            env=environment(self.home, self.ports, self.node),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.home,
            start_new_session=True,  # a Ctrl-C at the terminal is for the program, which then stops us in order
        )
        if self._guard.stdout is not None:
            pids = self._guard.stdout.readline().split()
            self.pid, self.epmd_pid = (int(pids[0]), int(pids[1])) if pids else (None, None)

    def _await_answer(self, deadline: float, allowed_s: float) -> None:
        while not answers_amqp(self.host, self.port):
            if self._abandoned:
                raise self._start_error("the start was given up")
            if not self.running:
                raise self._start_error("the node ended while starting")
            if time.monotonic() > deadline:
                raise self._start_error(f"no answer on port {self.port} within {allowed_s:.0f} s")
            time.sleep(POLL_S)

    def _start_error(self, reason: str) -> BrokerStartError:
        log = self.log if self.log.exists() else self.home / "boot.log"
        remedy = "read the errors below; if a port was taken meanwhile, start once more"
        return BrokerStartError(reason, log=log, last_lines=telling_lines(log), remedy=remedy)

    def _end(self, order: bytes) -> None:
        guard = self._guard
        if guard is None:
            return
        if guard.stdin is not None and not guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                os.write(guard.stdin.fileno(), order)
        try:
            guard.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            guard.kill()  # the kernel then kills its children
            guard.wait()
        self._close_pipe()
        self._guard = self.pid = self.epmd_pid = None

    def _close_pipe(self) -> None:
        for pipe in (self._guard.stdin, self._guard.stdout) if self._guard else ():
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _scripts() -> Path:
    scripts = find_scripts()
    if scripts is None:
        raise BrokerUnavailable(broker_available())
    return scripts


def telling_lines(log: Path) -> str:
    """The end of a log, led by its first errors: Erlang's crash reports push those out of sight."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    head, tail = lines[:-LOG_LINES], lines[-LOG_LINES:]
    return "\n".join([line for line in head if "[error]" in line][:LOG_LINES] + tail)


def answers_amqp(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether an AMQP 0-9-1 server says its first word there."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(AMQP_HEADER)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False
