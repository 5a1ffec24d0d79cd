"""What the view says of one VM while it moves: every answer of the API as fast as it comes, and the events told."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import httpx

from tests.lab.lab import CheckFailed

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

EVENTS: Final = "/api/v1/events"
GONE: Final = "gone"
QUIET_S: Final = 0.5
"""After so long without another event all that were told have been read."""


class Claim(NamedTuple):
    """What one host says of the VM."""

    host: str
    status: str


class Sighting(NamedTuple):
    """One answer of the API. ``config`` is the announced hash of that section; status GONE: the view has no such VM."""

    at: float
    host: str
    status: str
    claims: frozenset[Claim] = frozenset()
    config: str | None = None


class Sightings:
    """Watches one VM, as a context manager, in a thread of its own.

    Args:
        api: where the view's API is.
        vm: its id.

    ``seen`` holds each sighting that differs from the one before; ``told`` the VM's events, once the block is left.
    """

    def __init__(self, api: str, vm: str) -> None:
        self.vm = vm
        self.seen: list[Sighting] = []
        self.answers = 0
        self.told: list[dict[str, Any]] = []
        self._api = httpx.Client(base_url=api, timeout=5.0)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failure: Exception | None = None
        self._from = ""

    def __enter__(self) -> Self:
        self._from = self._position()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        with contextlib.closing(self._api):
            if error is None and self._failure is not None:
                raise CheckFailed(f"the watch ended early: {self._failure!r}")
            self.told = self._events()

    def allow(self, hosts: Collection[str], statuses: Collection[str]) -> None:
        """Raise CheckFailed if the VM was ever said to be elsewhere or otherwise, by answer or by event."""
        wrong = [seen for seen in self.seen if seen.host not in hosts or seen.status not in statuses]
        if wrong:
            raise CheckFailed(f"{len(wrong)} wrong of {len(self.seen)} sightings of {self.vm}: {self.story()}")
        said = [data for data in self.told if data["host"] not in hosts or data.get("status", "Up") not in statuses]
        if said:
            raise CheckFailed(f"told of {self.vm}: {said}")

    def saw(self, *claims: Claim) -> None:
        """Raise CheckFailed unless these claims were once seen together."""
        if not any(seen.claims.issuperset(claims) for seen in self.seen):
            raise CheckFailed(f"never {claims}: {self.story()}")

    @property
    def owners(self) -> list[str]:
        """The hosts that owned the VM, one after the other."""
        hosts = [seen.host for seen in self.seen]
        return [host for before, host in zip([None, *hosts], hosts, strict=False) if host != before]

    @property
    def moves(self) -> list[tuple[str, str]]:
        """From where to where events told that the VM has moved."""
        return [(data["previousHost"], data["host"]) for data in self.told if data["type"] == "vm.migrated"]

    @property
    def configs(self) -> set[str]:
        """The hashes of its configuration that were announced; a host that has just got it may not know it yet."""
        return {seen.config for seen in self.seen if seen.config is not None}

    def story(self) -> str:
        """All of it, for people."""
        began = self.seen[0].at if self.seen else 0.0
        return "; ".join(
            f"{seen.at - began:.3f} {seen.status} on {seen.host} config {(seen.config or 'unknown')[:4]} "
            f"({', '.join(sorted(f'{claim.host}: {claim.status}' for claim in seen.claims))})"
            for seen in self.seen
        )

    # --- the API --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            while not self._ending.is_set():
                found = self._sighting()
                self.answers += 1
                if not self.seen or found[1:] != self.seen[-1][1:]:
                    self.seen.append(found)
                time.sleep(0.001)
        except Exception as error:  # noqa: BLE001 - told when the block is left
            self._failure = error

    def _sighting(self) -> Sighting:
        reply = self._api.get(f"/api/v1/vms/{self.vm}")
        at = time.monotonic()
        if reply.status_code == httpx.codes.NOT_FOUND:
            return Sighting(at, "", GONE)
        row = reply.raise_for_status().json()
        owners = [claim["host"] for claim in row["claims"] if claim["owner"]]
        if owners != [row["host"]]:
            raise CheckFailed(f"{self.vm} is on {row['host']}, its owners are {owners}")
        claims = frozenset(Claim(claim["host"], claim["status"]) for claim in row["claims"])
        return Sighting(at, row["host"], row["status"], claims, row.get("hashes", {}).get("config"))

    def _position(self) -> str:
        """The token of now; the stream's first words have it."""
        with self._api.stream("GET", EVENTS) as reply:
            return next(line[4:] for line in reply.iter_lines() if line.startswith("id: "))

    def _events(self) -> list[dict[str, Any]]:
        found = []
        timeout = httpx.Timeout(5.0, read=QUIET_S)
        with (
            contextlib.suppress(httpx.ReadTimeout),
            self._api.stream("GET", EVENTS, params={"after": self._from, "vm": self.vm}, timeout=timeout) as reply,
        ):
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event["subject"] == self.vm:  # fleet.relist is told to everybody
                        found.append({**event["data"], "type": event["type"]})
        return found
