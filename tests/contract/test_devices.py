"""Device statistics on the wire: what was written is read, and what does not hold together is refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given

from tests.contract import wirelings
from vmpulse_contract import wire
from vmpulse_contract.devices import DeviceMessage, read_devices
from vmpulse_contract.errors import MistypedMessage, TextTooLong, TooManyVms

VM = b"A" * 16
RECORD = [7, {"disks": {"vda": {"readRate": 1.5}}}]
DEVICES = [1, 5, 6, 7, {VM: RECORD}]


@given(wirelings.device_messages)
def test_device_round_trip(message: DeviceMessage) -> None:
    """Device statistics read back as they were."""
    assert read_devices(wire.write(message)) == message


@pytest.mark.parametrize(
    "vms",
    [
        None,
        [],
        {b"A" * 15: RECORD},
        {"A" * 16: RECORD},
        {VM: RECORD[1]},
        {VM: [7]},
        {VM: [-1, {}]},
        {VM: [7, {"disks": {"vda": {"readRate": -1.0}}}]},
        {VM: [7, {"disks": {"vda": {"readRate": float("nan")}}}]},
    ],
)
def test_devices_refuse(vms: object) -> None:
    """Statistics of no VM, without a token, or with what is no measurement, are mistyped."""
    assert read_devices(msgpack.packb(DEVICES)).vms[VM].token == 7
    with pytest.raises(MistypedMessage):
        read_devices(msgpack.packb([*DEVICES[:4], vms]))


def test_devices_are_bounded() -> None:
    """More VMs than a host may have are refused, and so is a text that is too long, even as a device's name."""
    with pytest.raises(TooManyVms):
        read_devices(msgpack.packb([*DEVICES[:4], {at.to_bytes(16, "big"): [7, {}] for at in range(4097)}]))
    with pytest.raises(TextTooLong):
        read_devices(msgpack.packb([*DEVICES[:4], {VM: [7, {"disks": {"x" * 257: {}}}]}]))
