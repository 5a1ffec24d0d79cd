"""The engine of 2013 and VDSM over XML-RPC: a light list in each cycle, and in every fifth all statistics.

In every fifth cycle it asks for all VMs' statistics and the host's own, and then once for the full definitions of all
VMs whose devices' hash is not the one that it knows (ovirt-engine of April 2013, VdsUpdateRunTimeInfo). The fake of
that time drew a new hash for each answer, so that every VM had changed each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from benches.wire.ages import Ages
from benches.wire.peers import definitions, entries
from benches.wire.peers.calls import Station, XmlCodec
from benches.wire.peers.peer import Held
from vmpulse_contract.identity import vm_text
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import Known, PolledHost, World

EVERY: Final = 5
"""Each fifth cycle asks for statistics (engine: NumberVmRefreshesBeforeSave)."""
SAMPLE_S: Final = 15.0
"""VDSM samples so often, however often it is asked (vm_sample_interval)."""
CYCLE_S: Final = 3.0
CAPTURED_CYCLE_S: Final = 5.09
"""What the cycles of the seed's capture come to: 13,560 rounds of statistics of 250 hosts in 23 minutes."""
CAPTURED_VMS: Final = 12
"""VMs of each host in the seed's capture, by its bytes: 510 MiB in 13,560 replies are 39 kB each."""
DONE: Final = {"message": "Done", "code": 0}


class Recipe(Struct, frozen=True):
    """What distinguishes the engines over XML-RPC.

    - ``cycle_s``: between two questions; ``vms``: so many of each host are told of; None: all.
    - ``today``: entries and lists of today instead of 2013's; ``fake``: the fake's library, hashes and definitions.
    """

    cycle_s: float = CYCLE_S
    vms: int | None = None
    today: bool = False
    fake: bool = False


class XmlRpcEngine:
    """An engine that asks by XML-RPC.

    Args:
        recipe: which one.
        ages: of what it holds.
    """

    sample_s: float | None = SAMPLE_S

    def __init__(self, recipe: Recipe, ages: Ages) -> None:
        self.cycle_s = recipe.cycle_s
        self._recipe = recipe
        self._ages = ages
        self._hosts: list[Polled] = []

    def connect(self, world: World, relays: Relays) -> None:
        """Connect to all hosts that are asked."""
        self._world = world
        hashes: dict[str, str] = {}
        self._hosts = [
            Polled(host, world, self._recipe, relays, hashes=hashes, held=Held(self._ages)) for host in world.hosts
        ]

    def ask(self, cycle: int) -> None:
        """A light list, or everything."""
        for host in self._hosts:
            if cycle % EVERY:
                host.station.call("list")
            else:
                host.ask_all()

    def read(self) -> tuple[int, float]:
        """Messages and CPU seconds."""
        return sum(host.station.messages for host in self._hosts), sum(host.station.cpu_s for host in self._hosts)

    def close(self) -> None:
        """Hang up."""
        for host in self._hosts:
            host.held.kept_until(self._world.now)
            host.station.close()


class Polled:
    """One host, and what the engine knows of it.

    Args:
        host: of the fleet.
        world: tells the time.
        recipe: how it is asked.
        relays: count.
        hashes: what the engine's database has of all VMs.
        held: how old the values get.
    """

    def __init__(
        self,
        host: PolledHost,
        world: World,
        recipe: Recipe,
        relays: Relays,
        *,
        hashes: dict[str, str],
        held: Held,
    ) -> None:
        self.held = held
        self._host = host
        self._world = world
        self._recipe = recipe
        self._hashes = hashes
        self._lots = Lots("hashes", str(host.hypervisor.host))
        verbs = {"list": self._list, "getAllVmStats": self._all_vm_stats, "getVdsStats": self._host_stats}
        self.station = Station(verbs, XmlCodec(compact=recipe.fake), relays)

    # --- the engine ---------------------------------------------------------------------------------------------

    def ask_all(self) -> list[dict[str, Any]]:
        """All statistics, and the definitions of what has changed; gives the entries."""
        told: list[dict[str, Any]] = self.station.call("getAllVmStats")["statsList"]
        self.held.replaced(self._host, self._world.now)
        self.station.call("getVdsStats")
        changed = [entry["vmId"] for entry in told if "hash" in entry and self._is_new(entry["vmId"], entry["hash"])]
        if changed:
            self.station.call("list", True, changed)
        return told

    def _is_new(self, vm: str, its_hash: str) -> bool:
        """What its database does not have is not new: the engine has known the VM for long, wherever it was."""
        known = self._hashes.setdefault(vm, its_hash)
        self._hashes[vm] = its_hash
        return self._recipe.fake or known != its_hash

    # --- the host -----------------------------------------------------------------------------------------------

    def _told(self) -> list[Known]:
        return list(self._host.known.values())[: self._recipe.vms]

    def _all_vm_stats(self) -> dict[str, Any]:
        return {"status": DONE, "statsList": [self._entry(known) for known in self._told()]}

    def _entry(self, known: Known) -> entries.Entry:
        if self._recipe.today:
            return entries.typical(known, self._world.now)
        its_hash = str(self._lots.bits()) if self._recipe.fake else entries.device_hash(known.domain)
        return entries.early(known, self._world.now, its_hash)

    def _host_stats(self) -> dict[str, Any]:
        return {"status": DONE, "info": definitions.host_stats(self._host.hypervisor, self._world.now)}

    def _list(self, full: bool = False, vms: list[str] | None = None) -> dict[str, Any]:  # noqa: FBT001, FBT002 - VDSM's arguments
        if not full:
            return {"status": DONE, "vmList": [self._light(known) for known in self._told()]}
        wanted, describe = set(vms or ()), definitions.plain if self._recipe.fake else definitions.full
        told = [known.domain for known in self._told() if vm_text(known.domain.vm) in wanted]
        return {"status": DONE, "vmList": [describe(domain) for domain in told]}

    def _light(self, known: Known) -> entries.Entry:
        life = known.domain.life
        light = {"vmId": vm_text(known.domain.vm), "status": "Down" if life is None else life.status.label}
        return light | ({"statusTime": str(int(self._world.now * 1000))} if self._recipe.today else {})
