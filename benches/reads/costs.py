"""What single reads cost a view, and how long they take: metrics, all VMs, one VM."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from benches.reads.client import Client, median_ms
from benches.reads.report import Scrapes
from benches.spread import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benches.reads.client import Reply
    from benches.simulated import Size

PAGE: Final = 10_000
"""The most that a page may have."""
LISTS: Final = 9
SINGLE: Final = 200
PLAIN: Final = {"Accept-Encoding": "identity"}
PACKED: Final = {"Accept-Encoding": "gzip"}
MS: Final = 1e3


class Lists(NamedTuple):
    """All VMs, read again and again; times in ms, ``took`` from the first request to the last byte."""

    took: float
    requests: int
    bytes: int
    cpu: float


class Costs:
    """Reads one view.

    Args:
        port: of its HTTP API.
        size: of its fleet.
        cpu_s: gives what its process has used so far, seconds.
    """

    def __init__(self, port: int, size: Size, cpu_s: Callable[[], float]) -> None:
        self._port = port
        self._size = size
        self._cpu_s = cpu_s

    async def scrapes(self, headers: Mapping[str, str], count: int, idle_rate: float) -> Scrapes:
        """Scrape some times, once a tick. *idle_rate*: CPU seconds of the view, each second, without."""
        begun, before = time.monotonic(), self._cpu_s()
        replies = await asyncio.to_thread(self.paced, "/metrics", headers, count)
        cpu_s = self._beyond(before, begun, idle_rate)
        (plain,) = await asyncio.to_thread(self.paced, "/metrics", PLAIN, 1)
        return Scrapes(
            count=count,
            cpu_ms=round(cpu_s * MS / count, 1),
            took_ms=median_ms([reply.took_ms for reply in replies]),
            bytes=len(replies[-1].body),
            samples=sum(1 for line in plain.body.splitlines() if not line.startswith(b"#")),
        )

    def paced(self, path: str, headers: Mapping[str, str], count: int) -> list[Reply]:
        """Ask some times, once a tick, on one connection."""
        client, replies = Client(self._port), []
        begun = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + number * self._size.tick_s - time.monotonic()))
            replies.append(client.get(path, headers))
        client.close()
        return replies

    async def lists(self, idle_rate: float) -> Lists:
        """Read all VMs some times, one after the other."""
        begun, before = time.monotonic(), self._cpu_s()
        lists = [await asyncio.to_thread(self.list) for _ in range(LISTS)]
        cpu_s = self._beyond(before, begun, idle_rate)
        took = median_ms([sum(reply.took_ms for reply in pages) for pages in lists])
        size = sum(len(reply.body) for reply in lists[-1])
        return Lists(took, len(lists[-1]), size, round(cpu_s * MS / LISTS, 1))

    def list(self) -> list[Reply]:
        """Read all VMs, in as few pages as there can be."""
        client = Client(self._port)
        pages = [client.get(f"/api/v1/vms?limit={PAGE}&offset={at}") for at in range(0, self._size.all_vms, PAGE)]
        client.close()
        return pages

    def singles(self) -> tuple[float, float]:
        """Read one VM after the other; gives the median and the 99th percentile, ms."""
        client = Client(self._port)
        rows = msgspec.json.decode(client.get(f"/api/v1/vms?limit={PAGE}").body)["vms"]
        ids = [rows[number % len(rows)]["id"] for number in range(SINGLE)]
        took = [client.get(f"/api/v1/vms/{vm}").took_ms for vm in ids]
        client.close()
        return median_ms(took), spread(took).p99

    def _beyond(self, before: float, begun: float, idle_rate: float) -> float:
        """CPU seconds since then that are not those of a view without readers."""
        return self._cpu_s() - before - idle_rate * (time.monotonic() - begun)
