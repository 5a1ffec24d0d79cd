"""What an operator may get wrong: it gets one clear line, a documented exit code, and a health check that says why."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.compose.failures import ComposeTestFailed
from tests.compose.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.compose.engine import Engine

ENDED_S: Final = 60.0
SAID_S: Final = 90.0
LOGGED: Final = re.compile(r"\d{4}-\d\d-\d\d ")
"""A log line begins with its date; a complaint by which a program ends, with the program's name."""


class BadInput:
    """Mistakes, each tried in a project of its own beside a stack that is down.

    Args:
        engine: where to try.
        values: those with which the stack works.
        folder: for files.
    """

    def __init__(self, engine: Engine, values: Mapping[str, str], folder: Path) -> None:
        self._engine = engine
        self._values = dict(values)
        self._folder = folder

    def every(self) -> Iterator[Callable[[], None]]:
        """The mistakes, to be tried one after the other."""
        yield self.missing_secret
        yield self.unusable_definitions
        yield self.unusable_password
        yield self.port_in_use
        yield self.no_libvirt_folder
        yield self.no_libvirt_socket
        yield self.plugin_not_named
        yield self.plugin_not_running

    def missing_secret(self) -> None:
        """Without ``make secrets`` nothing starts, and the missing file is named."""
        stack = self._stack("secret", {"VMPULSE_SECRETS": str(self._secrets("engine.view"))})
        self._not_started(stack, "view", str(Path(stack.values["VMPULSE_SECRETS"]) / "engine.view"))

    def unusable_definitions(self) -> None:
        """With a folder in place of its definitions RabbitMQ ends with 2 and says what helps; some engines make one."""
        folder = self._secrets("rabbitmq_definitions.json")
        (folder / "rabbitmq_definitions.json").mkdir()
        self._refused(self._stack("definitions", {"VMPULSE_SECRETS": str(folder)}), "rabbitmq", 2, "make secrets")

    def unusable_password(self) -> None:
        """With a folder in place of its password, the view ends with 2 and names the setting."""
        folder = self._secrets("engine.view")
        (folder / "engine.view").mkdir()
        self._refused(self._stack("password", {"VMPULSE_SECRETS": str(folder)}), "view", 2, "broker_password_file")

    def port_in_use(self) -> None:
        """A published port that is taken is named, and nothing runs on another one instead."""
        stack = self._stack("port", {})
        holder = self._engine.inside(_listener, int(stack.values["VMPULSE_HTTP_PORT"]))
        try:
            status, said = self._up(stack, "view")
        finally:
            holder.close()
            stack.down()
        if status == 0 or "address already in use" not in said or stack.values["VMPULSE_HTTP_PORT"] not in said:
            raise ComposeTestFailed(f"a taken port: exit status {status}: {said}")

    def no_libvirt_folder(self) -> None:
        """A host without libvirt's folder is told so, and the folder is not made."""
        folder = self._folder / "no-libvirt"
        self._not_started(self._stack("folder", {"LIBVIRT_RUN_DIR": str(folder)}), "agent", str(folder))
        if folder.exists():
            raise ComposeTestFailed(f"{folder} was made")

    def no_libvirt_socket(self) -> None:
        """Without libvirt's socket the agent ends with 1 and says what is missing."""
        folder = self._folder / "empty-libvirt"
        folder.mkdir()
        stack = self._stack("socket", {"LIBVIRT_RUN_DIR": str(folder)})
        self._refused(stack, "agent", 1, "there is no /run/libvirt/sock/libvirt-sock")

    def plugin_not_named(self) -> None:
        """RabbitMQ ends with 2 and names the plugin that is not enabled."""
        stack = self._stack("plugin", {}, self._plugins("[rabbitmq_management]."))
        self._refused(stack, "rabbitmq", 2, "rabbitmq_prometheus")

    def plugin_not_running(self) -> None:
        """A plugin that is named and does not run makes the node unhealthy, with the plugin's name as the reason."""
        stack = self._stack("asleep", {}, self._plugins("[rabbitmq_management].\n%% rabbitmq_prometheus is off"))
        try:
            stack.compose("up", "--detach", "--no-build", "rabbitmq")
            stack.until(
                "the health check names the plugin",
                lambda: "the plugin rabbitmq_prometheus does not answer" in stack.health("rabbitmq"),
                SAID_S,
                "rabbitmq",
            )
        finally:
            stack.down()

    def _not_started(self, stack: Stack, service: str, words: str) -> None:
        """Compose fails at once and names what is missing."""
        status, said = self._up(stack, service)
        stack.down()
        if status == 0 or not any("does not exist" in line and words in line for line in said.splitlines()):
            raise ComposeTestFailed(f"{service}: exit status {status}: {said}")

    def _refused(self, stack: Stack, service: str, code: int, words: str) -> None:
        """The service ends with the code and one line of complaint that holds the words, and is not healthy."""
        try:
            status, said = self._up(stack, service)
            if status:
                raise ComposeTestFailed(f"{service}: exit status {status}: {said}")
            # It is started again and again, and between two ends its exit code is 0.
            stack.until(f"{service} ends with {code}", lambda: _ended_with(stack, service, code), ENDED_S, service)
            complaints = {line for line in stack.log(service).splitlines() if not LOGGED.match(line)}
            if len(complaints) != 1 or words not in complaints.pop():
                raise ComposeTestFailed(f"{service} does not say {words!r} in one line: {stack.log(service)}")
            if stack.health(service) == "healthy":
                raise ComposeTestFailed(f"{service} has ended and is called healthy")
        finally:
            stack.down()

    @staticmethod
    def _up(stack: Stack, service: str) -> tuple[int, str]:
        return stack.tried("up", "--detach", "--no-build", "--no-deps", service, profiles=["host"])

    def _stack(self, name: str, values: Mapping[str, str], override: Path | None = None) -> Stack:
        return Stack(
            self._engine,
            f"vmpulse-bad-{name}",
            {**self._values, **values},
            self._folder,
            say=lambda _: None,
            override=override,
        )

    def _secrets(self, without: str) -> Path:
        """A copy of the secrets that lacks one."""
        copy = Path(tempfile.mkdtemp(dir=self._folder)) / "secrets"
        shutil.copytree(self._values["VMPULSE_SECRETS"], copy)
        (copy / without).unlink()
        return copy

    def _plugins(self, text: str) -> Path:
        plugins = self._folder / "enabled_plugins"
        plugins.write_text(text + "\n", encoding="ascii")
        override = self._folder / "plugins.yml"
        override.write_text(
            f"services:\n  rabbitmq:\n    volumes:\n      - {plugins}:/etc/rabbitmq/enabled_plugins:ro\n",
            encoding="ascii",
        )
        return override


def _ended_with(stack: Stack, service: str, code: int) -> bool:
    state = stack.container(service)["State"]
    return bool((state["Restarting"] or not state["Running"]) and state["ExitCode"] == code)


def _listener(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))
