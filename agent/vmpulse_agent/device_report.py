"""What a session has to say of devices: the newest sample with rates over its interval. No I/O and no clock.

A sample is said at most once and only whole lives are: a VM that has begun another life since waits for the next. Over
which interval, and what becomes of what a lost message said, is device_intervals' affair. While the broker is away
intervals grow, whatever their length, and nothing else is kept but that a report is due, and the newest sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

from vmpulse_agent.device_intervals import VmIntervals
from vmpulse_agent.devices import device_stats
from vmpulse_contract import device_weight, limits, wire
from vmpulse_contract.device_columns import pack_columns
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, check_stats
from vmpulse_contract.errors import MessageError, MessageTooBig
from vmpulse_contract.identity import VmId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample
    from vmpulse_agent.ledger import Row
    from vmpulse_contract.verbs import DeviceStats

HEAD_BYTES: Final = 2048
"""Room for the heads of all columns, for the message around them, and for what does not deflate."""
BUDGET: Final = limits.MESSAGE_BYTES.maximum - HEAD_BYTES


class DeviceReport:
    """The device statistics of one epoch, on their way out."""

    def __init__(self) -> None:
        self.due = False
        self.number = 0
        """Of the last message, counted within the epoch."""
        self.refused = 0
        """Records that no reader would take; each costs only its own VM."""
        self._sample: DeviceSample | None = None
        self._fresh = False
        """Whether nothing has been said of the newest sample."""
        self._newest: dict[VmId, tuple[float, DeviceCounters]] = {}
        """Of each running life the last counters, and when they were taken: not every sample has every VM."""
        self._intervals: dict[VmId, VmIntervals] = {}
        self._balloons: dict[VmId, tuple[float, int]] = {}
        """Balloons that have changed since their VM's newest counters: when, and their KiB now."""
        self._unsaid_balloons: set[VmId] = set()

    def take(self, sample: DeviceSample, rows: Mapping[VmId, Row]) -> None:
        """Take in the newest sample; one before it that was not said is not said any more, but its rates count.

        *rows* are the VMs of the host: an interval is kept while its life runs, also over samples without it.
        """
        known = self._intervals
        kept = {vm: one for vm, one in known.items() if vm in rows and rows[vm].token == one.newest.token}
        newest = {vm: self._newest[vm] for vm in kept}
        for vm, counters in sample.domains.items():
            taken_s = sample.started if counters.taken_s is None else counters.taken_s
            newest[vm] = taken_s, counters
            if vm in known:
                kept[vm] = known[vm]
                known[vm].follow(counters, taken_s)
            else:
                kept[vm] = VmIntervals(counters, taken_s)
        self._newest = newest
        self._intervals, self._sample, self._fresh = kept, sample, True
        self._balloons = {vm: told for vm, told in self._balloons.items() if vm in newest and told[0] > newest[vm][0]}
        self._unsaid_balloons &= kept.keys()

    def balloon_changed(self, vm: VmId, kib: int, now: float) -> None:
        """An event tells a VM's balloon, which is newer than its newest counters; its record is to be said early."""
        if vm in self._newest:
            self._balloons[vm] = now, kib
            self._unsaid_balloons.add(vm)

    @property
    def balloons_unsaid(self) -> bool:
        """Whether there is something for ``say_balloons`` to say."""
        return bool(self._unsaid_balloons)

    def of(self, row: Row) -> DeviceStats | None:
        """The newest counters of a VM's present life, with rates since they were last said of it.

        Until there is a sample after that, the rates are those that were said.
        """
        _, counters = self._newest.get(row.vm, (0.0, None))
        if counters is None or not row.token or counters.token != row.token:
            return None
        return device_stats(self._with_balloon(row.vm, counters), self._intervals[row.vm].newest)

    def _with_balloon(self, vm: VmId, counters: DeviceCounters) -> DeviceCounters:
        told, balloon = self._balloons.get(vm), counters.balloon
        if told is None or balloon is None:
            return counters
        return counters._replace(balloon=structs.replace(balloon, balloon_cur=told[1], balloon_target=told[1]))

    def sampled_at(self, vm: VmId) -> float | None:
        """When the newest counters of a VM were taken; None before the first."""
        return self._newest[vm][0] if vm in self._newest else None

    def say(self, epoch: int, rows: Iterable[Row], monotonic_ms: Callable[[float], int]) -> list[DeviceMessage]:
        """Give the messages to be said now: of those *rows* whose present life was sampled."""
        if not self.due or self._sample is None or not self._fresh:
            return []
        self.due = self._fresh = False
        self._unsaid_balloons -= self._sample.domains.keys()
        sampled = (row for row in rows if row.vm in self._sample.domains)
        return self._records(self._sample.started, epoch, sampled, monotonic_ms)

    def say_balloons(
        self, epoch: int, rows: Mapping[VmId, Row], monotonic_ms: Callable[[float], int]
    ) -> list[DeviceMessage]:
        """Give the records of the VMs whose balloons have changed, ahead of the report; it ends their intervals."""
        by_time: dict[float, list[Row]] = {}
        for vm in sorted(self._unsaid_balloons & rows.keys() & self._newest.keys()):
            by_time.setdefault(self._newest[vm][0], []).append(rows[vm])
        self._unsaid_balloons.clear()
        records = (self._records(sampled, epoch, changed, monotonic_ms) for sampled, changed in by_time.items())
        return [message for messages in records for message in messages]

    def _records(
        self, sampled: float, epoch: int, rows: Iterable[Row], monotonic_ms: Callable[[float], int]
    ) -> list[DeviceMessage]:
        known = ((row, self.of(row)) for row in rows)
        records: dict[bytes, DeviceRecord] = {
            row.vm: DeviceRecord(row.token, stats) for row, stats in known if stats is not None
        }
        return [self._message(epoch, monotonic_ms(sampled), part) for part in self._cut(records)]

    def told(self, number: int) -> None:
        """The message of this number has come to the broker: its intervals are over for good."""
        for intervals in self._intervals.values():
            intervals.told(number)

    def lost(self, number: int) -> None:
        """The message of this number never came to the broker: the next report, now due, makes up for it."""
        self.due = True
        for intervals in self._intervals.values():
            intervals.lost(number)

    def _message(self, epoch: int, monotonic_ms: int, part: dict[bytes, DeviceRecord]) -> DeviceMessage:
        self.number += 1
        for vm in part:
            self._intervals[VmId(vm)].said(self.number)
        return DeviceMessage(wire.VERSION, epoch, self.number, monotonic_ms, part)

    def _cut(self, records: dict[bytes, DeviceRecord]) -> list[dict[bytes, DeviceRecord]]:
        """Cut the records into parts that each fit a message."""
        parts: list[dict[bytes, DeviceRecord]] = []
        room = 0
        fit = _fit(records)  # all at once, for one by one takes three times as long
        for vm, record in records.items():
            size = _size(record) if fit or _fit({vm: record}) else None
            if size is None:
                self.refused += 1
                continue
            if size > room:
                parts.append({})
                room = BUDGET
            parts[-1][vm] = record
            room -= size
        return parts


def _fit(records: dict[bytes, DeviceRecord]) -> bool:
    """Whether columns can hold all that is measured in these. That it is too much for one message does not matter."""
    try:
        pack_columns(DeviceMessage(wire.VERSION, 1, 1, 0, records))
    except MessageTooBig:
        return True
    except MessageError:
        return False
    return True


def _size(record: DeviceRecord) -> int | None:
    """The most bytes of a record in a message; None for one that a reader would refuse, and with it all the others'."""
    try:
        check_stats(record.stats)
        return device_weight.check(record.stats)
    except MessageError:
        return None
