"""The last device statistics of one host's VMs: reports as they came, for inflated a million VMs have a gigabyte.

A report replaces what the one before said of a VM and leaves the others as they are, so it is kept as long as it is
the last one of any VM. What is kept of a VM that runs on stays until its next report, its host's next epoch, or its end
in a roster; which life it was said of, its token tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmpulse_consumers.view.budget import DEVICE_BYTES
from vmpulse_contract.identity import VmId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmpulse_contract.devices import CheckedDevices, DeviceRecord
    from vmpulse_contract.verbs import DeviceStats


class DeviceSaid(NamedTuple):
    """What was said of one VM: of which life, when it was sampled by the agent's time, and the statistics."""

    token: int
    monotonic_ms: int
    stats: DeviceStats


class Report:
    """A report that was checked at the door, as it came. ``last_of``: of how many VMs nothing was said since."""

    __slots__ = ("_read", "last_of", "monotonic_ms", "packed")

    def __init__(self, message: CheckedDevices) -> None:
        self.monotonic_ms = message.monotonic_ms
        self.packed = message.packed
        self.last_of = 0
        self._read = message.read

    def record(self, vm: VmId) -> DeviceRecord:
        """Read what it says of a VM that it names."""
        return self._read(self.packed, vm)


class Devices:
    """The device statistics held of one host, within its confirmed epoch. ``size``: bytes of all reports held."""

    __slots__ = ("_number", "_reports", "size")

    def __init__(self) -> None:
        self._number = 0
        self.size = 0
        self._reports: dict[VmId, Report] = {}

    def is_new(self, number: int) -> bool:
        """Whether a message is none that was taken before, and older than none."""
        return number > self._number

    def take(self, message: CheckedDevices, index: Mapping[VmId, int], vms: Sequence[VmId]) -> None:
        """Keep what a new message says of the VMs that the host lists.

        *vms* are the host's own objects of its VMs' ids, *index* says where: those of the message are not kept. Nor is
        a report that goes beyond DEVICE_BYTES, and what was said before of its VMs is dropped.
        """
        self._number = message.number
        listed = [vms[index[vm]] for vm in map(VmId, message.vms) if vm in index]
        for vm in listed:
            self.drop(vm)
        if listed and self.size + len(message.packed) <= DEVICE_BYTES:
            report = Report(message)
            report.last_of = len(listed)
            self.size += len(report.packed)
            self._reports.update(dict.fromkeys(listed, report))

    def of(self, vm: VmId, token: int) -> DeviceSaid | None:
        """What was last said of the life *token* of a VM."""
        report = self._reports.get(vm)
        if report is None:
            return None
        record = report.record(vm)
        return DeviceSaid(token, report.monotonic_ms, record.stats) if record.token == token else None

    def told(self) -> tuple[int, list[tuple[bytes, int, list[VmId]]]]:
        """The number of the last report, and each that is held, when it was sampled and of which VMs it is the last."""
        found: dict[Report, list[VmId]] = {}
        for vm, report in sorted(self._reports.items()):
            found.setdefault(report, []).append(vm)
        return self._number, [(report.packed, report.monotonic_ms, vms) for report, vms in found.items()]

    def drop(self, vm: VmId) -> None:
        """Keep no more of the VM."""
        report = self._reports.pop(vm, None)
        if report is not None:
            report.last_of -= 1
            self.size -= 0 if report.last_of else len(report.packed)

    def clear(self) -> None:
        """Another epoch counts from 1 again, and by another clock."""
        self._number = self.size = 0
        self._reports.clear()
