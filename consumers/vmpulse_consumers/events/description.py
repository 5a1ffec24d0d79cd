"""What an event of the view is called outside, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.events import (
    BrokerEvent,
    HostEvent,
    HostTrouble,
    RelistEvent,
    VmAppeared,
    VmGone,
    VmMigrated,
    VmSectionHeld,
    VmSplitBrain,
    VmStatusChanged,
)
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import limits, sections, topology
from vmpulse_contract.errors import MessageError
from vmpulse_contract.fleet import EventData, EventType
from vmpulse_contract.identity import VmId, vm_text

if TYPE_CHECKING:
    from vmpulse_consumers.view.events import Event, VmEvent
    from vmpulse_contract.fleet import CloudEvent
    from vmpulse_contract.identity import HostId
    from vmpulse_contract.sections import SectionBody
    from vmpulse_contract.stream import Tombstone

TYPE_OF_STATE: Final = {
    HostState.LIVE: EventType.HOST_LIVE,
    HostState.LATE: EventType.HOST_LATE,
    HostState.LOST: EventType.HOST_LOST,
    HostState.STOPPED: EventType.HOST_STOPPED,
    HostState.GONE: EventType.HOST_GONE,
}
"""The states of a host that are told; the others are the view's own affair."""
TYPE_OF_EVENT: Final[dict[type[object], EventType]] = {
    VmAppeared: EventType.VM_APPEARED,
    VmStatusChanged: EventType.VM_STATUS,
    VmSectionHeld: EventType.VM_SECTION,
    VmMigrated: EventType.VM_MIGRATED,
    VmGone: EventType.VM_GONE,
}
BROKER_LOST: Final = "the view does not hear its own canary; until it does, no host is judged by its silence"


class Description(NamedTuple):
    """A fleet event before it has a number.

    ``hosts`` and ``vm`` are what it can be filtered by: the host that it is about, of a migration the one before too,
    and of a split brain all that run the VM.
    """

    type: EventType
    subject: str
    data: EventData
    hosts: tuple[HostId, ...] = ()
    vm: VmId | None = None


def describe(event: Event, view: str) -> Description | None:
    """Describe an event of the view named *view*; None: nobody is told."""
    match event:
        case HostEvent():
            return _of_host(event)
        case BrokerEvent(back=True):
            return Description(EventType.BROKER_BACK, view, EventData())
        case BrokerEvent():
            return Description(EventType.BROKER_LOST, view, EventData(reason=BROKER_LOST))
        case RelistEvent():
            return Description(EventType.FLEET_RELIST, view, EventData(reason=event.reason))
        case HostTrouble():
            return None  # an operator's business: the log has it
        case _:
            return _of_vm(event)


def _of_host(event: HostEvent) -> Description | None:
    kind = TYPE_OF_STATE.get(event.state)
    if kind is None:
        return None
    data = EventData(host=event.host, state=event.state, previous_state=event.was)
    return Description(kind, event.host, data, (event.host,))


def _of_split_brain(event: VmSplitBrain) -> Description:
    kind = EventType.VM_SPLIT_BRAIN if event.begun else EventType.VM_SPLIT_BRAIN_OVER
    vm = vm_text(event.vm)
    hosts = tuple(dict.fromkeys((event.host, *event.hosts, *event.was)))
    return Description(kind, vm, EventData(vm=vm, host=event.host, hosts=event.hosts), hosts, event.vm)


def _of_vm(event: VmEvent) -> Description:
    if isinstance(event, VmSplitBrain):
        return _of_split_brain(event)
    data = _data(event, vm_text(event.vm))
    hosts = (event.host, event.was) if isinstance(event, VmMigrated) else (event.host,)
    return Description(TYPE_OF_EVENT[type(event)], vm_text(event.vm), data, hosts, event.vm)


def _data(event: VmAppeared | VmStatusChanged | VmSectionHeld | VmMigrated | VmGone, vm: str) -> EventData:
    match event:
        case VmAppeared(_, host, status, name):
            return EventData(vm=vm, name=name, host=host, status=status.label)
        case VmStatusChanged():
            return _of_status(event, vm)
        case VmSectionHeld():
            return _of_section(event, vm)
        case VmMigrated(_, host, was_on, name):
            return EventData(vm=vm, name=name, host=host, previous_host=was_on)
        case VmGone(_, host, end):
            code, reason = _exit(end)
            return EventData(vm=vm, host=host, exit_code=code, exit_reason=reason)


def _of_status(event: VmStatusChanged, vm: str) -> EventData:
    code, reason = _exit(event.end)
    return EventData(
        vm=vm,
        name=event.name,
        host=event.host,
        status=event.status.label,
        previous_status=event.was.label,
        exit_code=code,
        exit_reason=reason,
    )


def _of_section(event: VmSectionHeld, vm: str) -> EventData:
    return EventData(
        vm=vm,
        name=event.name,
        host=event.host,
        section=event.section.label,
        hash=f"{event.hash:016x}",
        content=_content(event),
    )


def _content(event: VmSectionHeld) -> SectionBody | None:
    if event.body is None or len(event.body) > limits.BODY_PUSH_BYTES.maximum:
        return None
    try:
        return sections.decode(event.section, event.body)
    except MessageError:
        # Unreachable: bodies are decoded once at the door. An event must not fail if that ever changes.
        return None


def _exit(end: Tombstone | None) -> tuple[str | None, str | None]:
    return (None, None) if end is None else (end.exit_code.name.lower(), end.exit_reason.name.lower())


def routing_key(view: str, event: CloudEvent) -> str:
    """Give the key under which an event of the view named *view* is published."""
    about = (word for word in (event.data.host, event.data.vm) if word is not None)
    return topology.event_key(view, event.type, *about)
