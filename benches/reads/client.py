"""A client that asks and reads, and parses nothing: what it measures is the view's time and the way."""

from __future__ import annotations

import http.client
import statistics
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from benches.chaos.cable import LOOPBACK
from vmpulse_simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 30.0
OK: Final = 200
MS: Final = 1e3


class NotAnswered(SimulatorError):
    """The view did not answer as it should."""


class Reply(NamedTuple):
    """What came, and how long it took in all; ms."""

    body: bytes
    took_ms: float


class Client:
    """One connection that is kept.

    Args:
        port: of the view's HTTP API.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask once. Raises NotAnswered."""
        begun = time.perf_counter()
        try:
            self._connection.request("GET", path, headers=headers or {})
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswered(f"GET {path}: {type(error).__name__}: {error}") from error
        if response.status != OK:
            raise NotAnswered(f"GET {path}: status {response.status}: {body[:200].decode(errors='replace')}")
        return Reply(body, (time.perf_counter() - begun) * MS)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def median_ms(took: list[float]) -> float:
    """Give the median of some times; there is one at least."""
    return round(statistics.median(took), 2)
