"""Watches while something is broken: libvirt's own list against the view, ages, and what the agent's process takes."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import httpx
import libvirt
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.lab import CheckFailed, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

POLL_S: Final = 0.1
GRACE_S: Final = 1.0
"""For so long libvirt must have said the same before the view is held to it."""
END_S: Final = 20.0
"""libvirt's list at the end has to be there by then, or the daemon did not come back."""
NOT_THERE: Final = frozenset({"Down", "Unknown"})
METRICS: Final = re.compile(r"metrics at (http://\S+)/metrics")
BLOCKED: Final = "vmpulse_agent_loop_blocked_seconds"
BLOCKED_LIMIT_S: Final = 0.05


class Truth(NamedTuple):
    """libvirt's list: the domain id of each VM (-1: inactive) and since when that has been seen."""

    began: float
    domains: dict[str, tuple[int, float]]


class Sample(NamedTuple):
    """One reading of the view: each VM's status and the age of its values, and what the agent's process takes."""

    at: float
    statuses: dict[str, str]
    ages: dict[str, float]
    threads: int
    rss_mib: float


class Watch:
    """Reads libvirt's list and the view all the time, as a context manager; it never waits for a daemon that hangs.

    A VM that libvirt has had for GRACE_S must be in the view, and an active one not be Down or Unknown; while libvirt
    does not answer its last list stands, since domains outlive their daemon. Leaving the block raises CheckFailed with
    what was seen wrong.
    """

    def __init__(self, lab: Lab) -> None:
        self.samples: list[Sample] = []
        self.wrong: list[str] = []
        self._lab = lab
        self._pid = lab.agent.pid
        self._truth = Truth(0.0, {})
        self._doubts: dict[str, tuple[float, tuple[int, float], str]] = {}
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._follow, self._compare)]
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asked = time.monotonic()
        try:
            while error is None and self._truth.began <= asked and time.monotonic() < asked + END_S:
                time.sleep(POLL_S)
        finally:
            self._ending.set()
            self._threads[1].join()
        if error is not None:
            return
        if self._failure is not None:
            raise CheckFailed(f"the watch ended early: {self._failure!r}")
        if self._truth.began <= asked:
            raise CheckFailed(f"libvirt has not answered for {END_S:g} s")
        self._settle_doubts(float("inf"))
        if self.wrong:
            raise CheckFailed(f"{len(self.wrong)} times the view was wrong, first: {'; '.join(self.wrong[:3])}")

    def oldest(self, vms: Collection[str], since: float, until: float = float("inf")) -> float:
        """The greatest age of the values of *vms* in a span of time.monotonic(); infinite where there were none.

        Raises CheckFailed if the view was not read in that span.
        """
        span = [sample.ages for sample in self.samples if since <= sample.at <= until]
        if not span or not vms:
            raise CheckFailed(f"{len(span)} readings of {len(vms)} VMs: there is no oldest")
        return max(ages.get(vm, float("inf")) for ages in span for vm in vms)

    def fresh_after(self, vms: Collection[str], since: float, limit_s: float, patience_s: float) -> float:
        """Wait until values of all *vms* younger than *limit_s* were read after *since*; gives the seconds it took."""
        while time.monotonic() < since + patience_s:
            at, _, ages, *_ = self.samples[-1]
            if at > since and all(ages.get(vm, at) < min(limit_s, at - since) for vm in vms):
                return at - since
            time.sleep(POLL_S / 2)
        late = {vm: self.samples[-1].ages.get(vm) for vm in vms}
        raise CheckFailed(f"not fresh within {patience_s:g} s: {late}")

    def lateness(self, since: float, until: float) -> float:
        """How late this process itself was in a span: its longest pause between two readings beyond the one it makes.

        A machine on which the watch is late lets the agent wait as long.
        """
        span = [sample.at for sample in self.samples if since <= sample.at <= until]
        return max([later - earlier - POLL_S for earlier, later in pairwise(span)], default=0.0)

    @property
    def most_threads(self) -> int:
        """The most threads that the agent had."""
        return max(sample.threads for sample in self.samples)

    @property
    def most_mib(self) -> float:
        """The most memory that the agent had."""
        return max(sample.rss_mib for sample in self.samples)

    # --- libvirt --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        # It would say on stderr, at each try, that the daemon is away.
        libvirt.registerErrorHandler(lambda *_: None, None)
        while not self._ending.is_set():
            with contextlib.suppress(libvirt.libvirtError):
                connection = libvirt.openReadOnly(self._lab.hypervisor.uri)
                while not self._ending.is_set():
                    self._truth = self._listed(connection)
                    time.sleep(POLL_S)
                connection.close()
            time.sleep(POLL_S)

    def _listed(self, connection: libvirt.virConnect) -> Truth:
        began, before = time.monotonic(), self._truth.domains
        now = {domain.UUIDString(): domain.ID() for domain in connection.listAllDomains()}
        return Truth(
            began,
            {
                vm: before[vm] if vm in before and before[vm][0] == number else (number, time.monotonic())
                for vm, number in now.items()
            },
        )

    # --- the view -------------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        try:
            with httpx.Client(base_url=self._lab.api.base_url, timeout=5.0) as api:
                while not self._ending.is_set():
                    self._settle_doubts(self._truth.began)
                    self._doubt(self._sample(api))
                    time.sleep(POLL_S)
        except Exception as error:  # noqa: BLE001 - told when the block is left
            self._failure = error

    def _sample(self, api: httpx.Client) -> Sample:
        at = time.monotonic()
        reply = api.get("/api/v1/vms", params={"limit": 1000}).raise_for_status().json()
        statuses = {row["id"]: row["status"] for row in reply["vms"]}
        ages = {row["id"]: row["age_s"] for row in reply["vms"] if "age_s" in row}
        found = Sample(at, statuses, ages, *process(self._pid))
        self.samples.append(found)
        return found

    def _doubt(self, sample: Sample) -> None:
        for vm, (number, since) in self._truth.domains.items():
            status = sample.statuses.get(vm)
            wrong = status is None or (number >= 0 and status in NOT_THERE)
            if wrong and sample.at - since > GRACE_S and vm not in self._doubts:
                self._doubts[vm] = (time.monotonic(), (number, since), f"{vm} is {status or 'gone'}")

    def _settle_doubts(self, truth_began: float) -> None:
        """A doubt is confirmed by a list that began after the view was read and still says the same."""
        for vm, (at, known, what) in list(self._doubts.items()):
            if truth_began > at:
                del self._doubts[vm]
                if self._truth.domains.get(vm) == known:
                    self.wrong.append(what)


def process(pid: int) -> tuple[int, float]:
    """Threads and memory in MiB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["Threads"]), int(fields["VmRSS"].split()[0]) / 1024


class LoopRounds(NamedTuple):
    """What the agent's metrics say of its event loop since its start."""

    over: float
    """Rounds that blocked it for longer than the limit, by the agent's own doing."""
    blocked_s_max: float
    starved_s: float


def loop_rounds(lab: Lab) -> LoopRounds:
    """Read the agent's metrics. Raises CheckFailed while it does not say where they are."""
    found = METRICS.search(lab.agent.said)
    if found is None:
        raise CheckFailed(f"the agent does not say where its metrics are: {lab.agent.said[-500:]}")
    text = httpx.get(f"{found[1]}/metrics", timeout=5.0).raise_for_status().text
    values = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    below = values[f"{BLOCKED}_bucket", str(BLOCKED_LIMIT_S)]
    return LoopRounds(
        values[f"{BLOCKED}_count", None] - below,
        values[f"{BLOCKED}_max", None],
        values["vmpulse_agent_loop_starved_seconds_total", None],
    )


def steadily(action: Callable[[], object], times: int, seconds: float) -> None:
    """Do something so many times, spread evenly over so many seconds, however long each takes."""
    began = time.monotonic()
    for number in range(times):
        time.sleep(max(0.0, began + number * seconds / times - time.monotonic()))
        action()
