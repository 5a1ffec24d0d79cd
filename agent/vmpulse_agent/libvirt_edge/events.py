"""libvirt's events: registering for them, and what they mean to the port.

Callbacks run in libvirt's event thread. They turn their arguments into plain values and hand them over; everything else
happens in the event loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import libvirt

from vmpulse_agent.hypervisor import Exit, HypervisorEvent, LifecycleChange, LifecycleEvent, SectionsStale
from vmpulse_agent.libvirt_edge.evidence import Evidence, EvidenceBook, Role
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode


class RawEvent(NamedTuple):
    """An event as plain values: its VIR_DOMAIN_EVENT_ID_* and what the callback got after the domain."""

    kind: int
    vm: VmId
    details: tuple[Any, ...]


OPTIONAL: Final = (
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE,
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
)
"""Beside LIFECYCLE, without which we cannot work.

BALLOON_CHANGE is not among them: no section holds the balloon's size (config leaves currentMemory out), and a guest
could wake us with it once a second.
"""


def register(connection: libvirt.virConnect, deliver: Callable[[RawEvent], None]) -> list[int]:
    """Register for all events that the driver offers; give the registrations. Raises libvirtError without lifecycle."""

    def callback(kind: int) -> Callable[..., None]:
        def deliver_plain(_: libvirt.virConnect, domain: libvirt.virDomain, *details: Any) -> None:
            # The last one is the opaque value of the registration.
            deliver(RawEvent(kind, VmId(domain.UUID()), details[:-1]))

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
_EXITS: Final = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN),
    # Crashed or failed: the state remembers both as CRASHED, and must say the same.
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: Exit(ExitCode.NORMAL, ExitReason.SAVE_STATE_SUCCEEDED),
    # "Host emulator/mgmt failed": what a killed QEMU gives. A failed start gives no STOPPED at all.
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION),
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: Exit(ExitCode.NORMAL, ExitReason.SUCCESS),
}
_SECTIONS_OF_CHANGE: Final = {
    LifecycleChange.DEFINED: frozenset({Section.CONFIG, Section.INFO}),
    LifecycleChange.SUSPENDED: frozenset({Section.STATUS}),
    LifecycleChange.RESUMED: frozenset({Section.STATUS}),
}
"""A start or an end needs no such word: the next look finds another token, and everything is read again."""


def _lifecycle(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    kind, detail = event.details
    change = _CHANGES.get(kind, LifecycleChange.OTHER)
    _note_lifecycle(event.vm, change, detail, book)
    said = _EXITS.get(detail) if change is LifecycleChange.STOPPED else None
    happened: list[HypervisorEvent] = [LifecycleEvent(event.vm, change, said)]
    sections = _SECTIONS_OF_CHANGE.get(change)
    return [*happened, SectionsStale(event.vm, sections)] if sections else happened


def _note_lifecycle(vm: VmId, change: LifecycleChange, detail: int, book: EvidenceBook) -> None:
    if change in {LifecycleChange.STARTED, LifecycleChange.STOPPED, LifecycleChange.UNDEFINED}:
        book.begin(vm)
    if change is LifecycleChange.STARTED and detail == libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED:
        book.about(vm).role = Role.DESTINATION
    elif change is LifecycleChange.RESUMED:
        evidence = book.about(vm)
        evidence.role = evidence.pause_code = None


# --- the others -----------------------------------------------------------------------------------------------------


def _reboot(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    """The same process goes on: no new life, but worth a look, and the guest's own facts are old."""
    return [LifecycleEvent(event.vm, LifecycleChange.OTHER), *_stale(event.vm, Section.STATUS, Section.GUEST_DETAILS)]


def _rtc_change(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    book.about(event.vm).time_offset = int(event.details[0])
    return _stale(event.vm, Section.STATUS)


def _graphics(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """A client counts from INITIALIZE on, when it is let in; of several, the last; as in VDSM."""
    phase, _, remote = event.details[:3]
    address = clean(remote.get("node"))
    evidence = book.about(event.vm)
    if phase == libvirt.VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE:
        evidence.client_ip = address
    elif phase == libvirt.VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT and evidence.client_ip == address:
        evidence.client_ip = None
    else:
        return []
    return _stale(event.vm, Section.STATUS)


def _io_error(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    _, _, action, reason = event.details
    if action != libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
        return []
    book.about(event.vm).pause_code = io_error_code(reason)
    return _stale(event.vm, Section.STATUS)


def io_error_code(reason: str) -> PauseCode:
    """Libvirt's reasons are "enospc" (and "eio", "eperm" of older versions), or "" where it does not know."""
    code = PauseCode(reason.upper())
    return PauseCode.EOTHER if code is PauseCode.UNKNOWN else code


def _agent(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    """Whether it is connected now stands in the XML, which is read for these sections anyway."""
    return _stale(event.vm, Section.STATUS, Section.GUEST_DETAILS)


def _migration_iteration(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    """Only a source iterates over the guest's memory; it is running all the while, so nothing else tells."""
    evidence: Evidence = book.about(event.vm)
    if evidence.role is not None:
        return []
    evidence.role = Role.SOURCE
    return [LifecycleEvent(event.vm, LifecycleChange.OTHER)]


def _job_completed(event: RawEvent, book: EvidenceBook) -> list[HypervisorEvent]:
    if book.of(event.vm).role is not Role.SOURCE:
        return []
    book.about(event.vm).role = None
    return [LifecycleEvent(event.vm, LifecycleChange.OTHER)]


def _devices(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    return _stale(event.vm, Section.INFO, Section.CONFIG)


def _media(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    return _stale(event.vm, Section.INFO)


def _metadata(event: RawEvent, _: EvidenceBook) -> list[HypervisorEvent]:
    return _stale(event.vm, Section.CONFIG)


_MEANINGS: Final[dict[int, Callable[[RawEvent, EvidenceBook], list[HypervisorEvent]]]] = {
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: _lifecycle,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: _reboot,
    libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE: _rtc_change,
    libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS: _graphics,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: _io_error,
    libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: _media,
    libvirt.VIR_DOMAIN_EVENT_ID_DISK_CHANGE: _media,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: _agent,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: _devices,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: _devices,
    libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION: _migration_iteration,
    libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: _job_completed,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: _metadata,
}
DEVICE_EVENTS: Final = frozenset(kind for kind, meaning in _MEANINGS.items() if meaning in {_devices, _media})
"""Events after which what is known of a domain's devices is old."""
