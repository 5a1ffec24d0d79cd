"""The bulk calls: one for all domains, and what is made of it in the same thread.

Everything here blocks: for lanes only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import DeviceCounters
from vmpulse_agent.libvirt_edge import domain_xml, safe_xml, stats
from vmpulse_agent.libvirt_edge.domain_xml import DeviceFacts
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_agent.libvirt_edge.stats import Record
from vmpulse_agent.libvirt_edge.tokens import Life, Lives
from vmpulse_contract.identity import VmId

_ALL: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE
_ACTIVE: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
_NOTHING: Final = DeviceFacts({}, {}, balloon=False, balloon_min=0)


class Seen(NamedTuple):
    """One domain of a bulk call with its incarnation."""

    record: Record
    life: Life | None


def look(handles: Handles, groups: int, lives: Lives) -> list[Seen]:
    """Look at all domains, active and inactive. Raises libvirtError."""
    answer = handles.watch.getAllDomainStats(groups, _ALL | handles.nowait)
    return [_seen(_record(domain, given), lives) for domain, given in answer]


def _record(domain: libvirt.virDomain, given: dict[str, object]) -> Record:
    # None of these asks the daemon: they came with the answer.
    return Record(VmId(domain.UUID()), domain.ID(), domain.name(), given)


def _seen(record: Record, lives: Lives) -> Seen:
    if not record.active:
        return Seen(record, None)
    return Seen(record, lives.life(record.vm, record.domain_id, record.name, starting=record.starting))


class Devices:
    """Device counters of all active domains, and what their XML says of the devices, read once for each incarnation."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._facts: dict[tuple[VmId, int], DeviceFacts] = {}
        self._changes = 0

    def forget(self, vm: VmId) -> None:
        """The devices of a domain have changed. May be called while a sample is being taken."""
        self._changes += 1
        for key in [key for key in list(self._facts) if key[0] == vm]:
            self._facts.pop(key, None)

    def sample(self, handles: Handles, at: float) -> dict[VmId, DeviceCounters]:
        """Take the counters; *at* is now on the host's monotonic clock, seconds. Raises libvirtError."""
        answer = handles.detail.getAllDomainStats(handles.device_groups, _ACTIVE | handles.nowait)
        seen = [(_seen(_record(domain, given), self._lives), domain) for domain, given in answer]
        taken = {
            record.vm: stats.counters(record, life, self._facts_of(record, domain), at)
            for (record, life), domain in seen
            if life is not None
        }
        self._keep_only({(record.vm, record.domain_id) for (record, _), _ in seen})
        return taken

    def _facts_of(self, record: Record, domain: libvirt.virDomain) -> DeviceFacts:
        key, changes = (record.vm, record.domain_id), self._changes
        known = self._facts.get(key)
        if known is not None:
            return known
        try:
            found = domain_xml.device_facts(domain.XMLDesc(0))
        except (libvirt.libvirtError, safe_xml.XmlRefused):
            # It has just ended, or nobody can read it: the counters stand without.
            return _NOTHING
        if changes == self._changes:
            self._facts[key] = found
        return found

    def _keep_only(self, present: set[tuple[VmId, int]]) -> None:
        for key in [key for key in list(self._facts) if key not in present]:
            self._facts.pop(key, None)
