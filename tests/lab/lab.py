"""The laboratory: real QEMU domains under a libvirt of its own, the real agent, a private broker and the real view.

Every check does something through libvirt and then reads the view through its HTTP API, as a user would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import libvirt

from tests.lab.libvirt_pair import FIRST
from tests.lab.private_libvirt import PrivateLibvirt
from vmpulse_contract.rights import CLI, VIEW, engine_rights, host_rights, view_rights
from vmpulse_simulator.child_process import GUARD
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

HOST: Final = "lab-host"
PEER: Final = "lab-peer"
"""The second host, which is there only while a check migrates something."""
USERS: Final = (
    BrokerUser(HOST, "lab-host-password", host_rights(HOST)),
    BrokerUser(PEER, "lab-peer-password", host_rights(PEER)),
    BrokerUser(VIEW, "lab-view-password", view_rights()),
    BrokerUser(CLI, "lab-cli-password", engine_rights()[CLI]),
)
TICK_S: Final = 3.0
UNRESPONSIVE_S: Final = 6.0
"""The agent's setting is a minute; two ticks do to see that it is heeded."""
POLL_S: Final = 0.01
START_S: Final = 30.0
STOP_S: Final = 10.0

Row = dict[str, Any]


class CheckFailed(Exception):
    """A check of the lab does not hold."""


class Program:
    """A program of ours as a real process, with its log in a file; the kernel kills it if the lab is killed."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._begin = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), sys.executable, "-m", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's own: the guard has become it."""
        return self._process.pid

    @property
    def said(self) -> str:
        """Its log; those of the programs of the same name before it stand above, in the same file."""
        return self.log.read_bytes()[self._begin :].decode("utf-8", "replace")

    def assert_runs(self) -> None:
        """Raise CheckFailed with the end of its log if it has ended."""
        if self._process.poll() is not None:
            raise CheckFailed(f"{self.name} ended with {self._process.returncode}: {self.said[-500:]}")

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that does not help in time. Gives the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Lab:
    """Everything of one run; use ``running`` as a context manager.

    Args:
        folder: for logs and password files.
        hypervisor: the libvirt that is used.
        broker: the broker that agent and view meet at.
        stack: whatever is started here is ended by it, also if the next part does not start.
    """

    def __init__(
        self, folder: Path, hypervisor: PrivateLibvirt, broker: PrivateBroker, stack: contextlib.ExitStack
    ) -> None:
        self.folder = folder
        self.hypervisor = hypervisor
        self.broker = broker
        self.connection = libvirt.open(hypervisor.uri)
        stack.callback(self._disconnect)
        self.view = Program("view", self._view_arguments(), folder, self._secret("VIEW", "engine.view"))
        stack.callback(self.view.stop)
        self.api = stack.enter_context(httpx.Client(base_url=self._api_url(), timeout=2.0))
        self.agent = self.start_agent()
        # Ended first, so that its goodbye is seen.
        stack.callback(self._stop_agent)

    def start_agent(
        self, host: str = HOST, hypervisor: PrivateLibvirt | None = None, options: Sequence[str] = ()
    ) -> Program:
        """Start the agent of a host, as an operator would; *options* are flags beside the lab's own."""
        libvirt_there = hypervisor or self.hypervisor
        arguments = ["vmpulse_agent", "run", "--uri", libvirt_there.uri, "--run-dir", str(libvirt_there.run_dir)]
        arguments += ["--host", host, "--broker-url", f"amqp://{self.broker.host}:{self.broker.port}/"]
        arguments += ["--state-dir", str(self.folder / f"state-{host}"), "--metrics-port", "0"]
        arguments += ["--unresponsive-after-s", f"{UNRESPONSIVE_S:g}", *options]
        return Program("agent" if host == HOST else host, arguments, self.folder, self._secret("AGENT", host))

    def _view_arguments(self) -> list[str]:
        url = f"amqp://engine.view@{self.broker.host}:{self.broker.port}/"
        return ["vmpulse_consumers", "view", "--broker-url", url, "--http-port", "0"]

    def _secret(self, program: str, user: str) -> dict[str, str]:
        file = self.folder / f"{user}.password"
        file.write_text(next(known.password for known in USERS if known.name == user))
        return {f"VMPULSE_{program}_BROKER_PASSWORD_FILE": str(file)}

    def _api_url(self) -> str:
        """Read from the view's log which free port it took."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self.view.assert_runs()
            for line in self.view.said.splitlines():
                if "http://" in line:
                    return "http://" + line.rpartition("http://")[2].split("/")[0].split()[0]
            time.sleep(POLL_S)
        raise CheckFailed(f"the view did not say where it listens: {self.view.said[-500:]}")

    def call(self, verb: str, *vms: str, host: str = HOST) -> subprocess.CompletedProcess[str]:
        """Run ``vmpulse call --json``."""
        url = f"amqp://engine.cli@{self.broker.host}:{self.broker.port}/"
        secret = self._secret("CLI", "engine.cli")["VMPULSE_CLI_BROKER_PASSWORD_FILE"]
        options = ("--broker-url", url, "--broker-password-file", secret, "--json")
        return self.vmpulse("call", *options, host, verb, *vms)

    def vmpulse(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``vmpulse`` to its end, against the lab's view."""
        command = [sys.executable, "-m", "vmpulse_consumers", *arguments]
        environment = os.environ | {"VMPULSE_API": str(self.api.base_url)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)

    # --- reading ------------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Row]:
        """All VMs in the view, by id."""
        reply = self.api.get("/api/v1/vms", params={"limit": 1000}).raise_for_status().json()
        return {row["id"]: row for row in reply["vms"]}

    def row(self, vm: str) -> Row | None:
        """One VM with sections and claims, or None where the view has none."""
        reply = self.api.get(f"/api/v1/vms/{vm}")
        if reply.status_code == httpx.codes.NOT_FOUND:
            return None
        row: Row = reply.raise_for_status().json()
        return row

    def host(self) -> Row:
        """The lab's host, with its tombstones."""
        row: Row = self.api.get(f"/api/v1/hosts/{HOST}").raise_for_status().json()
        return row

    def live(self) -> bool:
        """Whether the view knows the lab's host and calls it live."""
        hosts = self.api.get("/api/v1/hosts").raise_for_status().json()["hosts"]
        return [(host["host"], host["state"]) for host in hosts] == [(HOST, "live")]

    def until(self, what: str, holds: Callable[[], bool], seconds: float) -> float:
        """Wait until something holds; gives the seconds it took. Raises CheckFailed at the deadline."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise CheckFailed(f"not within {seconds:g} s: {what}")
            self.agent.assert_runs()
            self.view.assert_runs()
            time.sleep(POLL_S)
        return time.monotonic() - began

    def status_is(self, vm: str, status: str) -> Callable[[], bool]:
        """A condition for ``until``."""
        return lambda: (row := self.row(vm)) is not None and row["status"] == status

    def _stop_agent(self) -> None:
        """End the agent that runs now: a check may have put another in the first one's place."""
        self.agent.stop()

    def _disconnect(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()


@contextlib.contextmanager
def running(folder: Path, say: Callable[[str], None]) -> Iterator[Lab]:
    """Start a broker, a libvirt, the view and the agent; end all of it afterwards, in the reverse order."""
    with contextlib.ExitStack() as stack:
        say("starting a private RabbitMQ ...")
        broker = stack.enter_context(PrivateBroker(root=folder, users=USERS))
        say("starting a private libvirt ...")
        hypervisor = stack.enter_context(PrivateLibvirt(folder / "libvirt", HOST, FIRST))
        say("starting the view and the agent ...")
        yield Lab(folder, hypervisor, broker, stack)
