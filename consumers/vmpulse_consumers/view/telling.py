"""What the view tells of VMs: the difference between what it says now and what it has told before.

A subscriber sees, for each VM, some of its true states, in order (promise V8). While the picture is being built up
after a start nothing is told of VMs, for meeting them is no change of theirs: ``begin`` ends that with a RelistEvent.
A VM that was just listed is told with its first frame, which says what it does; until then nobody knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.view.events import (
    Event,
    RelistEvent,
    VmAppeared,
    VmGone,
    VmMigrated,
    VmSectionHeld,
    VmStatusChanged,
)
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.names import name_in
from vmpulse_consumers.view.runtime import UNKNOWN_8
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.runtime import Runtime


class Telling:
    """Collects events.

    Args:
        runtime: where the statuses stand.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.events: list[Event] = []
        self.begun = False
        self._runtime = runtime

    def begin(self, vms: Iterable[Vm], now: float) -> None:
        """From now on VMs are told of; what is known of them by now is for subscribers to read."""
        self.begun = True
        for vm in vms:
            status = self._status(vm, now)
            if status is not None:
                # In transit a VM has no sections to read, so that they are told when it is somewhere.
                vm.told_host, vm.told_status, vm.told_sections = _place(vm), status, vm.owner
        self.events.append(RelistEvent("the view has built up its picture; what happened before was not told"))

    def drain(self) -> list[Event]:
        """Hand out what is to be told, in order."""
        events, self.events = self.events, []
        return events

    # --- VMs ----------------------------------------------------------------------------------------------------

    def vm(self, vm: Vm, now: float) -> None:
        """Tell what has become of a VM, if anything has."""
        if not self.begun or (status := self._status(vm, now)) is None:
            return
        host, name = _place(vm), _name(vm)
        was_host, was = vm.told_host, vm.told_status
        vm.told_host, vm.told_status = host, status
        if was_host is None:
            self.events.append(VmAppeared(vm.id, host.id, status, name))
        else:
            if host is not was_host:
                self.events.append(VmMigrated(vm.id, host.id, was_host.id, name))
            if status is not was:
                end = vm.end if status is VmStatus.DOWN else None
                self.events.append(VmStatusChanged(vm.id, host.id, status, was, name, end))
        if host is vm.owner and vm.told_sections is not host:
            vm.told_sections = host
            self._sections(vm, host, name)

    def section(self, vm: Vm, host: Host, section: Section) -> None:
        """Tell of a section of a VM whose content has changed on *host*.

        What counts is the host that subscribers know: the owner may be about to be told, or about to change back.
        """
        if vm.told_host is host:
            self._section(vm, host, section, _name(vm))

    def gone(self, vm: Vm, host: Host) -> None:
        """Tell that *host*, the last one, no longer lists the VM."""
        if vm.told_host is not None:
            self.events.append(VmGone(vm.id, host.id, vm.end))

    def relist(self, reason: str) -> None:
        """Tell subscribers to read everything anew, if they were told of VMs at all."""
        if self.begun:
            self.events.append(RelistEvent(reason))

    def _sections(self, vm: Vm, host: Host, name: str | None) -> None:
        for section in Section:
            self._section(vm, host, section, name)

    def _section(self, vm: Vm, host: Host, section: Section, name: str | None) -> None:
        row = host.index[vm.id]
        value = (host.announced if section is Section.CONFIG else host.held)[row * WIDTH + section]
        if value != ABSENT:
            self.events.append(VmSectionHeld(vm.id, host.id, section, value, host.body(row, section), name))

    def _status(self, vm: Vm, now: float) -> VmStatus | None:
        """What the view says of a VM's status now; None: it was listed and no frame has said yet what it does."""
        if vm.transit is not None:
            return vm.transit.status(now)
        host = vm.owner
        if host is None or not host.heard(now):
            return VmStatus.UNKNOWN
        code = int(self._runtime.status[host.block.start + host.index[vm.id]])
        return None if code == UNKNOWN_8 and host.frame_seq <= host.roster_as_of else VmStatus(code)


def _place(vm: Vm) -> Host:
    """The host that a VM is said to be on."""
    host = vm.transit.host if vm.transit is not None else vm.owner
    if host is None:
        # Unreachable: a VM that nobody owns and that is not in transit has left the view.
        msg = "a VM without claims is not in the view"
        raise KeyError(msg)
    return host


def _name(vm: Vm) -> str | None:
    if vm.transit is not None:
        return name_in(vm.transit.info)
    host = _place(vm)
    return name_in(host.bodies[host.index[vm.id] * WIDTH + Section.INFO])
