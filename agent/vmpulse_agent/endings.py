"""How lives end, as far as events and looks tell: what explains that a VM is Down, or not there at all.

No I/O and no clock: times are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_agent.hypervisor import Exit, LifecycleChange, LifecycleEvent
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

if TYPE_CHECKING:
    from vmpulse_agent.ledger import Row
    from vmpulse_contract.identity import VmId

UNEXPLAINED: Final = Exit(ExitCode.UNKNOWN, ExitReason.LIBVIRT_DOMAIN_MISSING)
NEVER_ARRIVED: Final = Exit(ExitCode.ERROR, ExitReason.MIGRATION_FAILED)


class _Ending(NamedTuple):
    """An announced end of a life: how, and when it was announced.

    ``standing``: nothing has begun since, so it also explains why the VM is not there at all.
    """

    exit: Exit | None
    noted_at: float
    standing: bool = True


class Endings:
    """The announced ends that no look has shown yet, and the VMs whose last life went on elsewhere."""

    def __init__(self) -> None:
        self._noted: dict[VmId, _Ending] = {}
        self._departed: set[VmId] = set()
        """Inactive here, for their last life went on elsewhere: libvirt undefines such a source without a word."""

    def __len__(self) -> int:
        """How many VMs anything is kept of."""
        return len(self._noted.keys() | self._departed)

    def note(self, row: Row, event: LifecycleEvent, now: float) -> None:
        """Take note of an announced change of a VM that looks have shown."""
        known = self._noted.get(event.vm)
        if event.change in {LifecycleChange.STARTED, LifecycleChange.RESUMED}:
            if known is not None:
                self._noted[event.vm] = known._replace(standing=False)
        # A stop ends a running life. An undefined domain is gone if it was inactive; a running one runs on.
        elif event.change is (LifecycleChange.STOPPED if row.token else LifecycleChange.UNDEFINED):
            self._noted[event.vm] = _Ending(event.exit or (known.exit if known else None), now)

    def explain_absence(self, vm: VmId) -> bool:
        """Whether events explain that a VM is not there."""
        return vm in self._departed or (vm in self._noted and self._noted[vm].standing)

    def disproved(self, vm: VmId, started: float) -> None:
        """A look that began then shows the VM as it was: an end that was announced before explains nothing."""
        ending = self._noted.get(vm)
        if ending is not None and started > ending.noted_at:
            del self._noted[vm]

    def over(self, row: Row, remembered: Exit | None) -> Exit | None:
        """The row's life is over, if it was one: give how it ended. *remembered*: as the hypervisor knows it."""
        ending = self._noted.pop(row.vm, None)
        self._departed.discard(row.vm)
        if row.token == 0:
            return None
        # What was still arriving by migration and vanished while nobody could hear why: its migration has failed.
        unexplained = NEVER_ARRIVED if row.status is VmStatus.MIGRATION_DESTINATION else UNEXPLAINED
        found = (ending and ending.exit) or remembered or unexplained
        if found.reason is ExitReason.MIGRATION_SUCCEEDED:
            self._departed.add(row.vm)
        return found

    def forget(self, vm: VmId) -> None:
        """The VM is listed no more."""
        self._departed.discard(vm)
