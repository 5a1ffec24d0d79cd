"""Real domains on a libvirt of one's own, to which something happens all the time. Everything here blocks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import uuid4

import libvirt

from tests.lab.private_libvirt import PrivateLibvirt
from vmpulse_contract.values import STATUS_LABELS, VmStatus
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from pathlib import Path

HOST: Final = "soak-host"
TITLE: Final = "title"
PAUSE: Final = "pause"
POWER: Final = "power"
VISIT: Final = "visit"
ACTS: Final = ((TITLE, 0.4), (PAUSE, 0.35), (POWER, 0.15), (VISIT, 0.1))
"""What happens how often. A start costs a second or two of CPU without KVM."""
VISITOR: Final = "visitor"
STATES: Final = {
    libvirt.VIR_DOMAIN_RUNNING: STATUS_LABELS[VmStatus.UP],
    libvirt.VIR_DOMAIN_PAUSED: STATUS_LABELS[VmStatus.PAUSED],
    libvirt.VIR_DOMAIN_SHUTOFF: STATUS_LABELS[VmStatus.DOWN],
}


class DomainTruth(NamedTuple):
    """What is true of one domain."""

    name: str
    status: str


class Domains:
    """Light domains under a private libvirtd, from ``start`` to ``stop``.

    Args:
        root: an empty folder with a short path, for libvirt.
        count: how many are there all the time; a visitor comes and goes, under another id each time.
        seed: decides what happens.
    """

    def __init__(self, root: Path, count: int, seed: int) -> None:
        self.hypervisor = PrivateLibvirt(root, HOST)
        self.happened: Counter[str] = Counter()
        self._count = count
        self._lots = Lots(seed, "domains")
        self._domains: list[libvirt.virDomain] = []
        self._visitor: libvirt.virDomain | None = None

    def start(self) -> None:
        """Start the daemon and the domains. Raises RuntimeError, TimeoutError or libvirtError if that cannot be."""
        self.hypervisor.start()
        connection = libvirt.open(self.hypervisor.uri)
        for number in range(self._count):
            domain = connection.defineXML(self.hypervisor.light_domain(f"soak-{number}"))
            domain.create()
            self._domains.append(domain)
        self._connection = connection

    def stop(self) -> None:
        """End everything."""
        self.hypervisor.stop()

    def act(self) -> None:
        """Let one thing happen. Raises libvirtError if libvirt will not."""
        act, domain = self._lots.weighted(ACTS), self._lots.choice(self._domains)
        self.happened[act] += 1
        match act:
            case "title":
                title = f"title {self.happened[TITLE]}"
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, title, None, None, _affected(domain))
            case "pause":
                self._pause(domain)
            case "power":
                if domain.isActive():
                    domain.destroy()
                else:
                    domain.create()
            case _:
                self._visit()

    def truth(self) -> dict[str, DomainTruth]:
        """What is true of each domain now, by id."""
        domains = self._connection.listAllDomains()
        return {each.UUIDString(): DomainTruth(each.name(), STATES[each.state()[0]]) for each in domains}

    def _pause(self, domain: libvirt.virDomain) -> None:
        state, _ = domain.state()
        if state == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()
        elif state == libvirt.VIR_DOMAIN_RUNNING:
            domain.suspend()

    def _visit(self) -> None:
        """Let the visitor come, or go and leave nothing."""
        if self._visitor is None:
            xml = self.hypervisor.light_domain(VISITOR, uuid=uuid4())
            self._visitor = self._connection.createXML(xml)
        else:
            self._visitor.destroy()
            self._visitor = None


def _affected(domain: libvirt.virDomain) -> int:
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
    return live | libvirt.VIR_DOMAIN_AFFECT_CONFIG
