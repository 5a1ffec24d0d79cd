"""The composed services as an operator handles them: up, healthy, killed, stopped, down."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from tests.compose.engine import DOCKER
from tests.compose.failures import ComposeTestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.compose.engine import Engine

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / ".env.example"
UP_S: Final = 240.0
DOWN_S: Final = 120.0
HEALTHY_S: Final = 120.0
POLL_S: Final = 0.5
TOLD_S: Final = 5.0
GIVEN_UP: Final = 6
"""So many restarts are no accident any more."""


class Stack:
    """One project on an engine, with the values of ``.env.example`` and those given beside them.

    Args:
        engine: where it runs.
        project: its name.
        values: what differs from ``.env.example``.
        folder: for the file with the values.
        say: hears of progress.
        override: a second compose file, put over the first.
    """

    def __init__(
        self,
        engine: Engine,
        project: str,
        values: Mapping[str, str],
        folder: Path,
        *,
        say: Callable[[str], None],
        override: Path | None = None,
    ) -> None:
        self.engine = engine
        self.project = project
        self.values = {**read_values(EXAMPLE), **values}
        self._say = say
        self._file = folder / f"{project}.env"
        self._file.write_text("".join(f"{name}={value}\n" for name, value in self.values.items()), encoding="utf-8")
        files = ("docker-compose.yml", *([str(override)] if override is not None else []))
        named = ("--project-name", project, "--env-file", str(self._file))
        self._options = (*named, *(word for file in files for word in ("--file", file)))

    def compose(self, *arguments: str, profiles: Iterable[str] = (), seconds: float = UP_S) -> str:
        """Run ``docker-compose`` at the repository's root. Raises ComposeTestFailed."""
        return self.engine.run(*self._command(profiles), *arguments, seconds=seconds, cwd=ROOT)

    def tried(self, *arguments: str, profiles: Iterable[str] = (), seconds: float = UP_S) -> tuple[int, str]:
        """Run ``docker-compose``, whatever comes of it; gives exit status and words."""
        done = self.engine.tried(*self._command(profiles), *arguments, seconds=seconds, cwd=ROOT)
        return done.returncode, done.stdout + done.stderr

    def _command(self, profiles: Iterable[str]) -> list[str]:
        chosen = [option for profile in profiles for option in ("--profile", profile)]
        return [self.engine.compose, "--ansi", "never", *self._options, *chosen]

    def up(self, services: Iterable[str], profiles: Iterable[str] = ()) -> None:
        """Start services and what they depend on, each once the one before it is healthy."""
        self.compose("up", "--detach", "--no-build", *services, profiles=profiles)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        every = ("demo", "host", "monitoring")
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "10", profiles=every, seconds=DOWN_S)

    # --- containers ---------------------------------------------------------------------------------------------

    def container(self, service: str) -> dict[str, Any]:
        """All about the container of a service. Raises ComposeTestFailed if there is none."""
        found = self.engine.docker(
            *("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
        ).split()
        if not found:
            raise ComposeTestFailed(f"{service} has no container")
        return self.engine.inspect(found[0])

    def health(self, service: str) -> str:
        """What the health check says last, in one line: ``healthy``, or state and reason."""
        state = self.container(service)["State"]
        health = state.get("Health")
        if health is None:
            return "healthy" if state["Running"] else f"{state['Status']} ({state['ExitCode']})"
        if health["Status"] == "healthy" and state["Running"]:
            return "healthy"
        said = health["Log"][-1]["Output"].strip() if health["Log"] else ""
        return f"{state['Status']}, {health['Status']}: {said}" if said else f"{state['Status']}, {health['Status']}"

    def until_healthy(self, services: Iterable[str], seconds: float = HEALTHY_S) -> float:
        """Wait until each is healthy; gives the seconds that took. Raises ComposeTestFailed with the culprit's log."""
        began = told = time.monotonic()
        waiting = list(services)
        while waiting := [service for service in waiting if self.health(service) != "healthy"]:
            now = time.monotonic()
            if now - began > seconds or self.restarts(waiting[0]) >= GIVEN_UP:
                raise ComposeTestFailed(
                    f"{waiting[0]} is not healthy: {self.health(waiting[0])}\n{self.log(waiting[0])}"
                )
            if now - told > TOLD_S:
                told = now
                self._say(f"      waiting for {', '.join(waiting)} ({self.health(waiting[0])[:100]})")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def restarts(self, service: str) -> int:
        """How often the engine has started it again."""
        return int(self.container(service)["RestartCount"])

    def kill(self, service: str) -> float:
        """SIGKILL for its program, as a crash or the kernel would; gives the seconds until it was healthy again.

        Not ``docker kill``, after which an engine starts nothing again.
        """
        before = self.container(service)
        began = time.monotonic()
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        while self.container(service)["State"]["StartedAt"] == before["State"]["StartedAt"]:
            if time.monotonic() - began > HEALTHY_S:
                raise ComposeTestFailed(f"{service} was killed, and not started again\n{self.log(service)}")
            time.sleep(POLL_S)
        self.until_healthy([service])
        return time.monotonic() - began

    def log(self, service: str, since: datetime | None = None, lines: int = 40) -> str:
        """The end of what a service has said."""
        options = ("--tail", str(lines)) if since is None else ("--since", since.isoformat())
        done = self.engine.tried(DOCKER, "logs", *options, self.container(service)["Id"], seconds=30)
        return done.stdout + done.stderr

    def json_lines(self, service: str, since: datetime) -> list[dict[str, Any]]:
        """The JSON objects among the lines that a service has said since then."""
        found = []
        for line in self.log(service, since).splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    # --- what they serve ----------------------------------------------------------------------------------------

    def get(self, port_value: str, path: str, **params: str) -> Any:
        """GET from a published port; the JSON that it answers. Raises httpx.HTTPError."""
        url = f"http://127.0.0.1:{self.values[port_value]}{path}"
        reply: httpx.Response = self.engine.inside(httpx.get, url, params=params, timeout=10.0)
        return reply.raise_for_status().json()

    def until(self, what: str, holds: Callable[[], bool], seconds: float, culprit: str) -> float:
        """Wait until something holds; gives the seconds. Raises ComposeTestFailed with the culprit's log."""
        began = time.monotonic()
        while not self._holds(holds):
            if time.monotonic() - began > seconds:
                raise ComposeTestFailed(f"not within {seconds:g} s: {what}\n{self.log(culprit)}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    @staticmethod
    def _holds(holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except httpx.HTTPError:
            return False


def read_values(file: Path) -> dict[str, str]:
    """The assignments of an environment file."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {name: value for name, _, value in (line.partition("=") for line in lines if line and line[0] != "#")}


def now() -> datetime:
    """The time of day, as logs tell it."""
    return datetime.now(UTC)
