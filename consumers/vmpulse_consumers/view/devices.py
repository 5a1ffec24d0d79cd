"""The last device statistics of one host's VMs: kept packed, for a million VMs have a gigabyte of them.

A report replaces what the one before said of a VM and leaves the others as they are. What is kept of a VM that runs on
stays until its next report, its host's next epoch, or its end in a roster; which life it was said of, its token tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmpulse_consumers.view.budget import DEVICE_BYTES
from vmpulse_contract import wire
from vmpulse_contract.identity import VmId
from vmpulse_contract.verbs import DeviceStats

if TYPE_CHECKING:
    from collections.abc import Container

    from vmpulse_contract.devices import DeviceMessage


class DeviceSaid(NamedTuple):
    """What was said of one VM: of which life, when it was sampled by the agent's time, and the packed statistics."""

    token: int
    monotonic_ms: int
    packed: bytes

    def stats(self) -> DeviceStats:
        """Unpack the statistics. They were checked at the door, so nothing is raised."""
        return wire.read(self.packed, DeviceStats)


class Devices:
    """The device statistics held of one host, within its confirmed epoch."""

    __slots__ = ("_number", "_said", "_size")

    def __init__(self) -> None:
        self._number = 0
        self._size = 0
        self._said: dict[VmId, DeviceSaid] = {}

    def take(self, message: DeviceMessage, listed: Container[VmId]) -> bool:
        """Keep what a message says of the VMs that the host lists. Tells whether it is new, and no repeat.

        Beyond DEVICE_BYTES what is new of a VM replaces nothing, and what was said of it before is dropped.
        """
        if message.number <= self._number:
            return False
        self._number = message.number
        for raw, record in message.vms.items():
            vm = VmId(raw)
            if vm in listed:
                self.drop(vm)
                packed = wire.write(record.stats)
                if self._size + len(packed) <= DEVICE_BYTES:
                    self._said[vm] = DeviceSaid(record.token, message.monotonic_ms, packed)
                    self._size += len(packed)
        return True

    def of(self, vm: VmId, token: int) -> DeviceSaid | None:
        """What was last said of the life *token* of a VM."""
        said = self._said.get(vm)
        return said if said is not None and said.token == token else None

    def told(self) -> tuple[int, list[tuple[VmId, DeviceSaid]]]:
        """The number of the last report, and all that is held, by VM."""
        return self._number, sorted(self._said.items())

    def drop(self, vm: VmId) -> None:
        """Keep no more of the VM."""
        said = self._said.pop(vm, None)
        self._size -= 0 if said is None else len(said.packed)

    def clear(self) -> None:
        """Another epoch counts from 1 again, and by another clock."""
        self._number = self._size = 0
        self._said.clear()
