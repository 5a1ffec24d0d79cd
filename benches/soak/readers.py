"""Who reads a view as long as it runs: a scraper of its metrics, and a reader of its event stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benches.soak.errors import ScrapeFailed
from benches.soak.report import Readers
from vmpulse_consumers.events.log import BYTES, EVENTS, OVERHEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRAPE_S: Final = 5.0
TIMEOUT_S: Final = 5.0
SILENCE_S: Final = 30.0
"""A stream on which nothing happens says each 15 s that it is there."""
RETRY_S: Final = 1.0
ID: Final = "id: "
TOKEN: Final = re.compile(ID + r"[0-9a-f]+-(\d+)")
EVENT: Final = "event: "
DATA: Final = "data: "
EVENT_BYTES: Final = 170
"""What the view holds of an event beside its text: 213 by resident memory over 65,000 of them, so rather too little."""


class Scraper:
    """Asks for metrics as Prometheus does, one after the other on one connection.

    Args:
        url: of the metrics.
    """

    def __init__(self, url: str) -> None:
        self.metrics: Mapping[str, float] = {}
        """The last ones: names without labels, their values added up."""
        self.scrapes = 0
        self.failed = 0
        self._url = url

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            while True:
                self.scrapes += 1
                try:
                    self.metrics = await _metrics(client, self._url)
                except ScrapeFailed:
                    self.failed += 1
                await asyncio.sleep(SCRAPE_S)


class EventReader:
    """Follows the event stream, and comes back to where it was if it is lost.

    Args:
        url: of the stream.
    """

    def __init__(self, url: str) -> None:
        self.events: Counter[str] = Counter()
        self.missed = 0
        """Events between two that came, by their numbers."""
        self.streams = 0
        self._bytes = 0
        self._url = url
        self._token = ""
        self._number = 0
        self._last: int | None = None
        """The number of the event before; at first that of the moment at which the stream began."""

    async def run(self) -> None:
        """Read until cancelled."""
        timeout = httpx.Timeout(TIMEOUT_S, read=SILENCE_S)
        async with httpx.AsyncClient(timeout=timeout) as client:
            while True:
                self.streams += 1
                with contextlib.suppress(httpx.HTTPError):
                    await self._follow(client)
                await asyncio.sleep(RETRY_S)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self._token} if self._token else {}
        async with client.stream("GET", self._url, headers=headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                self.take(line)

    def take(self, line: str) -> None:
        """Take in one line of the stream."""
        token = TOKEN.match(line)
        if token is not None:
            self._number, self._token = int(token[1]), line.removeprefix(ID)
            if self._last is None:
                self._last = self._number
        elif line.startswith(EVENT) and self._last is not None:
            self.events[line.removeprefix(EVENT)] += 1
            self.missed += max(0, self._number - self._last - 1)
            self._last = self._number
        elif line.startswith(DATA):
            self._bytes += len(line.removeprefix(DATA).encode())

    @property
    def history_mib(self) -> float:
        """What the view holds of the events that came: it keeps the last ones, bounded, and lets older ones go."""
        count = self.events.total()
        kept = min(EVENTS, BYTES * count / max(1, self._bytes + count * OVERHEAD_BYTES)) / max(1, count)
        return min(1.0, kept) * (self._bytes + count * EVENT_BYTES) / (1 << 20)


def told(scraper: Scraper, reader: EventReader) -> Readers:
    """Tell what the two have seen."""
    return Readers(
        scrapes=scraper.scrapes,
        scrapes_failed=scraper.failed,
        events=dict(sorted(reader.events.items())),
        events_missed=reader.missed,
        streams=reader.streams,
    )


async def scrape(url: str) -> Mapping[str, float]:
    """Ask for metrics once. Raises ScrapeFailed."""
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        return await _metrics(client, url)


async def _metrics(client: httpx.AsyncClient, url: str) -> Mapping[str, float]:
    try:
        response = await client.get(url)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise ScrapeFailed(f"GET {url}: {type(error).__name__}: {error}") from error
    return values_of(response.text)


def values_of(text: str) -> Mapping[str, float]:
    """Read Prometheus' text: the values of each name added up over its labels. Raises ValueError."""
    values: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] += sample.value
    return values
