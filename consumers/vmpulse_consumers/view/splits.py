"""Split brains: VMs that two hosts run at the same time, for longer than any hand-over takes.

A migration has the VM running on both for some seconds at most; a table says what is made of it: SINGLE, DOUBTED within
the grace, SPLIT. A split brain is entered on evidence alone, from two hosts that are heard, and left on evidence alone:
one of the two no longer says that it runs the VM. That one falls silent ends nothing, for not seeing is not knowing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.claims import RUNS, is_heard
from vmpulse_consumers.view.events import VmSplitBrain
from vmpulse_consumers.view.states import step

if TYPE_CHECKING:
    from vmpulse_consumers.view.host import Host
    from vmpulse_consumers.view.memory import Memory
    from vmpulse_consumers.view.ownership import Vm
    from vmpulse_consumers.view.runtime import Runtime
    from vmpulse_consumers.view.telling import Telling
    from vmpulse_contract.identity import HostId, VmId

SPLIT_GRACE_S: Final = 30.0
"""A live migration was measured to overlap for 1.6 s; hosts may be heard up to two ticks apart, and the broker late."""


class SplitState(StrEnum):
    """How many hosts say that they run a VM."""

    SINGLE = "single"
    DOUBTED = "doubted"
    SPLIT = "split"


class SplitInput(StrEnum):
    """What can happen: what the hosts say, that the grace is over while two that are heard say so, and a restart."""

    ONE_RUNS = "one_runs"
    TWO_RUN = "two_run"
    GRACE_OVER = "grace_over"
    REMEMBERED = "remembered"


SPLITS: Final[dict[SplitState, dict[SplitInput, SplitState]]] = {
    SplitState.SINGLE: {
        SplitInput.ONE_RUNS: SplitState.SINGLE,
        SplitInput.TWO_RUN: SplitState.DOUBTED,
        # A restart of the view is no evidence that it is over.
        SplitInput.REMEMBERED: SplitState.SPLIT,
    },
    SplitState.DOUBTED: {
        SplitInput.ONE_RUNS: SplitState.SINGLE,
        SplitInput.TWO_RUN: SplitState.DOUBTED,
        SplitInput.GRACE_OVER: SplitState.SPLIT,
    },
    SplitState.SPLIT: {
        SplitInput.ONE_RUNS: SplitState.SINGLE,
        SplitInput.TWO_RUN: SplitState.SPLIT,
        # Each of its hosts remembers it.
        SplitInput.REMEMBERED: SplitState.SPLIT,
    },
}


class Splits:
    """The VMs that more than one host says to run.

    Args:
        runtime: where the statuses stand.
        telling: told of what begins and ends.
        memory: told of the same.
    """

    def __init__(self, runtime: Runtime, telling: Telling, memory: Memory) -> None:
        self._runtime = runtime
        self._telling = telling
        self._memory = memory
        self._doubted: dict[VmId, tuple[Vm, float]] = {}
        self.split: dict[VmId, Vm] = {}
        self._told: dict[VmId, tuple[HostId, ...]] = {}

    def state(self, vm: Vm) -> SplitState:
        """How it stands with a VM."""
        if vm.split:
            return SplitState.SPLIT
        return SplitState.DOUBTED if vm.id in self._doubted else SplitState.SINGLE

    def judge(self, vm: Vm, now: float) -> None:
        """A claim on a VM has changed."""
        state = self.state(vm)
        if state is SplitState.SINGLE and len(vm.claims) < 2:  # noqa: PLR2004 - two: nearly all VMs, and cheap
            return
        running = [host for host in vm.claims if self._runs(vm, host)]
        if state is SplitState.SINGLE:
            # Entered on evidence from hosts that are heard; left only when one of them says otherwise.
            running = [host for host in running if is_heard(host)]
        self._become(vm, SplitInput.TWO_RUN if len(running) > 1 else SplitInput.ONE_RUNS, now)

    def doubt_anew(self, vm: Vm, now: float) -> None:
        """A host that claims it is heard again: what it said before its silence proves nothing of the time since."""
        if vm.id in self._doubted:
            self._doubted[vm.id] = vm, now

    def remember(self, vm: Vm, now: float) -> None:
        """It was split before the view's restart, and is so still if the hosts' last words say so."""
        if sum(self._runs(vm, host) for host in vm.claims) > 1:
            self._become(vm, SplitInput.REMEMBERED, now)

    def drop(self, vm: Vm, now: float) -> None:
        """Nobody lists the VM any more."""
        if self.state(vm) is not SplitState.SINGLE:
            self._become(vm, SplitInput.ONE_RUNS, now)

    def tick(self, now: float) -> None:
        """Those that have been doubted for longer than the grace, on the word of hosts that are heard, are split."""
        for vm, since in list(self._doubted.values()):
            heard = [host for host in vm.claims if is_heard(host) and self._runs(vm, host)]
            if now - since > SPLIT_GRACE_S and len(heard) > 1:
                self._become(vm, SplitInput.GRACE_OVER, now)

    def _become(self, vm: Vm, given: SplitInput, now: float) -> None:
        was = self.state(vm)
        state = step(SPLITS, was, given)
        if state is was:
            return
        self._doubted.pop(vm.id, None)
        self.split.pop(vm.id, None)
        vm.split = state is SplitState.SPLIT
        if state is SplitState.DOUBTED:
            self._doubted[vm.id] = vm, now
        elif state is SplitState.SPLIT:
            self.split[vm.id] = vm
        if SplitState.SPLIT in {was, state}:
            self._tell(vm, begun=vm.split)
            for host in vm.claims:
                self._memory.host(host.id)

    def _tell(self, vm: Vm, *, begun: bool) -> None:
        hosts = tuple(sorted(host.id for host in vm.claims if self._runs(vm, host)))
        was = self._told.pop(vm.id, ())
        if begun:
            self._told[vm.id] = hosts
        place = vm.owner or (vm.transit and vm.transit.host)
        if place is not None and self._telling.begun:
            self._telling.events.append(VmSplitBrain(vm.id, place.id, hosts, begun, was))

    def _runs(self, vm: Vm, host: Host) -> bool:
        return vm.runs_on(host) and int(self._runtime.status[host.block.start + host.index[vm.id]]) in RUNS
