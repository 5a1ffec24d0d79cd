"""libvirt's events: registering for them, and what they mean to the port.

Callbacks run in libvirt's event thread. They turn their arguments into plain values and hand them over; everything else
happens in the event loop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import (
    BalloonChanged,
    HypervisorEvent,
    LifecycleChange,
    LifecycleEvent,
    SectionsStale,
)
from vmpulse_agent.libvirt_edge import clock_offset, endings
from vmpulse_agent.libvirt_edge.evidence import CLIENTS_MOST, Client, EvidenceBook, Role
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section, WatchdogEvent
from vmpulse_contract.values import PauseCode, WatchdogAction


class RawEvent(NamedTuple):
    """An event as plain values: its VIR_DOMAIN_EVENT_ID_* and what the callback got after the domain.

    ``wall_s``: when it was heard, by the host's clock.
    """

    kind: int
    vm: VmId
    details: tuple[Any, ...]
    wall_s: float = 0.0


OPTIONAL: Final = (
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG,
    libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
    libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
)
"""Beside LIFECYCLE, without which we cannot work.

DEVICE_REMOVAL_FAILED is not among them: the device is still there, and nothing that we tell has changed.
"""


def register(connection: libvirt.virConnect, deliver: Callable[[RawEvent], None]) -> list[int]:
    """Register for all events that the driver offers; give the registrations. Raises libvirtError without lifecycle."""

    def callback(kind: int) -> Callable[..., None]:
        def deliver_plain(_: libvirt.virConnect, domain: libvirt.virDomain, *details: Any) -> None:
            # The last one is the opaque value of the registration.
            deliver(RawEvent(kind, VmId(domain.UUID()), details[:-1], time.time()))

        return deliver_plain

    lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    ids = [connection.domainEventRegisterAny(None, lifecycle, callback(lifecycle), None)]
    for kind in OPTIONAL:
        with contextlib.suppress(libvirt.libvirtError):
            ids.append(connection.domainEventRegisterAny(None, kind, callback(kind), None))
    return ids


def translate(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """Take note of an event in the evidence, and say what it means to the port."""
    meaning = _MEANINGS.get(event.kind)
    try:
        return [] if meaning is None else meaning(event, book)
    except (IndexError, TypeError, ValueError, AttributeError, KeyError):
        # A newer libvirt may hand over other shapes; one event that we cannot read is not worth the stream.
        return []


def _stale(vm: VmId, *sections: Section) -> list[HypervisorEvent]:
    return [SectionsStale(vm, frozenset(sections))]


# --- lifecycle ------------------------------------------------------------------------------------------------------

_CHANGES: Final = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: LifecycleChange.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: LifecycleChange.UNDEFINED,
    libvirt.VIR_DOMAIN_EVENT_STARTED: LifecycleChange.STARTED,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: LifecycleChange.SUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: LifecycleChange.RESUMED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: LifecycleChange.STOPPED,
}
_SECTIONS_OF_CHANGE: Final = {
    LifecycleChange.DEFINED: frozenset({Section.CONFIG, Section.INFO}),
    LifecycleChange.SUSPENDED: frozenset({Section.STATUS}),
    LifecycleChange.RESUMED: frozenset({Section.STATUS}),
}
"""A start or an end needs no such word: the next look finds another token, and everything is read again."""
_WOKEN: Final = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
"""A guest that slept (ACPI S3) goes on: no new life, although libvirt calls it started."""
_STARTED_AS: Final = {
    libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED: Role.NONE,
    libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: Role.DESTINATION,
    libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED: Role.RESTORING,
}


def _lifecycle(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    kind, detail = event.details
    change = _CHANGES.get(kind, LifecycleChange.OTHER)
    if (kind, detail) == _WOKEN:
        change = LifecycleChange.RESUMED
    said = endings.announced(detail, book.of(event.vm)) if change is LifecycleChange.STOPPED else None
    _note_lifecycle(event.vm, change, detail, book)
    if (kind, detail) == (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST):
        book.about(event.vm).ended_by_host = True
    elif (kind, detail) == (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED):
        book.about(event.vm).postcopy_failed = True
    happened: list[HypervisorEvent] = [LifecycleEvent(event.vm, change, said)]
    sections = _SECTIONS_OF_CHANGE.get(change)
    return [*happened, SectionsStale(event.vm, sections)] if sections else happened


def _note_lifecycle(vm: VmId, change: LifecycleChange, detail: int, book: EvidenceBook) -> None:
    # A running domain that is undefined runs on; one that is gone is forgotten by the next look.
    if change in {LifecycleChange.STARTED, LifecycleChange.STOPPED}:
        book.begin(vm)
    if change is LifecycleChange.STARTED:
        book.about(vm).role = _STARTED_AS.get(detail)
    elif change is LifecycleChange.SUSPENDED:
        _note_suspended(vm, detail, book)
    elif change is LifecycleChange.RESUMED:
        evidence = book.about(vm)
        evidence.role = evidence.pause_code = None
        evidence.ended_by_host = evidence.postcopy_failed = False


def _note_suspended(vm: VmId, detail: int, book: EvidenceBook) -> None:
    if detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_RESTORED:
        book.about(vm).role = Role.NONE
    elif detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED:
        book.about(vm).postcopy_failed = True
    elif detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED and book.of(vm).role in {None, Role.NONE}:
        # Only a source is paused by its migration; its first iteration may have gone before we listened.
        book.about(vm).role = Role.SOURCE


# --- the others -----------------------------------------------------------------------------------------------------


def _reboot(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """The same process goes on: no new life, but worth a look, and the guest's own facts are old.

    Only a guest whose agent was there can say that it is back; of others a reboot in progress is not told, for nothing
    would end it. One reboot may be announced twice: by the machine and by its BIOS.
    """
    evidence = book.about(event.vm)
    if evidence.agent_came:
        evidence.agent_came, evidence.rebooting = False, True
    evidence.reported = None
    return [LifecycleEvent(event.vm, LifecycleChange.OTHER), *_stale(event.vm, Section.STATUS, Section.GUEST_DETAILS)]


def _rtc_change(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """A guest may write its clock once a second: what would not be told anew is not worth a reading."""
    evidence = book.about(event.vm)
    evidence.clock_offset = int(event.details[0])
    told = evidence.told_offset
    unchanged = told is not None and clock_offset.steady(told, evidence.clock_offset) == told
    return [] if unchanged else _stale(event.vm, Section.STATUS)


_ACTIONS: Final = {
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_NONE: WatchdogAction.NONE,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_PAUSE: WatchdogAction.PAUSE,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_RESET: WatchdogAction.RESET,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF: WatchdogAction.POWEROFF,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN: WatchdogAction.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_DEBUG: WatchdogAction.DEBUG,
    libvirt.VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI: WatchdogAction.INJECT_NMI,
}


def _watchdog(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    action = _ACTIONS.get(event.details[0], WatchdogAction.UNKNOWN)
    book.about(event.vm).watchdog = WatchdogEvent(time=int(event.wall_s), action=action)
    return _stale(event.vm, Section.STATUS)


def _graphics(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """A client counts from INITIALIZE on, when it is let in; of several, the last that is still there."""
    phase, _, remote = event.details[:3]
    address = clean(remote.get("node"))
    if address is None:
        return []  # by a local socket: nobody's address
    client = Client(address, clean(remote.get("service")))
    evidence = book.about(event.vm)
    before, others = evidence.client_ip, tuple(other for other in evidence.clients if other != client)
    if phase == libvirt.VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE:
        evidence.clients = (*others, client)[-CLIENTS_MOST:]
    elif phase == libvirt.VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT:
        evidence.clients = others
    return [] if evidence.client_ip == before else _stale(event.vm, Section.STATUS)


def _io_error(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    _, _, action, reason = event.details
    if action != libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
        return []
    book.about(event.vm).pause_code = io_error_code(reason)
    return _stale(event.vm, Section.STATUS)


def io_error_code(reason: str) -> PauseCode:
    """Libvirt's reasons are "enospc", or "" for any other error (and "eio", "eperm" of some older builds)."""
    code = PauseCode(reason.upper())
    return PauseCode.EOTHER if code is PauseCode.UNKNOWN else code


def _agent(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """Whether it is connected now stands in the XML, which is read for these sections anyway; it ends a reboot."""
    stale = _stale(event.vm, Section.STATUS, Section.GUEST_DETAILS)
    if event.details[0] != libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
        return stale
    evidence = book.about(event.vm)
    rebooted, evidence.agent_came, evidence.rebooting = evidence.rebooting, True, False
    return [LifecycleEvent(event.vm, LifecycleChange.OTHER), *stale] if rebooted else stale


def asks_role(event: RawEvent, book: EvidenceBook) -> bool:
    """Whether the domain's job has to be asked for now (see reading.role).

    Each pass over a guest's memory is announced as a migration's iteration: of a migration's source, which plainly runs
    all the while, but also of a save, a dump and a snapshot. The end of such a job is announced only if it went well.
    """
    known = book.of(event.vm).role
    if event.kind == libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION:
        return known in {None, Role.NONE}
    return event.kind == libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED and known in {Role.SOURCE, Role.SAVING}


def _devices(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    """A device that is plugged live and into the definition is announced between the two (libvirt 9, qemu driver)."""
    return [SectionsStale(event.vm, frozenset({Section.INFO, Section.CONFIG}), settling=True)]


def _media(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    return _stale(event.vm, Section.INFO)


def _balloon(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    """No section holds the balloon's size (config leaves currentMemory out): it belongs to the device statistics."""
    return [BalloonChanged(event.vm, int(event.details[0]))]


def _metadata(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    return _stale(event.vm, Section.CONFIG)


_MEANINGS: Final[dict[int, Callable[[RawEvent, EvidenceBook], list[HypervisorEvent]]]] = {
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: _lifecycle,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: _reboot,
    libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE: _rtc_change,
    libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG: _watchdog,
    libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS: _graphics,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: _io_error,
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: _media,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE: _media,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: _agent,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: _devices,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: _devices,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: _metadata,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE: _balloon,
}
DEVICE_EVENTS: Final = frozenset(kind for kind, meaning in _MEANINGS.items() if meaning in {_devices, _media})
"""Events after which what is known of a domain's devices is old."""
