"""What the view tells has happened, as values; how it is told is the business of ``vmpulse_consumers.events``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from vmpulse_consumers.view.states import HostState
    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_contract.sections import Section
    from vmpulse_contract.stream import Tombstone
    from vmpulse_contract.values import VmStatus


class HostEvent(NamedTuple):
    """A host has changed its state."""

    host: HostId
    state: HostState
    was: HostState


class Trouble(StrEnum):
    """What an operator has to look into; it changes nothing that the view says."""

    RIVALS = "rivals"
    CROWDED = "crowded"
    FLOODING = "flooding"
    FLOOD_OVER = "flood_over"


class HostTrouble(NamedTuple):
    """Something is wrong with a host's agent: two speak for it, or it says or has more than its budget allows.

    ``detail`` is a sentence.
    """

    host: HostId
    trouble: Trouble
    detail: str


class BrokerEvent(NamedTuple):
    """Our own sight of the broker is lost or back."""

    back: bool


class RelistEvent(NamedTuple):
    """From here on VM events are told; whoever listens reads everything once. ``reason`` is a sentence."""

    reason: str


class VmAppeared(NamedTuple):
    """A VM is in the view that was not. ``status``: as the view says it now."""

    vm: VmId
    host: HostId
    status: VmStatus
    name: str | None


class VmStatusChanged(NamedTuple):
    """What the view says of a VM's status has changed; to UNKNOWN where its host is no longer heard.

    ``end``: with DOWN, how its life ended, if that was seen.
    """

    vm: VmId
    host: HostId
    status: VmStatus
    was: VmStatus
    name: str | None
    end: Tombstone | None = None


class VmSectionHeld(NamedTuple):
    """A section of a VM has new content. ``body`` is None for config, which is never held."""

    vm: VmId
    host: HostId
    section: Section
    hash: int
    body: bytes | None
    name: str | None


class VmMigrated(NamedTuple):
    """Another host owns the VM now."""

    vm: VmId
    host: HostId
    was: HostId
    name: str | None


class VmSplitBrain(NamedTuple):
    """More than one host has said for long that it runs the VM, or this has ended (*begun* False).

    ``host``: the owner. ``hosts``: all that say now that they run it. ``was``: those that were told when it began.
    """

    vm: VmId
    host: HostId
    hosts: tuple[HostId, ...]
    begun: bool
    was: tuple[HostId, ...] = ()


class VmGone(NamedTuple):
    """No host lists the VM any more. ``host`` was the last; ``end`` is how its last life ended, if that was seen."""

    vm: VmId
    host: HostId
    end: Tombstone | None


VmEvent: TypeAlias = VmAppeared | VmStatusChanged | VmSectionHeld | VmMigrated | VmSplitBrain | VmGone
Event: TypeAlias = HostEvent | HostTrouble | BrokerEvent | RelistEvent | VmEvent
