"""Which VMs there are and where, as rosters and frames say it; what changes is told.

The rules of whose word is believed are in ``ownership``; here they are applied to all VMs that a roster or frame names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.ownership import Transit, Vm
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitReason, VmStatus

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.runtime import Runtime
    from vmpulse_consumers.view.telling import Telling
    from vmpulse_contract.stream import Roster, Tombstone

Ends: TypeAlias = "dict[tuple[bytes, int], Tombstone]"
"""Tombstones by VM and start token."""
RUNS: Final = frozenset(
    {
        VmStatus.UP,
        VmStatus.POWERING_UP,
        VmStatus.POWERING_DOWN,
        VmStatus.REBOOT_IN_PROGRESS,
        VmStatus.MIGRATION_SOURCE,
    }
)
"""In these the guest runs on the host that says so; one that is paused, restored or received runs nowhere yet."""


class Before:
    """What a host listed before a roster replaced it."""

    def __init__(self, host: Host) -> None:
        self.index = host.index
        self.tokens = host.tokens
        self.block = host.block
        self.configs = host.announced[Section.CONFIG :: WIDTH]
        self.ended = {(end.vm, end.token) for end in host.tombstones}
        self.infos: dict[VmId, bytes | None] = {}
        """Bodies of section info of the VMs that the roster says have migrated away."""

    def keep_infos(self, host: Host, roster: Roster) -> None:
        """Keep what the roster is about to take away and a VM in transit is still called by."""
        for end in roster.tombstones:
            row = self.index.get(VmId(end.vm))
            if row is not None and end.exit_reason is ExitReason.MIGRATION_SUCCEEDED:
                self.infos[VmId(end.vm)] = host.bodies[row * WIDTH + Section.INFO]

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

    def listed(self, host: Host, before: Before, now: float, *, met: bool) -> None:
        """A roster has replaced what *host* listed *before*. *met*: what it lists has not just begun."""
        host.arriving = {known: turns for known, turns in host.arriving.items() if known in host.index}
        ends = {(end.vm, end.token): end for end in host.tombstones}
        for known in before.index.keys() - host.index.keys():
            self._dropped(self.vms[known], host, before, ends, now)
        for known, row in host.index.items():
            was = before.index.get(known)
            if was is None:
                self._began(self.vms.setdefault(known, Vm(known)), host, now, met=met)
                continue
            if before.tokens[was] != host.tokens[row]:
                self._ended(self.vms[known], host, before, ends, now, met=met)
            if before.configs[was] != host.announced[row * WIDTH + Section.CONFIG]:
                self._telling.section(self.vms[known], host, Section.CONFIG)
        if self.transits:
            self._judge_transits(host, before, ends, now)

    def _began(self, vm: Vm, host: Host, now: float, *, met: bool) -> None:
        """A life of a VM has begun on a host, or the host lists it newly."""
        vm.claim(host)
        if vm.active_on(host):
            host.arriving[vm.id], vm.end = not met, None
        else:
            host.arriving.pop(vm.id, None)
        vm.settle(host, turned=False)
        self._settled(vm, now)

    def _ended(self, vm: Vm, host: Host, before: Before, ends: Ends, now: float, *, met: bool) -> None:
        """A life of a VM has ended on a host that goes on listing it, and perhaps another has begun."""
        left = self._over(vm, host, before, ends, now)
        if left is not None and not vm.active_on(host):
            vm.end_claim(left)
        self._began(vm, host, now, met=met)

    def _dropped(self, vm: Vm, host: Host, before: Before, ends: Ends, now: float) -> None:
        """A host no longer lists a VM."""
        if vm.drop_claim(host, self._over(vm, host, before, ends, now)):
            self._leave(vm, host)
        else:
            self._settled(vm, now)

    @staticmethod
    def _over(vm: Vm, host: Host, before: Before, ends: Ends, now: float) -> Transit | None:
        """Note how the life ended that *host* listed *before*, if it did. Gives what follows if it moved elsewhere."""
        token = before.tokens[before.index[vm.id]]
        end = ends.get((vm.id, token)) if token else None
        if token and vm.owner is host:
            vm.end = end
        if end is None or end.exit_reason is not ExitReason.MIGRATION_SUCCEEDED:
            return None
        return Transit(host, token, now, _ended_at(host, end, now), before.infos.get(vm.id))

    # --- frames -------------------------------------------------------------------------------------------------

    def status_said(self, host: Host, row: int, now: float) -> None:
        """A frame says what a VM does: decide whether it turns to running there."""
        known = host.vms[row]
        vm, status = self.vms[known], int(self._runtime.status[host.block.start + row])
        if status == VmStatus.MIGRATION_DESTINATION:
            host.arriving[known] = True
            vm.settle(host, turned=False)
        elif known in host.arriving and status in RUNS:
            vm.settle(host, turned=host.arriving.pop(known))
        self._settled(vm, now)

    # --- transit ------------------------------------------------------------------------------------------------

    def _judge_transits(self, host: Host, before: Before, ends: Ends, now: float) -> None:
        """What a roster says of VMs in transit: that they came to *host* and are over, or nothing any more."""
        for end in host.tombstones:
            vm = self.transits.get(VmId(end.vm))
            if vm is not None and (end.vm, end.token) not in before.ended:
                self._passed_through(vm, host, end, now)
        # Whose source no longer tells of it is not waited for: so a host has no more of them than tombstones.
        for vm in list(self.transits.values()):
            if vm.transit is not None and vm.transit.host is host and (vm.id, vm.transit.token) not in ends:
                self._give_up(vm, host, now)

    def _passed_through(self, vm: Vm, host: Host, end: Tombstone, now: float) -> None:
        """A VM in transit came (back) to *host* and its life ended there, or it went on to yet another host."""
        transit, at = vm.transit, _ended_at(host, end, now)
        if transit is None or (transit.host is host and transit.token == end.token) or at <= transit.left_at:
            return  # of a life before this move, or the one that moved
        if end.exit_reason is ExitReason.MIGRATION_SUCCEEDED:
            vm.transit = transit._replace(host=host, token=end.token, since=now, left_at=at)
            self._settled(vm, now)
        else:
            vm.end = end
            self._give_up(vm, host, now)

    def tell_transits(self, now: float) -> None:
        """Of VMs that were seen nowhere for long nobody knows what they do."""
        for vm in self.transits.values():
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
        self._telling.gone(vm, host)


def _ended_at(host: Host, end: Tombstone, now: float) -> float:
    """When a life ended, by our clock; never too late by more than the clocks' drift."""
    return now if host.offset is None else host.offset + end.ended_ms / 1000
