"""The seed's own proposal, pulled as it was written: runtime statistics every 3 s, the rest when a hash says so.

Each record carries four hashes of 16 digits. Where one differs from what the engine holds, the verb of that section is
asked, once for all VMs of the host that have changed; device statistics every 5 minutes. The configuration has a hash
but no verb among the five.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from benches.wire.peers import entries
from benches.wire.peers.calls import Station
from benches.wire.peers.peer import Held
from vmpulse_contract import sections
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.wire.ages import Ages
    from benches.wire.peers.calls import Codec
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import Known, PolledHost, World
    from vmpulse_contract.sections import SectionBody

CYCLE_S: Final = 3.0
DEVICES_S: Final = 300.0
VERBS: Final = {"info": "getConfInfo", "status": "getStatus", "guestDetails": "getGuestDetails"}


class SeedEngine:
    """An engine that pulls the five verbs.

    Args:
        codec: how.
        ages: of what it holds.
    """

    cycle_s = CYCLE_S
    sample_s: float | None = None

    def __init__(self, codec: Codec, ages: Ages) -> None:
        self._codec = codec
        self._ages = ages
        self._hosts: list[Pulled] = []

    def connect(self, world: World, relays: Relays) -> None:
        """Connect to all hosts that are asked."""
        self._world = world
        self._hosts = [Pulled(host, world, self._codec, Held(self._ages), relays) for host in world.hosts]

    def ask(self, cycle: int) -> None:
        """Pull what is due."""
        for host in self._hosts:
            host.pull()
            if cycle * CYCLE_S % DEVICES_S == 0:
                host.station.call("getAllDeviceStats")

    def read(self) -> tuple[int, float]:
        """Messages and CPU seconds."""
        return sum(host.station.messages for host in self._hosts), sum(host.station.cpu_s for host in self._hosts)

    def close(self) -> None:
        """Hang up."""
        for host in self._hosts:
            host.held.kept_until(self._world.now)
            host.station.close()


class Pulled:
    """One host, and what the engine holds of it.

    Args:
        host: of the fleet.
        world: tells the time.
        codec: how it is asked.
        held: how old the values get.
        relays: count.
    """

    def __init__(self, host: PolledHost, world: World, codec: Codec, held: Held, relays: Relays) -> None:
        self.held = held
        self._host = host
        self._world = world
        self._hashes: dict[tuple[str, str], str] = {}
        verbs: dict[str, Callable[..., Any]] = {
            "getAllRuntimeStats": self._runtime_stats,
            "getAllDeviceStats": self._device_stats,
            "getConfInfo": lambda vms: self._bodies(Section.INFO, vms),
            "getStatus": lambda vms: self._bodies(Section.STATUS, vms),
            "getGuestDetails": lambda vms: self._bodies(Section.GUEST_DETAILS, vms),
        }
        self.station = Station(verbs, codec, relays)

    # --- the engine ---------------------------------------------------------------------------------------------

    def pull(self) -> dict[str, dict[str, Any]]:
        """Runtime statistics, and the sections whose hash is not the one that is held; gives the records."""
        told: dict[str, dict[str, Any]] = self.station.call("getAllRuntimeStats")
        self.held.replaced(self._host, self._world.now)
        for section, verb in VERBS.items():
            changed = [vm for vm, record in told.items() if self._is_new(vm, section, record["hashes"].get(section))]
            if changed:
                self.station.call(verb, changed)
        return told

    def _is_new(self, vm: str, section: str, its_hash: str | None) -> bool:
        known = self._hashes.get((vm, section))
        if its_hash is None or known == its_hash:
            return False
        self._hashes[vm, section] = its_hash
        return True

    # --- the host -----------------------------------------------------------------------------------------------

    def _runtime_stats(self) -> dict[str, Any]:
        self._host.sample()
        return {vm_text(vm): self._record(known) for vm, known in self._host.known.items()}

    def _record(self, known: Known) -> dict[str, Any]:
        row, life = known.row, known.domain.life
        status = {"status": "Down" if life is None else life.status.label}
        values = (
            status
            if life is None
            else status
            | {
                "cpuUser": entries.percent(row.cpu_user),
                "cpuSys": entries.percent(row.cpu_sys),
                "memUsage": str(row.mem_usage or 0),
                "elapsedTime": str(int(self._world.now - life.started)),
                "statsAge": f"{self._world.now - row.sampled_at:.2f}",
            }
        )
        hashes = {section.label: its_hash for section in Section if (its_hash := _hash(known, section))}
        return {**values, "hashes": hashes}

    def _device_stats(self) -> dict[str, Any]:
        return {vm_text(vm): entries.devices(known) for vm, known in self._host.known.items() if known.devices}

    def _bodies(self, section: Section, vms: Sequence[str]) -> dict[str, Any]:
        wanted = set(vms)
        found = {vm_text(vm): _content(known, section) for vm, known in self._host.known.items()}
        return {vm: _plain(content) for vm, content in found.items() if vm in wanted and content is not None}


def _content(known: Known, section: Section) -> SectionBody | None:
    domain = known.domain
    match section:
        case Section.INFO:
            return domain.info()
        case Section.STATUS:
            return domain.status()
        case _:
            return domain.guest_details()


def _hash(known: Known, section: Section) -> str:
    """16 digits; empty where there is nothing to hash."""
    if section is Section.CONFIG:
        return f"{sections.section_hash(section, known.domain.config()):016x}"
    content = _content(known, section)
    return "" if content is None else f"{sections.section_hash(section, sections.encode(content)):016x}"


def _plain(content: SectionBody) -> dict[str, Any]:
    """As maps, lists and texts, without what is not known."""
    plain: dict[str, Any] = msgspec.to_builtins(content)
    return {name: _present(value) for name, value in plain.items() if value is not None}


def _present(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_present(each) for each in value]
    if isinstance(value, dict):
        return {name: _present(each) for name, each in value.items() if each is not None}
    return value
