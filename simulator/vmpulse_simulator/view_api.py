"""The view's HTTP API as the simulator uses it: the standard library's client, in a thread, with bounded waits."""

from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from vmpulse_contract.errors import SettingsError
from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.truth import Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")

LOOPBACK: Final = "127.0.0.1"
ALLOWED: Final = "http://HOST:PORT, without a path, or nothing for none"
TIMEOUT_S: Final = 5.0
PAGE: Final = 1000
MOST_PAGES: Final = 2000
"""Bounds a view whose totals never end."""
OK: Final = 200
NOT_FOUND: Final = 404


class FleetReport(Struct, frozen=True, kw_only=True):
    """What the view says of itself and the fleet; what it counts, it counts since its start."""

    ready: bool = False
    hosts: dict[str, int] = {}
    vms: int = 0
    messages: int = 0
    bytes: int = 0
    repairs: int = 0
    gaps: int = 0
    relists: int = 0
    rejected: int = 0
    worst_age_s: float | None = None

    def live(self) -> int:
        """How many hosts are live."""
        return sum(count for state, count in self.hosts.items() if state.lower() == "live")


class VmPage(Struct, frozen=True, kw_only=True):
    """A page of VMs."""

    total: Annotated[int, Meta(ge=0)]
    vms: list[dict[str, Any]]


class HostPage(Struct, frozen=True, kw_only=True):
    """A page of hosts."""

    total: Annotated[int, Meta(ge=0)]
    hosts: list[dict[str, Any]]


NOBODY: Final[dict[str, Any]] = {}
"""A host or VM that the view does not know, which is an answer."""


class ViewApi:
    """Asks a view. Every method raises ViewUnreachable.

    Args:
        url: its address, as ``checked_url`` gives it.
        clock: monotonic seconds, to stamp what was seen.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.url = url
        self._clock = clock

    async def fleet(self) -> FleetReport:
        """What the view says of the fleet."""
        return await self._get("/api/v1/fleet", FleetReport)

    async def hosts(self) -> list[dict[str, Any]]:
        """All hosts."""
        rows: list[dict[str, Any]] = []
        for _ in range(MOST_PAGES):
            page = await self._get(f"/api/v1/hosts?limit={PAGE}&offset={len(rows)}", HostPage)
            rows.extend(page.hosts)
            if len(rows) >= page.total or not page.hosts:
                break
        return rows

    async def host(self, host: str) -> dict[str, Any]:
        """One host with its tombstones; nothing if the view does not know it."""
        return await asyncio.to_thread(get, self.url, f"/api/v1/hosts/{host}", dict[str, Any], missing=NOBODY)

    async def vm(self, vm: str) -> dict[str, Any]:
        """One VM with the claims on it; nothing if the view does not know it."""
        return await asyncio.to_thread(get, self.url, f"/api/v1/vms/{vm}", dict[str, Any], missing=NOBODY)

    async def vms(self, *, sections: bool = True) -> AsyncIterator[list[Seen]]:
        """All VMs, page by page, each page after the last VM of the one before: so what stays there is given once."""
        path = f"/api/v1/vms?sort=id&limit={PAGE}&sections={str(sections).lower()}"
        after = ""
        for _ in range(MOST_PAGES):
            page = await self._get(path + after, VmPage)
            at = self._clock()
            yield [Seen(at, row) for row in page.vms]
            if len(page.vms) < PAGE:
                break
            after = f"&after={page.vms[-1].get('id')}"

    async def _get(self, path: str, kind: type[T]) -> T:
        return await asyncio.to_thread(get, self.url, path, kind)


def checked_url(setting: str, url: str) -> str:
    """Give the address of a view, which may be empty. Raises SettingsError for what is none."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError as error:
        raise SettingsError(setting, url, ALLOWED) from error
    if not usable or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SettingsError(setting, url, ALLOWED)
    return f"http://{parts.netloc}"


def get(url: str, path: str, kind: type[T], *, missing: T | None = None) -> T:
    """Ask once, and check the answer's shape; *missing* stands for status 404. Blocks for a few times TIMEOUT_S."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        if response.status == NOT_FOUND and missing is not None:
            return missing
        if response.status != OK:
            raise ViewUnreachable(f"GET {path}: status {response.status}: {body[:200].decode(errors='replace')}")
        return msgspec.json.decode(body, type=kind)
    except (OSError, http.client.HTTPException) as error:
        raise ViewUnreachable(f"GET {path}: {type(error).__name__}: {error}") from error
    except msgspec.DecodeError as error:
        raise ViewUnreachable(f"GET {path}: not the answer expected: {error}") from error
    finally:
        connection.close()
