"""An engine worker's picture of the fleet, kept from events alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmpulse_consumers.view import View
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
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.rows import vm_row
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import Section

if TYPE_CHECKING:
    from vmpulse_consumers.view import Vm
    from vmpulse_consumers.view.events import Event


class Known(NamedTuple):
    """What the subscriber knows of a VM. ``status``: its label."""

    host: HostId
    status: str


class SubscribedView(View):
    """A view with a subscriber who reads everything at the very moment at which it is told to.

    A later reading would already know some of what is told next; real ones take such repeats as they come.
    """

    def __init__(self, now: float, subscriber: Subscriber) -> None:
        super().__init__(now)
        self._subscriber = subscriber

    def tick(self, now: float) -> None:
        """Judge silence, as any view does."""
        begun = self._telling.begun
        super().tick(now)
        if self._telling.begun and not begun:
            self._subscriber.relist(self, now)


class Subscriber:
    """Follows a view's events, and holds that each follows from what was told before (promise V8)."""

    def __init__(self) -> None:
        self.vms: dict[VmId, Known] | None = None
        """None until it was told to relist."""
        self.relists = 0
        self.sections: dict[tuple[VmId, Section], int] = {}
        self.split: set[VmId] = set()
        """The VMs that several hosts run, as told."""

    def take(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case HostEvent() | HostTrouble() | BrokerEvent():
                return
            case RelistEvent():
                # From the second on, what is known stands: whoever reads anew finds the same.
                self.relists += 1
                return
        assert self.relists, f"{event} was told before there was anything to change"
        assert self.vms is not None
        match event:
            case VmAppeared():
                assert event.vm not in self.vms
                self.vms[event.vm] = Known(event.host, event.status.label)
            case VmMigrated():
                assert (self.vms[event.vm].host, event.host != event.was) == (event.was, True)
                self.vms[event.vm] = Known(event.host, self.vms[event.vm].status)
            case VmStatusChanged():
                assert self.vms[event.vm] == Known(event.host, event.was.label)
                assert event.status is not event.was
                self.vms[event.vm] = Known(event.host, event.status.label)
            case VmSectionHeld():
                assert self.vms[event.vm].host == event.host
                self.sections[event.vm, event.section] = event.hash
            case VmSplitBrain():
                assert (event.vm in self.split) is not event.begun
                (self.split.add if event.begun else self.split.discard)(event.vm)
            case VmGone():
                del self.vms[event.vm]
                self.split.discard(event.vm)
                self.sections = {key: value for key, value in self.sections.items() if key[0] != event.vm}

    def relist(self, view: View, now: float) -> None:
        """Read everything."""
        self.vms = {vm: known(view, view.vms[vm], now) for vm in view.vms if awaits_no_frame(view, view.vms[vm], now)}
        self.split = set(view.split)
        for vm in self.vms:
            owner = view.vms[vm].owner
            for section in Section if owner is not None else ():
                self.sections[vm, section] = shown_hash(view, vm, section)

    def assert_knows(self, view: View, now: float) -> None:
        """The subscriber knows what the view says, but for VMs whose first frame is still to come.

        That a host has been silent, or a VM in transit, for long is told by the next tick.
        """
        if self.vms is None:
            return
        for vm in view.vms.values():
            if awaits_no_frame(view, vm, now) and not awaits_a_tick(vm, now):
                assert self.vms[vm.id] == known(view, vm, now)
                for section in Section if vm.owner is not None else ():
                    if shown_hash(view, vm.id, section):
                        assert self.sections[vm.id, section] == shown_hash(view, vm.id, section)
        assert self.vms.keys() <= view.vms.keys()
        assert self.split == view.split.keys()


def known(view: View, vm: Vm, now: float) -> Known:
    """What a reader of the view finds."""
    row = vm_row(view, now, vm)
    return Known(HostId(row.host), row.status)


def awaits_no_frame(view: View, vm: Vm, now: float) -> bool:
    """Whether a frame of the roster that lists the VM was applied, or nobody waits for one."""
    host = vm.owner
    if host is None or not host.heard(now):
        return True
    at = host.block.start + host.index[vm.id]
    return int(view.runtime.status[at]) != 255 or host.frame_seq > host.roster_as_of


def awaits_a_tick(vm: Vm, now: float) -> bool:
    """Whether time alone has changed what is said of the VM, which is told with the next tick."""
    if vm.transit is not None:
        return vm.told_status is not vm.transit.status(now)
    return vm.owner is not None and vm.owner.told_heard is not vm.owner.heard(now)


def shown_hash(view: View, vm: VmId, section: Section) -> int:
    """The hash of what the view shows of a section: held, or for config announced."""
    host = view.vms[vm].owner
    assert host is not None
    hashes = host.announced if section is Section.CONFIG else host.held
    return hashes[host.index[vm] * WIDTH + section]
