"""Prometheus: the same values as text, scraped with gzip.

What frames tell is scraped every 3 s; info and status of a VM stand in labels there, as exporters do it. Devices are a
page of their own, scraped every 5 minutes, as often as vmpulse tells of them. Lists of applications have no place.
"""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from benches.wire.peers.http_wire import HttpClient, HttpHost, Reply
from benches.wire.peers.peer import Held
from vmpulse_contract.identity import vm_text
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from benches.wire.ages import Ages
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import Known, PolledHost, World

CYCLE_S: Final = 3.0
DEVICES_S: Final = 300.0
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
METRICS: Final = "/metrics"
DEVICES: Final = "/devices"

Sample: TypeAlias = tuple[str, float]
"""Labels beside the VM's, and a value."""
Metrics: TypeAlias = "dict[str, Callable[[Known], Iterator[Sample]]]"
"""What gives the samples of a VM, by the metric's name."""


def text_of(host: PolledHost, metrics: Metrics) -> str:
    """The page of a host in Prometheus' text format."""
    lines = []
    for name, samples in metrics.items():
        lines += [
            f"# HELP {name} {name.replace('_', ' ')}",
            f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}",
        ]
        for vm, known in host.known.items():
            lines += [f'{name}{{vm="{vm_text(vm)}"{labels}}} {value:.12g}' for labels, value in samples(known)]
    return "\n".join(lines) + "\n"


def _status(known: Known) -> Iterator[Sample]:
    yield "", known.domain.life.status if known.domain.life else VmStatus.DOWN


def _cpu_user(known: Known) -> Iterator[Sample]:
    if known.row.cpu_user is not None:
        yield "", known.row.cpu_user / 10


def _cpu_sys(known: Known) -> Iterator[Sample]:
    if known.row.cpu_sys is not None:
        yield "", known.row.cpu_sys / 10


def _mem_usage(known: Known) -> Iterator[Sample]:
    if known.row.mem_usage is not None:
        yield "", known.row.mem_usage


def _elapsed(known: Known) -> Iterator[Sample]:
    if known.row.elapsed_ms is not None:
        yield "", known.row.elapsed_ms // 1000


def _info(known: Known) -> Iterator[Sample]:
    domain = known.domain
    display = "qxl" if domain.spice else "vnc"
    yield f',name="{domain.name}",type="kvm",display="{display}",cdrom="{domain.cdrom or ""}"', 1


def _guest(known: Known) -> Iterator[Sample]:
    guest, addresses = known.domain.guest, " ".join(known.domain.guest.addresses() or ())
    if known.domain.life:
        who = f',user="{guest.username or ""}",session="{guest.session}",client="{guest.client_ip or ""}"'
        yield f'{who},ips="{addresses}"', 1


def _disk(field: str) -> Callable[[Known], Iterator[Sample]]:
    def samples(known: Known) -> Iterator[Sample]:
        for one in known.devices.disks if known.devices else ():
            yield f',disk="{one.name}"', float(getattr(one, field) or 0)

    return samples


def _card(field: str) -> Callable[[Known], Iterator[Sample]]:
    def samples(known: Known) -> Iterator[Sample]:
        for nic in known.devices.network if known.devices else ():
            yield f',card="{nic.name}"', float(getattr(nic, field) or 0)

    return samples


def _memory(field: str) -> Callable[[Known], Iterator[Sample]]:
    def samples(known: Known) -> Iterator[Sample]:
        if known.devices and known.devices.memory:
            yield "", float(getattr(known.devices.memory, field) or 0)

    return samples


RUNTIME: Final[Metrics] = {
    "vm_status": _status,
    "vm_cpu_user_percent": _cpu_user,
    "vm_cpu_sys_percent": _cpu_sys,
    "vm_memory_usage_percent": _mem_usage,
    "vm_elapsed_seconds": _elapsed,
    "vm_info": _info,
    "vm_guest": _guest,
}
DISK_FIELDS: Final = ("read_ops", "write_ops", "read_bytes", "written_bytes", "read_time_ns", "write_time_ns")
CARD_FIELDS: Final = ("rx", "tx", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
OF_DEVICES: Final[Metrics] = {
    **{f"vm_disk_{field}_total": _disk(field) for field in DISK_FIELDS},
    **{f"vm_card_{field}_total": _card(field) for field in CARD_FIELDS},
    **{f"vm_memory_{field}_kib": _memory(field) for field in ("total", "unused", "usable")},
}


class Exported:
    """One host's exporter and the connection of who scrapes it.

    Args:
        host: of the fleet.
        relays: count.
    """

    def __init__(self, host: PolledHost, relays: Relays) -> None:
        self.host = host
        self.messages = 0
        self.cpu_s = 0.0
        self._server = HttpHost(self._answer)
        self._client = HttpClient(relays.to(self._server.port))

    def scrape(self, page: str) -> list[Metric]:
        """Read a page."""
        began = time.thread_time()
        text = gzip.decompress(self._client.get(page)).decode()
        found = list(text_string_to_metric_families(text))
        self.cpu_s += time.thread_time() - began
        self.messages += 2
        return found

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._server.close()

    def _answer(self, page: str, _: bytes) -> Reply:
        if page == METRICS:
            self.host.sample()
        return Reply(CONTENT_TYPE, text_of(self.host, RUNTIME if page == METRICS else OF_DEVICES).encode())


class Prometheus:
    """Who scrapes.

    Args:
        ages: of what it holds.
    """

    cycle_s = CYCLE_S
    sample_s: float | None = None

    def __init__(self, ages: Ages) -> None:
        self._ages = ages
        self._hosts: list[tuple[Exported, Held]] = []

    def connect(self, world: World, relays: Relays) -> None:
        """Connect to all hosts that are asked."""
        self._world = world
        self._hosts = [(Exported(host, relays), Held(self._ages)) for host in world.hosts]

    def ask(self, cycle: int) -> None:
        """Scrape what is due."""
        for exported, held in self._hosts:
            exported.scrape(METRICS)
            held.replaced(exported.host, self._world.now)
            if cycle * CYCLE_S % DEVICES_S == 0:
                exported.scrape(DEVICES)

    def read(self) -> tuple[int, float]:
        """Messages and CPU seconds."""
        return sum(each.messages for each, _ in self._hosts), sum(each.cpu_s for each, _ in self._hosts)

    def close(self) -> None:
        """Hang up."""
        for exported, held in self._hosts:
            held.kept_until(self._world.now)
            exported.close()
