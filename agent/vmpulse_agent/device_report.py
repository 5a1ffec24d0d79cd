"""What a session has to say of devices: the newest sample, once, when a report is due. No I/O and no clock.

A sample is said at most once and only whole lives are: a VM that has begun another life since waits for the next. While
the broker is away nothing is kept but that a report is due, and the newest sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_contract import limits, wire
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, check_record
from vmpulse_contract.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vmpulse_agent.hypervisor import DeviceSample
    from vmpulse_agent.ledger import Row
    from vmpulse_contract.identity import VmId
    from vmpulse_contract.verbs import DeviceStats

HEAD_BYTES: Final = 64
"""Room for the fields of DeviceMessage around its records."""
KEY_BYTES: Final = 18
BUDGET: Final = limits.MESSAGE_BYTES.maximum - HEAD_BYTES


class DeviceReport:
    """The device statistics of one epoch, on their way out."""

    def __init__(self) -> None:
        self.due = False
        self.number = 0
        """Of the last message, counted within the epoch."""
        self.refused = 0
        """Records that no reader would take; each costs only its own VM."""
        self._unsaid: tuple[DeviceSample, Mapping[VmId, DeviceStats]] | None = None

    def take(self, sample: DeviceSample, stats: Mapping[VmId, DeviceStats]) -> None:
        """Take in the newest sample; one before it that was not said is not said any more."""
        self._unsaid = sample, stats

    def say(self, epoch: int, rows: Iterable[Row], monotonic_ms: Callable[[float], int]) -> list[DeviceMessage]:
        """Give the messages to be said now: of those *rows* whose present life was sampled."""
        if not self.due or self._unsaid is None:
            return []
        sample, stats = self._unsaid
        self.due, self._unsaid = False, None
        records = {
            row.vm: DeviceRecord(row.token, stats[row.vm])
            for row in rows
            if row.token and row.vm in sample.domains and sample.domains[row.vm].token == row.token
        }
        return [self._message(epoch, monotonic_ms(sample.started), part) for part in self._cut(records)]

    def _message(self, epoch: int, monotonic_ms: int, part: dict[bytes, DeviceRecord]) -> DeviceMessage:
        self.number += 1
        return DeviceMessage(wire.VERSION, epoch, self.number, monotonic_ms, part)

    def _cut(self, records: Mapping[VmId, DeviceRecord]) -> list[dict[bytes, DeviceRecord]]:
        """Cut the records into parts that each fit a message."""
        parts: list[dict[bytes, DeviceRecord]] = []
        room = 0
        for vm, record in records.items():
            size = _size(record)
            if size is None:
                self.refused += 1
                continue
            if size > room:
                parts.append({})
                room = BUDGET
            parts[-1][vm] = record
            room -= size
        return parts


def _size(record: DeviceRecord) -> int | None:
    """The bytes of a record in a message; None for one that a reader would refuse, and with it all the others'."""
    try:
        raw = wire.write(record)
        check_record(wire.read(raw, DeviceRecord))
    except MessageError:
        return None
    size = len(raw) + KEY_BYTES
    return size if size <= BUDGET else None
