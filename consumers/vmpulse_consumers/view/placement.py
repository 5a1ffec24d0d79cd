"""Which VMs there are and where, as rosters and frames say it; what changes is told.

The rules of whose word is believed are in ``ownership``; here they are applied to all VMs that a roster or frame names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.ownership import TRANSIT_FORGOTTEN_S, TRANSIT_S, Transit, Vm
from vmpulse_consumers.view.runtime import UNKNOWN_8
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitReason, VmStatus

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.runtime import Runtime
    from vmpulse_consumers.view.telling import Telling
    from vmpulse_contract.stream import Roster, Tombstone


class Before:
    """What a host listed before a roster replaced it."""

    def __init__(self, host: Host) -> None:
        self.index = host.index
        self.tokens = host.tokens
        self.block = host.block
        self.configs = host.announced[Section.CONFIG :: WIDTH]

    def same_lives(self, host: Host) -> list[tuple[int, int]]:
        """The rows, before and now, of the VMs that are in the same life of theirs."""
        rows = ((self.index[vm], row) for vm, row in host.index.items() if vm in self.index)
        return [(was, row) for was, row in rows if self.tokens[was] == host.tokens[row]]


class Placement:
    """The VMs of the fleet.

    ``vms`` are all of them; ``transits`` those that nobody owns now: migrated away and not seen anywhere yet.

    Args:
        runtime: where the statuses stand.
        telling: told of whatever changes.
    """

    def __init__(self, runtime: Runtime, telling: Telling) -> None:
        self.vms: dict[VmId, Vm] = {}
        self.transits: dict[VmId, Vm] = {}
        self._runtime = runtime
        self._telling = telling

    # --- rosters ------------------------------------------------------------------------------------------------

    def listed(self, host: Host, before: Before, left: dict[VmId, Transit], now: float, *, met: bool) -> None:
        """A roster has replaced what *host* listed *before*. *met*: what it lists has not just begun."""
        host.arriving = {known: turns for known, turns in host.arriving.items() if known in host.index}
        for known in before.index.keys() - host.index.keys():
            self._dropped(self.vms[known], host, left.get(known), now)
        for known, row in host.index.items():
            was = before.index.get(known)
            if was is None:
                self._began(self.vms.setdefault(known, Vm(known)), host, now, met=met)
                continue
            if before.tokens[was] != host.tokens[row]:
                self._ended(self.vms[known], host, left.get(known), now, met=met)
            if before.configs[was] != host.announced[row * WIDTH + Section.CONFIG]:
                self._telling.section(self.vms[known], host, Section.CONFIG)

    @staticmethod
    def departed(host: Host, roster: Roster, now: float) -> dict[VmId, Transit]:
        """The VMs whose lives, as *host* lists them so far, are over because they moved to another host."""
        left = {}
        for end in roster.tombstones:
            row = host.index.get(VmId(end.vm))
            if row is not None and end.exit_reason is ExitReason.MIGRATION_SUCCEEDED and end.token == host.tokens[row]:
                left[VmId(end.vm)] = Transit(host, now, host.bodies[row * WIDTH + Section.INFO])
        return left

    def _began(self, vm: Vm, host: Host, now: float, *, met: bool) -> None:
        """A life of a VM has begun on a host, or the host lists it newly."""
        vm.claim(host)
        if vm.active_on(host):
            host.arriving[vm.id] = not met
        else:
            host.arriving.pop(vm.id, None)
        vm.settle(host, turned=False)
        self._settled(vm, now)

    def _ended(self, vm: Vm, host: Host, left: Transit | None, now: float, *, met: bool) -> None:
        """A life of a VM has ended on a host that goes on listing it, and perhaps another has begun."""
        if left is not None and not vm.active_on(host):
            vm.end_claim(left)
        self._began(vm, host, now, met=met)

    def _dropped(self, vm: Vm, host: Host, left: Transit | None, now: float) -> None:
        """A host no longer lists a VM."""
        if vm.drop_claim(host, left):
            self._leave(vm, host)
        else:
            self._settled(vm, now)

    # --- frames -------------------------------------------------------------------------------------------------

    def status_said(self, host: Host, row: int, now: float) -> None:
        """A frame says what a VM does: decide whether it turns to running there."""
        known = host.vms[row]
        vm, status = self.vms[known], self._runtime.status[host.block.start + row]
        if status == VmStatus.MIGRATION_DESTINATION:
            host.arriving[known] = True
            vm.settle(host, turned=False)
        elif known in host.arriving and status != UNKNOWN_8:
            vm.settle(host, turned=host.arriving.pop(known))
        self._settled(vm, now)

    # --- transit ------------------------------------------------------------------------------------------------

    def passed_through(self, host: Host, roster: Roster) -> list[Tombstone]:
        """The ends on *host*, not known so far, of VMs in transit: they came here, and no longer run here."""
        if not self.transits:
            return []
        known = {(end.vm, end.token) for end in host.tombstones}
        return [end for end in roster.tombstones if end.vm in self.transits and (end.vm, end.token) not in known]

    def end_transit(self, host: Host, end: Tombstone, now: float) -> None:
        """A VM in transit came to *host* and its life ended there, or it went on to yet another host."""
        vm = self.transits.get(VmId(end.vm))
        if vm is None or vm.transit is None or vm.transit.host is host:
            return
        if end.exit_reason is ExitReason.MIGRATION_SUCCEEDED:
            vm.transit = vm.transit._replace(host=host, since=now)
            self._settled(vm, now)
        else:
            self._give_up(vm, host, now)

    def judge_transits(self, now: float) -> None:
        """Say of a VM that was seen nowhere for long that nobody knows; in the end believe who lists it."""
        for vm in list(self.transits.values()):
            if vm.transit is not None and now - vm.transit.since >= TRANSIT_FORGOTTEN_S:
                self._give_up(vm, vm.transit.host, now)
            elif vm.transit is not None and now - vm.transit.since >= TRANSIT_S:
                self._telling.vm(vm, now)

    def _give_up(self, vm: Vm, host: Host, now: float) -> None:
        if vm.end_transit(host):
            self._leave(vm, host)
        else:
            self._settled(vm, now)

    # --- what follows -------------------------------------------------------------------------------------------

    def _settled(self, vm: Vm, now: float) -> None:
        """Keep the list of those in transit, and tell what has become of the VM."""
        if vm.transit is None:
            self.transits.pop(vm.id, None)
        else:
            self.transits[vm.id] = vm
        self._telling.vm(vm, now)

    def _leave(self, vm: Vm, host: Host) -> None:
        """Nobody lists the VM any more; *host* was the last."""
        del self.vms[vm.id]
        self.transits.pop(vm.id, None)
        ends = [end for end in host.tombstones if end.vm == vm.id]
        self._telling.gone(vm, host, ends[-1] if ends else None)
