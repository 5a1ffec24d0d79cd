"""What a session has to say of devices: the newest sample with rates over its interval. No I/O and no clock.

A sample is said at most once and only whole lives are: a VM that has begun another life since waits for the next. The
next interval of a VM begins where the one that was said ended, and only then; while the broker is away intervals grow,
whatever their length, and nothing else is kept but that a report is due, and the newest sample. What a message that was
lost said of an interval goes into the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

from vmpulse_agent.device_rates import begun_anew, followed, joined
from vmpulse_agent.devices import device_stats
from vmpulse_contract import limits, wire
from vmpulse_contract.devices import DeviceMessage, DeviceRecord, check_record
from vmpulse_contract.errors import MessageError
from vmpulse_contract.identity import VmId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vmpulse_agent.device_rates import Interval
    from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample
    from vmpulse_agent.ledger import Row
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
        self._sample: DeviceSample | None = None
        self._fresh = False
        """Whether nothing has been said of the newest sample."""
        self._intervals: dict[VmId, Interval] = {}
        """Each ends with the newest sample in which its VM was."""
        self._over: set[VmId] = set()
        """VMs whose intervals have been said: the next sample begins another."""
        self._said: dict[int, dict[VmId, Interval]] = {}
        """What the messages of the last report said of which nobody knows yet whether they came, by their numbers."""
        self._balloons: dict[VmId, tuple[float, int]] = {}
        """Balloons that have changed since the newest sample: when, and their KiB now."""
        self._unsaid_balloons: set[VmId] = set()

    def take(self, sample: DeviceSample, rows: Mapping[VmId, Row]) -> None:
        """Take in the newest sample; one before it that was not said is not said any more, but its rates count.

        *rows* are the VMs of the host: an interval is kept while its life runs, also over samples without it.
        """
        running = (vm for vm, one in self._intervals.items() if vm in rows and rows[vm].token == one.token)
        kept = {vm: self._intervals[vm] for vm in running}
        for vm, counters in sample.domains.items():
            before = self._intervals.get(vm)
            if before is not None and vm in self._over:
                before = begun_anew(before)
            kept[vm] = followed(before, counters, sample.started)
        self._over = {vm for vm in self._over - sample.domains.keys() if vm in kept}
        self._intervals, self._sample, self._fresh = kept, sample, True
        self._balloons = {vm: told for vm, told in self._balloons.items() if vm in rows and told[0] > sample.started}
        self._unsaid_balloons &= kept.keys()

    def balloon_changed(self, vm: VmId, kib: int, now: float) -> None:
        """An event tells a VM's balloon, which is newer than the newest sample; its record is to be said early."""
        if self._sample is not None and vm in self._sample.domains:
            self._balloons[vm] = now, kib
            self._unsaid_balloons.add(vm)

    @property
    def balloons_unsaid(self) -> bool:
        """Whether there is something for ``say_balloons`` to say."""
        return bool(self._unsaid_balloons)

    def of(self, row: Row) -> DeviceStats | None:
        """The newest sample of a VM's present life, with rates since it was last said of it.

        Until there is a sample after that, the rates are those that were said.
        """
        counters = None if self._sample is None else self._sample.domains.get(row.vm)
        if counters is None or not row.token or counters.token != row.token:
            return None
        return device_stats(self._with_balloon(row.vm, counters), self._intervals[row.vm])

    def _with_balloon(self, vm: VmId, counters: DeviceCounters) -> DeviceCounters:
        told, balloon = self._balloons.get(vm), counters.balloon
        if told is None or balloon is None:
            return counters
        return counters._replace(balloon=structs.replace(balloon, balloon_cur=told[1], balloon_target=told[1]))

    @property
    def sampled_at(self) -> float | None:
        """When the newest sample began; None before the first."""
        return None if self._sample is None else self._sample.started

    def say(self, epoch: int, rows: Iterable[Row], monotonic_ms: Callable[[float], int]) -> list[DeviceMessage]:
        """Give the messages to be said now: of those *rows* whose present life was sampled."""
        if not self.due or self._sample is None or not self._fresh:
            return []
        self.due = self._fresh = False
        self._said.clear()
        self._unsaid_balloons.clear()
        return self._records(self._sample.started, epoch, rows, monotonic_ms)

    def say_balloons(
        self, epoch: int, rows: Mapping[VmId, Row], monotonic_ms: Callable[[float], int]
    ) -> list[DeviceMessage]:
        """Give the records of the VMs whose balloons have changed, ahead of the report; it ends their intervals."""
        changed = [rows[vm] for vm in sorted(self._unsaid_balloons) if vm in rows]
        self._unsaid_balloons.clear()
        return [] if self._sample is None else self._records(self._sample.started, epoch, changed, monotonic_ms)

    def _records(
        self, sampled: float, epoch: int, rows: Iterable[Row], monotonic_ms: Callable[[float], int]
    ) -> list[DeviceMessage]:
        known = ((row, self.of(row)) for row in rows)
        records = {row.vm: DeviceRecord(row.token, stats) for row, stats in known if stats is not None}
        return [self._message(epoch, monotonic_ms(sampled), part) for part in self._cut(records)]

    def told(self, number: int) -> None:
        """The message of this number has come to the broker: its intervals are over for good."""
        self._said.pop(number, None)

    def lost(self, number: int) -> None:
        """The message of this number never came to the broker: what it said goes into the next report, now due."""
        self.due = True
        for vm, before in self._said.pop(number, {}).items():
            if vm in self._over:
                self._over.discard(vm)
            elif vm in self._intervals:
                self._intervals[vm] = joined(before, self._intervals[vm])

    def _message(self, epoch: int, monotonic_ms: int, part: dict[bytes, DeviceRecord]) -> DeviceMessage:
        self.number += 1
        said = self._said[self.number] = {VmId(vm): self._intervals[VmId(vm)] for vm in part}
        self._over.update(said)
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
