"""The size of a frame, which 25,000 hosts send every 3 seconds."""

from __future__ import annotations

import msgspec
import pytest

from benches.frame import VMS, as_maps, realistic_frame
from vmpulse_contract import stream
from vmpulse_contract.values import VmStatus

LARGEST_BYTES_PER_VM = 7.0
BYTE = 127
"""Up to here msgpack takes one byte for a number."""


@pytest.mark.parametrize("seed", range(50))
def test_bytes_per_vm(seed: int) -> None:
    """A realistic frame takes at most 7.0 bytes for each VM, header and the host's own statistics included."""
    ids, raw = realistic_frame(seed)
    assert len(ids) == VMS
    assert len(raw) / VMS <= LARGEST_BYTES_PER_VM


def test_the_frame_is_realistic() -> None:
    """The frame holds what makes frames big: a 64-vCPU VM at 6,400 %, unknown values, an old age, a host in need."""
    ids, raw = realistic_frame(1)
    frame = stream.read_frame(raw)
    values = as_maps(ids, frame)
    assert frame.host_stats is not None
    assert min(msgspec.structs.astuple(frame.host_stats)) > BYTE
    shares = [float(str(vm["cpuUser"])) + float(str(vm["cpuSys"])) for vm in values if "cpuUser" in vm]
    assert max(shares) == pytest.approx(6400, abs=0.2)
    assert len({vm.get("cpuUser") for vm in values}) > VMS / 2
    assert len({vm.get("memUsage") for vm in values}) > VMS / 3
    assert sum("cpuUser" not in vm for vm in values) == 1
    assert sorted({str(vm["statsAge"]) for vm in values}) == ["0.1", "47.3"]
    assert {vm["status"] for vm in values} == {VmStatus.UP, VmStatus.DOWN, VmStatus.PAUSED}
