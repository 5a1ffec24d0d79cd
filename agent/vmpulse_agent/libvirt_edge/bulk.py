"""The bulk calls: one for many domains, and what is made of it in the same thread.

Everything here blocks: for lanes only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import libvirt

from vmpulse_agent.hypervisor import DeviceCounters
from vmpulse_agent.libvirt_edge import domain_xml, safe_xml, stats
from vmpulse_agent.libvirt_edge.domain_xml import DeviceFacts
from vmpulse_agent.libvirt_edge.handles import Handles
from vmpulse_agent.libvirt_edge.stats import MONITOR_KEYS, Record
from vmpulse_agent.libvirt_edge.tokens import Life, Lives
from vmpulse_contract.identity import VmId

_STATE: Final = libvirt.VIR_DOMAIN_STATS_STATE
_ALL: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE
_ACTIVE: Final = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
_NOTHING: Final = DeviceFacts({}, {}, balloon=False, balloon_min=0, lengths={})

Answer: TypeAlias = list[tuple[libvirt.virDomain, dict[str, object]]]


class Seen(NamedTuple):
    """One domain of a bulk call with its incarnation."""

    record: Record
    life: Life | None


class Found(NamedTuple):
    """All domains with at least their state; ``asked`` are those whose monitors were asked as well.

    ``blocked``: domains whose processes do not look as if they would answer, where that was looked up. ``faults``:
    domains that are there, and whose records met an error in this program.
    """

    seen: dict[VmId, Seen]
    asked: frozenset[VmId]
    blocked: frozenset[VmId] = frozenset()
    faults: Mapping[VmId, Exception] = MappingProxyType({})


class Sampled(NamedTuple):
    """Device counters of active domains, of those in ``bare`` without what only their monitors give.

    ``faults`` as in Found.
    """

    counters: dict[VmId, DeviceCounters]
    bare: frozenset[VmId]
    faults: Mapping[VmId, Exception]


def look(connection: libvirt.virConnect, handles: Handles, lives: Lives, only: Collection[VmId] | None) -> Found:
    """Look at all domains, active and inactive, asking the monitors of *only* these; None: of all.

    Raises libvirtError.
    """
    if only is None:
        return _all_asked(connection.getAllDomainStats(handles.look_groups, _ALL | handles.nowait), lives)
    listed = connection.getAllDomainStats(_STATE, _ALL | handles.nowait)
    asked = _all_asked(_ask_some(connection, listed, handles.look_groups, handles.nowait, only), lives)
    found = _all_seen(listed, lives)
    return Found(found.seen | asked.seen, asked.asked, faults={**found.faults, **asked.faults})


def probe(connection: libvirt.virConnect, handles: Handles, lives: Lives, vm: VmId) -> Seen | None:
    """Ask one domain. It blocks for as long as the monitor hangs. Raises libvirtError."""
    domain = connection.lookupByUUID(vm)
    found = _all_seen(connection.domainListGetStats([domain], handles.look_groups, handles.nowait), lives)
    if vm in found.faults:
        raise found.faults[vm]
    return found.seen.get(vm)


def part(
    connection: libvirt.virConnect, handles: Handles, lives: Lives, known: Mapping[VmId, Life], until: float
) -> Found:
    """Ask *known* domains by themselves, without a list of all; those whose processes will hardly answer are left out.

    libvirt's lists wait for every domain's lock; that of one which hangs is held for some 10 s while it is destroyed.
    Nobody is asked after *until*, on time.monotonic(): a daemon that hung as a whole is being asked by others again.
    Raises libvirtError.
    """
    domains = []
    for vm in [vm for vm, life in known.items() if not lives.blocked(life)]:
        if time.monotonic() > until:
            return Found({}, frozenset())
        # It may have ended.
        with contextlib.suppress(libvirt.libvirtError):
            domains.append(connection.lookupByUUID(vm))
    return _all_asked(connection.domainListGetStats(domains, handles.look_groups, handles.nowait), lives)


def states(handles: Handles, lives: Lives) -> Found:
    """List all domains with their state, which takes no monitor. Raises libvirtError."""
    return _all_seen(handles.watch.getAllDomainStats(_STATE, _ALL | handles.nowait), lives)


def states_and_blocked(handles: Handles, lives: Lives) -> Found:
    """List as ``states`` does, with a word of the kernel on the processes. Raises libvirtError."""
    found = states(handles, lives)
    blocked = frozenset(vm for vm, (_, life) in found.seen.items() if life is not None and lives.blocked(life))
    return found._replace(blocked=blocked)


def longest_wait_ms(handles: Handles, only: Collection[VmId] | None) -> int:
    """For how long the slowest monitor of *only* these now has been busy with one command. It takes no monitor.

    Raises libvirtError.
    """
    listed = handles.watch.getAllDomainStats(_STATE, _ACTIVE | handles.nowait)
    return max((_waits_ms(domain) for domain, _ in listed if only is None or VmId(domain.UUID()) in only), default=0)


def _waits_ms(domain: libvirt.virDomain) -> int:
    try:
        state, _, since_ms = domain.controlInfo()
    except libvirt.libvirtError:
        # It has just ended, or this driver has no monitors.
        return 0
    # Of a domain with a migration or the like only the age of that job is known, which says nothing.
    return int(since_ms) if state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED else 0


def _ask_some(
    connection: libvirt.virConnect, listed: Answer, groups: int, nowait: int, only: Collection[VmId]
) -> Answer:
    wanted = [domain for domain, _ in listed if domain.ID() >= 0 and VmId(domain.UUID()) in only]
    return connection.domainListGetStats(wanted, groups, nowait) if wanted else []


def _all_asked(answer: Answer, lives: Lives) -> Found:
    found = _all_seen(answer, lives)
    return found._replace(asked=frozenset(found.seen))


def _all_seen(answer: Answer, lives: Lives) -> Found:
    """Make the records, each by itself: what is odd about one domain costs no other anything."""
    seen, faults = {}, {}
    for domain, given in answer:
        vm = VmId(domain.UUID())
        try:
            seen[vm] = _seen(_record(domain, given), lives)
        except Exception as error:  # noqa: BLE001 - whatever the data met, it is told of by who asked
            faults[vm] = error
    return Found(seen, frozenset(), faults=faults)


def _record(domain: libvirt.virDomain, given: dict[str, object]) -> Record:
    # None of these asks the daemon: they came with the answer.
    return Record(VmId(domain.UUID()), domain.ID(), domain.name(), given)


def _seen(record: Record, lives: Lives) -> Seen:
    if not record.active:
        return Seen(record, None)
    return Seen(record, lives.life(record.vm, record.domain_id, record.name, starting=record.starting))


class Devices:
    """Device counters of the active domains, and what their XML says of the devices, read once for each incarnation."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._facts: dict[tuple[VmId, int], DeviceFacts] = {}
        self._changes = 0

    def forget(self, vm: VmId) -> None:
        """The devices of a domain have changed. May be called while a sample is being taken."""
        self._changes += 1
        for key in [key for key in list(self._facts) if key[0] == vm]:
            self._facts.pop(key, None)

    def sample(
        self, connection: libvirt.virConnect, handles: Handles, moment: stats.Moment, only: Collection[VmId] | None
    ) -> Sampled:
        """Take the counters of *only* these domains; None: of all active ones. Raises libvirtError."""
        groups, nowait = handles.device_groups, handles.nowait
        if only is None:
            listed = answer = connection.getAllDomainStats(groups, _ACTIVE | nowait)
        else:
            listed = connection.getAllDomainStats(_STATE, _ACTIVE | nowait)
            answer = _ask_some(connection, listed, groups, nowait, only)
        found, domains = _all_seen(answer, self._lives), {VmId(domain.UUID()): domain for domain, _ in answer}
        counters, faults = {}, dict(found.faults)
        for vm, (record, life) in found.seen.items():
            try:
                if life is not None:
                    counters[vm] = stats.counters(record, life, self._facts_of(record, domains[vm]), moment)
            except Exception as error:  # noqa: BLE001 - as in _all_seen
                faults[vm] = error
        self._keep_only({(VmId(domain.UUID()), domain.ID()) for domain, _ in listed})
        bare = (vm for vm in counters if MONITOR_KEYS.isdisjoint(found.seen[vm].record.stats))
        return Sampled(counters, frozenset(bare), faults)

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
