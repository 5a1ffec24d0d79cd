"""Which VMs there are and where, as rosters and frames say it; what changes is told.

The rules of whose word is believed are in ``ownership``; here they are applied to all VMs that a roster or frame names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from vmpulse_consumers.view.claims import CLAIMS, RUNS, ClaimInput, ClaimState
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.ownership import LEFT_UNKNOWN, Transit, Vm
from vmpulse_consumers.view.splits import Splits
from vmpulse_consumers.view.states import step
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitReason, VmStatus

if TYPE_CHECKING:
    from array import array

    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.memory import Memory
    from vmpulse_consumers.view.runtime import Runtime
    from vmpulse_consumers.view.telling import Telling
    from vmpulse_contract.stream import Roster, Tombstone

INFO_BYTES: Final = 64 << 10
"""The largest info that a VM in transit is called by: a hundred times one that is common."""
Ends: TypeAlias = "dict[tuple[bytes, int], Tombstone]"
"""Tombstones by VM and start token."""


class Before:
    """What a host listed before a roster replaced it."""

    def __init__(self, host: Host) -> None:
        self.index = host.index
        self.tokens = host.tokens
        self.unproved = host.unproved
        self.block = host.block
        self.held = host.held
        self.configs = host.announced[Section.CONFIG :: WIDTH]
        self.ended = {(end.vm, end.token) for end in host.tombstones}
        self._said = self._all_said(host)
        self.infos: dict[VmId, bytes] = {}
        """Bodies of section info of the VMs that the roster says have migrated away."""

    def keep_infos(self, host: Host, roster: Roster) -> None:
        """Keep what the roster is about to take away and a VM in transit is still called by."""
        for end in roster.tombstones:
            row = self.index.get(VmId(end.vm))
            info = None if row is None else host.bodies[row * WIDTH + Section.INFO]
            # Nobody's budget counts what is in transit: a host may have as many of them as tombstones.
            if info is not None and len(info) <= INFO_BYTES and end.exit_reason is ExitReason.MIGRATION_SUCCEEDED:
                self.infos[VmId(end.vm)] = info

    def claim_state(self, vm: VmId) -> ClaimState:
        """How the host's word on a VM stood."""
        row = self.index.get(vm)
        if row is None:
            return ClaimState.NONE
        return self.unproved.get(vm, ClaimState.RUNNING) if self.tokens[row] else ClaimState.DOWN

    @staticmethod
    def _all_said(host: Host) -> tuple[object, ...]:
        return host.packed_vms, host.tokens, host.announced, host.tombstones, host.facts

    def changed(self, host: Host) -> bool:
        """Whether the roster says anything that the one before did not."""
        return self._said != self._all_said(host)

    def let_go(self, host: Host) -> list[VmId]:
        """The VMs of which a body was held that is held no more: as a rule those whose life has ended."""
        now, was = host.held, self.held
        return [
            vm
            for vm, row in self.index.items()
            if any(_of(was, row)) and (vm not in host.index or _of(was, row) != _of(now, host.index[vm]))
        ]

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
        memory: told of what is to be kept.
    """

    def __init__(self, runtime: Runtime, telling: Telling, memory: Memory) -> None:
        self.vms: dict[VmId, Vm] = {}
        self.transits: dict[VmId, Vm] = {}
        self.splits = Splits(runtime, telling, memory)
        self._runtime = runtime
        self._telling = telling
        self._memory = memory

    # --- rosters ------------------------------------------------------------------------------------------------

    def listed(self, host: Host, before: Before, now: float, *, met: bool) -> None:
        """A roster has replaced what *host* listed *before*. *met*: what it lists has not just begun."""
        host.unproved = {known: state for known, state in before.unproved.items() if known in host.index}
        ends = {(end.vm, end.token): end for end in host.tombstones}
        for known in before.index.keys() - host.index.keys():
            self._dropped(self.vms[known], host, before, ends, now)
        for known, row in host.index.items():
            was = before.index.get(known)
            if was is None:
                self._began(self.vms.setdefault(known, Vm(known)), host, before, now, met=met)
                continue
            if before.tokens[was] != host.tokens[row]:
                self._ended(self.vms[known], host, before, ends, now, met=met)
            if before.configs[was] != host.announced[row * WIDTH + Section.CONFIG]:
                self._telling.section(self.vms[known], host, Section.CONFIG)
        if self.transits:
            self._judge_transits(host, before, ends, now)

    def _began(self, vm: Vm, host: Host, before: Before, now: float, *, met: bool) -> None:
        """A life of a VM has begun on a host, or the host lists it newly."""
        vm.claim(host)
        if vm.active_on(host):
            vm.end = None
            given = ClaimInput.LISTED_MET if met else ClaimInput.LISTED_BEGUN
        else:
            given = ClaimInput.LISTED_DOWN
        self._stand(vm, host, step(CLAIMS, before.claim_state(vm.id), given))
        if vm.transit is None:
            # What is in transit is said to migrate until a frame says more: who has just listed it knows no status yet.
            vm.settle(host, turned=False)
        self._settled(vm, now)

    def _stand(self, vm: Vm, host: Host, state: ClaimState) -> None:
        """Note how a claim stands: whether it runs or is Down follows from the roster."""
        if state in {ClaimState.MET, ClaimState.BEGUN}:
            host.unproved[vm.id] = state
        else:
            host.unproved.pop(vm.id, None)
        self._memory.host(host.id)

    def _ended(self, vm: Vm, host: Host, before: Before, ends: Ends, now: float, *, met: bool) -> None:
        """A life of a VM has ended on a host that goes on listing it, and perhaps another has begun."""
        left = self._over(vm, host, before, ends, now)
        if left is not None and not vm.active_on(host):
            vm.end_claim(left)
        self._began(vm, host, before, now, met=met)

    def _dropped(self, vm: Vm, host: Host, before: Before, ends: Ends, now: float) -> None:
        """A host no longer lists a VM."""
        step(CLAIMS, before.claim_state(vm.id), ClaimInput.UNLISTED)
        if vm.drop_claim(host, self._over(vm, host, before, ends, now)):
            self._leave(vm, host, now)
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
        self._memory.host(host.id)
        given = ClaimInput.RECEIVED if status == VmStatus.MIGRATION_DESTINATION else ClaimInput.RUNS
        if given is ClaimInput.RECEIVED or status in RUNS:
            was = host.claim_state(known)
            state = step(CLAIMS, was, given)
            self._stand(vm, host, state)
            if state is not was or given is ClaimInput.RECEIVED:
                # Who is about to leave has run here before, heard or not: that is no turn.
                begun = was is ClaimState.BEGUN and status != VmStatus.MIGRATION_SOURCE
                vm.settle(host, turned=begun and state is ClaimState.RUNNING)
        if vm.transit is not None:
            vm.settle(host, turned=False)
        self._settled(vm, now)

    def heard_again(self, host: Host, now: float) -> None:
        """A host is heard again: what it has said all the time may go against what was said meanwhile."""
        for known in host.vms:
            self.splits.doubt_anew(self.vms[known], now)
            self.splits.judge(self.vms[known], now)

    # --- transit ------------------------------------------------------------------------------------------------

    def _judge_transits(self, host: Host, before: Before, ends: Ends, now: float) -> None:
        """What a roster says of VMs in transit: that they came to *host* and are over, or nothing any more."""
        for end in host.tombstones:
            vm = self.transits.get(VmId(end.vm))
            if vm is not None and (end.vm, end.token) not in before.ended:
                self._passed_through(vm, host, end, now)
        # Whose source no longer tells of it is not waited for: so a host has no more of them than tombstones.
        for vm in list(self.transits.values()):
            if vm.transit is None or vm.transit.host is not host:
                continue
            left = ends.get((vm.id, vm.transit.token))
            if left is None:
                self._give_up(vm, host, now)
            elif vm.transit.left_at == LEFT_UNKNOWN:
                vm.transit = vm.kept_place = vm.transit._replace(left_at=_ended_at(host, left, now))

    def _passed_through(self, vm: Vm, host: Host, end: Tombstone, now: float) -> None:
        """A VM in transit came (back) to *host* and its life ended there, or it went on to yet another host."""
        transit, at = vm.transit, _ended_at(host, end, now)
        if transit is None or (transit.host is host and transit.token == end.token) or at <= transit.left_at:
            return  # of a life before this move, or the one that moved
        if end.ended_ms < 0:
            return  # of an agent before this one: that it was later, only a wall clock says (promise V2)
        if end.exit_reason is ExitReason.MIGRATION_SUCCEEDED:
            vm.went_on(transit._replace(host=host, token=end.token, since=now, left_at=at))
            self._settled(vm, now)
        else:
            vm.end = end
            self._give_up(vm, host, now)

    def host_gone(self, host: Host, now: float) -> None:
        """Somebody says that a host is no more: nothing is waited for that only it could tell."""
        for vm in list(self.transits.values()):
            if vm.transit is not None and vm.transit.host is host:
                self._give_up(vm, host, now)

    def tell_transits(self, now: float) -> None:
        """Of VMs that were seen nowhere for long nobody knows what they do."""
        for vm in self.transits.values():
            self._telling.vm(vm, now)

    def _give_up(self, vm: Vm, host: Host, now: float) -> None:
        if vm.end_transit(host):
            self._leave(vm, host, now)
        else:
            self._settled(vm, now)

    # --- what follows -------------------------------------------------------------------------------------------

    def _settled(self, vm: Vm, now: float) -> None:
        """Keep the list of those in transit, and tell what has become of the VM."""
        if vm.transit is None:
            self.transits.pop(vm.id, None)
        else:
            self.transits[vm.id] = vm
        self._keep(vm)
        self._telling.vm(vm, now)
        self.splits.judge(vm, now)

    def _keep(self, vm: Vm) -> None:
        """Tell the memory of another owner: which VMs a host owns is kept with the host."""
        place = vm.transit or vm.owner
        if place is not vm.kept_place:
            for other in (vm.kept_place, place):
                if isinstance(other, Transit):
                    self._memory.transit(vm.id)
                elif other is not None:
                    self._memory.host(other.id)
            vm.kept_place = place

    def _leave(self, vm: Vm, host: Host, now: float) -> None:
        """Nobody lists the VM any more; *host* was the last."""
        del self.vms[vm.id]
        self.transits.pop(vm.id, None)
        self._keep(vm)
        self._telling.gone(vm, host)
        self.splits.drop(vm, now)


def _of(hashes: array[int], row: int) -> array[int]:
    """Those of one VM."""
    return hashes[row * WIDTH : (row + 1) * WIDTH]


def _ended_at(host: Host, end: Tombstone, now: float) -> float:
    """When a life ended, by our clock; never too late by more than the clocks' drift.

    What an agent has kept of the one before it has crossed a wall clock, so nothing is ordered by it (promise V2).
    """
    if end.ended_ms < 0:
        return LEFT_UNKNOWN
    return now if host.offset is None else host.offset + end.ended_ms / 1000
