"""A Docker engine to bring the stack up on: one of our own, or the one that is there if it can get the images.

Our own has its own data below ``.vmpulse``, so that the next run finds its images, and lives in namespaces of its own
(`engine_guard`): its ports, addresses and firewall rules meet nobody else's. Stand-ins are made only there: no engine
that serves others may ever hold another program under a public image's name.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.compose.failures import ComposeTestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

GUARD: Final = Path(__file__).with_name("engine_guard.py")
DOCKER: Final = "/usr/bin/docker"
"""By its path: a newer client that lacks its build plugin may come first in PATH."""
PROGRAMS: Final = (
    *("containerd", "debootstrap", "dockerd"),
    *("iptables", "runc", "slirp4netns", "unshare"),
)
CLONE_NEWNET: Final = 0x40000000
START_S: Final = 30.0
STOP_S: Final = 60.0


class Engine:
    """An engine that answers.

    Args:
        environment: what its clients need to find it.
        pid: a process whose network namespace the engine publishes ports in; None: it is ours.
    """

    def __init__(self, environment: Mapping[str, str], pid: int | None = None) -> None:
        # Compose starts a docker of its own from PATH.
        path = f"{Path(DOCKER).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, **environment, "PATH": path, "DOCKER_BUILDKIT": "1"}
        self.compose = "docker-compose"
        """The compose program; 1.29 by this name, or the path of a v2 that stands alone."""
        self.private = pid is not None
        self._pid = pid
        self._inside = ThreadPoolExecutor(1, initializer=self._enter)

    def inside(self, work: Callable[..., T], *args: object, **options: object) -> T:
        """Call something where published ports are: in a thread that has entered the engine's network namespace."""
        return self._inside.submit(work, *args, **options).result()

    def _enter(self) -> None:
        if self._pid is None:
            return
        with Path(f"/proc/{self._pid}/ns/net").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def docker(self, *arguments: str, seconds: float = 60.0) -> str:
        """Run ``docker`` and give what it prints. Raises ComposeTestFailed."""
        return self.run(DOCKER, *arguments, seconds=seconds)

    def run(self, *command: str, seconds: float, cwd: Path | None = None) -> str:
        """Run a client of the engine to its end. Raises ComposeTestFailed with the end of what it said."""
        done = self.tried(*command, seconds=seconds, cwd=cwd)
        if done.returncode:
            words = f"{' '.join(command[:8])}: exit status {done.returncode}"
            raise ComposeTestFailed(f"{words}\n{done.stderr[-3000:]}{done.stdout[-3000:]}")
        return done.stdout

    def tried(self, *command: str, seconds: float, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a client of the engine, whatever comes of it. Raises ComposeTestFailed only if it does not end."""
        try:
            return subprocess.run(
                command,
                env=self.environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ComposeTestFailed(f"no end after {seconds:.0f} s: {' '.join(command[:8])}") from error

    def has_image(self, name: str) -> bool:
        """Whether the engine holds that image."""
        return self.tried(DOCKER, "image", "inspect", name, seconds=20).returncode == 0

    def label_of(self, image: str, label: str) -> str:
        """A label of an image; empty where either is not there."""
        done = self.tried(DOCKER, "image", "inspect", image, "--format", "{{json .Config.Labels}}", seconds=20)
        labels: dict[str, str] = (json.loads(done.stdout) or {}) if done.returncode == 0 else {}
        return labels.get(label, "")

    def inspect(self, container: str) -> dict[str, Any]:
        """All about a container."""
        found: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return found

    def close(self) -> None:
        """Let go of the thread."""
        self._inside.shutdown(cancel_futures=True)


def missing() -> str | None:
    """Why no engine of one's own can run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def existing_engine(images: tuple[str, ...], say: Callable[[str], None]) -> Engine | None:
    """The engine that answers by itself, if it holds or gets the public images."""
    engine = Engine({})
    if engine.tried(DOCKER, "info", seconds=20).returncode:
        return None
    for image in images:
        if not engine.has_image(image) and not pulled(engine, image):
            say(f"the engine that is there cannot get {image}")
            return None
    return engine


def pulled(engine: Engine, image: str, seconds: float = 300.0) -> bool:
    """Whether a registry gave the image."""
    return engine.tried(DOCKER, "pull", "--quiet", image, seconds=seconds).returncode == 0


@contextlib.contextmanager
def private_engine(data: Path, folder: Path) -> Iterator[Engine]:
    """An engine of our own, until the context is left.

    Args:
        data: its images and volumes, kept for the next run.
        folder: its sockets and logs; a short path, for a socket's is bounded by 107 bytes.
    """
    data.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-I", "-S", str(GUARD), str(data), str(folder), folder.name)
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        pid = int(guard.stdout.readline() or 0)
        engine = Engine({"DOCKER_HOST": f"unix://{folder}/docker.sock"}, pid)
        _await(engine, folder / "dockerd.log")
        yield engine
        engine.close()
    finally:
        guard.stdin.close()
        try:
            guard.wait(STOP_S)
        finally:
            guard.kill()
            guard.wait()
            guard.stdout.close()


def _await(engine: Engine, log: Path) -> None:
    end = time.monotonic() + START_S
    while engine.tried(DOCKER, "version", seconds=10).returncode:
        if time.monotonic() > end:
            raise ComposeTestFailed(f"the private engine does not answer:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def short_folder() -> Path:
    """An empty folder with a short path that other users may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="vmpulse-compose-", dir="/tmp"))
    folder.chmod(0o755)
    return folder
