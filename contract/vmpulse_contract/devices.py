"""Device statistics as a host publishes them unasked, to an exchange of their own, every few minutes.

They are not part of its stream: ``number`` counts them apart from seq, no digest covers them, and one that is lost is
made up for by the next. Each message stands for itself; a host whose VMs do not fit one sends several.
"""

from __future__ import annotations

from msgspec import Struct

from vmpulse_contract import limits, wire
from vmpulse_contract.errors import TooManyVms
from vmpulse_contract.stream import Count, Epoch, Uuid
from vmpulse_contract.verbs import DeviceStats


class DeviceRecord(Struct, array_like=True, frozen=True):
    """The statistics of one life of a VM. ``token`` is its start token; ``stats`` has no ``stats_age``."""

    token: Count
    stats: DeviceStats


class DeviceMessage(Struct, array_like=True, frozen=True):
    """Statistics of some of a host's VMs.

    ``number`` counts these messages within the epoch, from 1. ``monotonic_ms`` is when the sample began, by the agent's
    monotonic time since its epoch began, so an age that counts from it is never too young (promise V7).
    """

    version: int
    epoch: Epoch
    number: Count
    monotonic_ms: Count
    vms: dict[Uuid, DeviceRecord]


def read_devices(raw: bytes) -> DeviceMessage:
    """Decode device statistics. Raises MessageError."""
    message = wire.read_stream(raw, DeviceMessage)
    if len(message.vms) > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(len(message.vms), "devices")
    for record in message.vms.values():
        wire.check_texts(record.stats, "devices")
    return message
