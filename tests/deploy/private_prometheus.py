"""A Prometheus of one's own with the deployed configuration: no service, no shared port, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from tests.conftest import require
from vmpulse_simulator.child_process import GUARD

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
CONFIG = FOLDER / "prometheus.yml"
RULES = FOLDER / "rules.yml"
LOOPBACK = "127.0.0.1"
# The ports of the composed network.
VIEW, BROKER, AGENT = "view:8080", "rabbitmq:15692", "agent-sim:9178"
# Quick, because a test waits for the scrapes.
INTERVALS = "scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s"
READY_S = 10.0
STOP_S = 5.0
POLL_S = 0.2


class Sample(NamedTuple):
    """One sample of an instant vector."""

    name: str
    labels: dict[str, str]
    value: float


def require_prometheus() -> None:
    """Prometheus has to be there."""
    missing = [program for program in ("prometheus", "promtool") if not shutil.which(program)]
    remedy = "run `make setup`, or install what Debian calls prometheus"
    require(f"{' and '.join(missing)} not in PATH: {remedy}" if missing else None)


def jobs() -> set[str]:
    """The names of the jobs of the deployed configuration."""
    return set(re.findall(r"job_name: (\S+)", CONFIG.read_text(encoding="utf-8")))


def localized(addresses: Mapping[str, str], agents: Path) -> str:
    """Give the deployed configuration with other addresses, paths and intervals, and everything else as it is.

    Args:
        addresses: by the address in the composed network, what to scrape instead.
        agents: the folder for files with agents of other hosts.
    """
    text = CONFIG.read_text(encoding="utf-8")
    text = _replaced(text, r"scrape_interval: \S+\n +scrape_timeout: \S+", INTERVALS)
    text = _replaced(text, re.escape("/etc/prometheus/rules.yml"), str(RULES))
    text = _replaced(text, re.escape("/etc/prometheus/agents/"), f"{agents}/")
    for deployed in (VIEW, BROKER):
        text = _replaced(text, re.escape(f'"{deployed}"'), f'"{addresses[deployed]}"')
    return _without_dns(text, AGENT, addresses[AGENT])


def agents_file(text: str, address: str) -> str:
    """Give the example in the README of the folder of agents, with one address instead of those that it names."""
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    return _replaced(example, r"targets: \[.*\]", f'targets: ["{address}"]')


def _without_dns(text: str, deployed: str, address: str) -> str:
    """Give the target, and the label, that Prometheus would have found by name: it asks no server but the system's."""
    name, port = deployed.split(":")
    found = rf"dns_sd_configs:\n +- names: \[.*\b{name}\b.*\]\n +type: A\n +port: {port}\n(?: {{8,}}\S.*\n)*"
    static = f'static_configs:\n      - targets: ["{address}"]\n        labels: {{__meta_dns_name: {name}}}\n'
    return _replaced(text, found, static)


def _replaced(text: str, pattern: str, by: str) -> str:
    changed, count = re.subn(pattern, lambda _: by, text)
    assert count == 1, f"{pattern} is {count} times in\n{text}"
    return changed


async def until_nothing(lacking: Callable[[], Awaitable[Collection[object]]], within_s: float = 12.0) -> None:
    """Ask what is lacking until that is nothing. Fails at the deadline with what still is."""
    deadline = time.monotonic() + within_s
    while still := await lacking():
        assert time.monotonic() < deadline, f"lacking after {within_s:.0f} s: {sorted(map(str, still))}"
        await asyncio.sleep(POLL_S)


class PrivatePrometheus:
    """Debian's ``prometheus`` from entering to leaving the context; it ends with the tests, however they end.

    Args:
        config: the text of its configuration.
        port: its loopback port.
        folder: for its configuration, data and log.
    """

    def __init__(self, config: str, port: int, folder: Path) -> None:
        self.config = folder / "prometheus.yml"
        self.config.write_text(config, encoding="utf-8")
        self.log = folder / "prometheus.log"
        self._arguments = (
            f"--config.file={self.config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
        )
        self._api = httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        guard = (sys.executable, "-I", "-S", str(GUARD), str(os.getpid()))
        program = shutil.which("prometheus") or "prometheus"
        with self.log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *guard,
                program,
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        try:
            await until_nothing(self._not_ready, READY_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def query(self, expression: str) -> list[Sample]:
        """Give the samples of an instant query."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [
            Sample(found["metric"].pop("__name__", ""), found["metric"], float(found["value"][1]))
            for found in data["result"]
        ]

    async def get(self, path: str, **parameters: str) -> Any:
        """Give the data of an answer of the API."""
        answer = (await self._api.get(f"/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def _not_ready(self) -> Collection[object]:
        assert self._process is not None
        assert self._process.returncode is None, self.log.read_text(encoding="utf-8")
        try:
            ready = (await self._api.get("/-/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            ready = False
        return () if ready else ("/-/ready",)

    async def _end(self) -> None:
        await self._api.aclose()
        process = self._process
        if process is None:
            return
        for signalled in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                signalled()
                await asyncio.wait_for(process.wait(), STOP_S)
                return
