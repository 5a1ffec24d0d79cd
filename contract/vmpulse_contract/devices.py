"""Device statistics as a host publishes them unasked, to an exchange of their own, every few minutes.

They are not part of its stream: ``number`` counts them apart from seq, no digest covers them, and one that is lost is
made up for by the next. Each message stands for itself; a host whose VMs do not fit one sends several.

Agents say them by columns (``device_columns``). Those of before said a map of records, deflated, under another routing
key; that is read here, and nobody writes it any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from vmpulse_contract import limits, wire
from vmpulse_contract.deflation import inflate
from vmpulse_contract.errors import DeviceStatsTooBig, TooManyDevices, TooManyVms
from vmpulse_contract.stream import Count, Epoch, Uuid
from vmpulse_contract.verbs import DeviceStats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class DeviceRecord(Struct, array_like=True, frozen=True):
    """The statistics of one life of a VM. ``token`` is its start token; ``stats`` has no ``stats_age``."""

    token: Count
    stats: DeviceStats


class DeviceMessage(Struct, frozen=True):
    """Statistics of some of a host's VMs, as read.

    ``number`` counts these messages within the epoch, from 1. ``monotonic_ms`` is when the sample began, by the agent's
    monotonic time since its epoch began, so an age that counts from it is never too young (promise V7).
    """

    version: int
    epoch: Epoch
    number: Count
    monotonic_ms: Count
    vms: dict[Uuid, DeviceRecord]


class CheckedDevices(NamedTuple):
    """A message that was held to all rules, and what it says of ``vms`` still packed as it came.

    ``read`` gives one VM's record out of ``packed``, which is not checked again.
    """

    epoch: int
    number: int
    monotonic_ms: int
    vms: Collection[bytes]
    packed: bytes
    read: Callable[[bytes, bytes], DeviceRecord]


def check_stats(stats: DeviceStats) -> None:
    """Hold one VM's statistics to the limits, but for their size. Raises MessageError."""
    wire.check_texts(stats, "devices")
    for devices in (stats.disks, stats.network, stats.disks_usage):
        if devices is not None and len(devices) > limits.DEVICES_PER_VM.maximum:
            raise TooManyDevices(len(devices), "devices")


def check_record(record: DeviceRecord) -> None:
    """Hold one VM's record of a map to the limits. Raises MessageError."""
    check_stats(record.stats)
    size = len(wire.write(record.stats))
    if size > limits.DEVICE_STATS_BYTES.maximum:
        raise DeviceStatsTooBig(size, "devices")


class PackedDevices(Struct, array_like=True, frozen=True):
    """A message as it travels: ``vms`` is a zlib stream (RFC 1950) of columns, or of the msgpack map of before."""

    version: int
    epoch: Epoch
    number: Count
    monotonic_ms: Count
    vms: bytes

    def inflated(self) -> bytes:
        """The columns, or the map, inflated. Raises MessageError."""
        return inflate(self.vms, "devices")


def read_packed(raw: bytes) -> PackedDevices:
    """Decode a message, but for the statistics in it, which cost far more. Raises MessageError."""
    return wire.read_stream(raw, PackedDevices)


class _Records(Struct, array_like=True):
    vms: dict[Uuid, DeviceRecord]


def read_devices(raw: bytes) -> DeviceMessage:
    """Decode device statistics that are a map. Raises MessageError."""
    packed = read_packed(raw)
    return DeviceMessage(packed.version, packed.epoch, packed.number, packed.monotonic_ms, _records(packed.inflated()))


def _records(inflated: bytes) -> dict[Uuid, DeviceRecord]:
    vms = wire.shape((wire.unpack(inflated),), _Records).vms
    if len(vms) > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(len(vms), "devices")
    for record in vms.values():
        check_record(record)
    return vms


def check_map(packed: PackedDevices, inflated: bytes) -> CheckedDevices:
    """Hold device statistics that are a map to all rules, and leave them as they came. Raises MessageError.

    *inflated* is what those of the message inflate to.
    """
    head = packed.epoch, packed.number, packed.monotonic_ms
    return CheckedDevices(*head, _records(inflated).keys(), packed.vms, record_in_map)


def record_in_map(packed: bytes, vm: bytes) -> DeviceRecord:
    """Read what a map that was checked says of a VM. Raises KeyError if it says nothing of it."""
    vms = wire.unpack(inflate(packed, "devices"))
    if not isinstance(vms, dict):
        raise KeyError(vm)
    return wire.shape(vms[vm], DeviceRecord)
