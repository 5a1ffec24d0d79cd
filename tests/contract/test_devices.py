"""Device statistics as agents of before said them: what was written is read, what does not hold together is refused."""

from __future__ import annotations

import zlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import wire
from vmpulse_contract.devices import DeviceMessage, check_map, read_devices, read_packed
from vmpulse_contract.errors import (
    MalformedMessage,
    MessageError,
    MessageTooBig,
    MistypedMessage,
    TextTooLong,
    TooManyVms,
)

VM = b"A" * 16
RECORD = [7, {"disks": {"vda": {"readRate": 1.5}}}]


def travelling(vms: object) -> bytes:
    """A message with these records."""
    return raw(zlib.compress(msgpack.packb(vms)))


def raw(packed: object) -> bytes:
    """A message with this in the place of its records."""
    return bytes(msgpack.packb([1, 5, 6, 7, packed]))


@given(wirelings.device_maps)
def test_device_round_trip(message: DeviceMessage) -> None:
    """Device statistics read back as they were, all together and each VM's out of what a reader keeps."""
    sent = wire.write(wirelings.pack_map(message))
    assert read_devices(sent) == message
    packed = read_packed(sent)
    checked = check_map(packed, packed.inflated())
    assert {vm: checked.read(checked.packed, vm) for vm in checked.vms} == message.vms


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
    assert read_devices(travelling({VM: RECORD})).vms[VM].token == 7
    with pytest.raises(MistypedMessage):
        read_devices(travelling(vms))


def test_devices_are_bounded() -> None:
    """More VMs than a host may have are refused, and so is a text that is too long, even as a device's name."""
    with pytest.raises(TooManyVms):
        read_devices(travelling({at.to_bytes(16, "big"): [7, {}] for at in range(4097)}))
    with pytest.raises(TextTooLong):
        read_devices(travelling({VM: [7, {"disks": {"x" * 257: {}}}]}))


def test_what_inflates_beyond_a_message_is_refused_before_it_does() -> None:
    """A thousandth of its size travels, and a message's worth is inflated at most."""
    bomb = zlib.compress(bytes(1 << 30), 9)
    assert len(bomb) < 1 << 20
    with pytest.raises(MessageTooBig):
        read_devices(raw(bomb))


@pytest.mark.parametrize("packed", [b"", b"no stream", zlib.compress(b"\x80")[:-1], zlib.compress(b"\x80") + b"!"])
def test_what_is_no_whole_stream_is_malformed(packed: bytes) -> None:
    """Not deflated, cut off, or followed by something."""
    with pytest.raises(MalformedMessage):
        read_devices(raw(packed))


@given(message=wirelings.device_maps, at=st.integers(0, 200), byte=st.integers(0, 255))
def test_changed_records_are_read_or_refused(message: DeviceMessage, at: int, byte: int) -> None:
    """A byte of the inflated records is another: they are read, or refused like anything else that is hostile."""
    records = bytearray(zlib.decompress(wirelings.pack_map(message).vms))
    records[at % len(records)] = byte
    try:
        read_devices(raw(zlib.compress(bytes(records))))
    except MessageError:
        return
