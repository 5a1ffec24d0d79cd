"""What a chaos run tells at its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benches.chaos.report import Report
from benches.chaos.resident import Resident, memory_of


def report(**found: int) -> Report:
    """A report of a run that has found this."""
    nothing = dict.fromkeys(("mismatched_vms", "wrong_down", "wrong_lost", "double_owner"), 0)
    return Report(
        seed=1,
        seconds=60.0,
        hosts=5,
        vms=20,
        rounds=3,
        faults={},
        time_to_truth_s=None,
        polls=90,
        rss_mb={},
        peak_rss_mb={},
        **(nothing | found),
    )


@pytest.mark.parametrize("what", ["mismatched_vms", "wrong_down", "wrong_lost", "double_owner"])
def test_anything_wrong_is_not_clean(what: str) -> None:
    """Each of the four makes the run fail; without any it is clean."""
    assert report().clean
    assert not report(**{what: 1}).clean


def test_memory_is_read_from_the_kernel() -> None:
    """Resident memory in MB of 10^6 bytes; a process that has ended has none, and what it had stays known."""
    assert memory_of("Name:\tx\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\n") == {"VmHWM": 2.0, "VmRSS": 1.0}
    assert memory_of("Name:\tx\nState:\tZ (zombie)\n") == {}
    resident = Resident()
    resident.sample({"bench": os.getpid()})
    before = resident.now["bench"]
    assert 5 < before <= resident.peak["bench"]
    nobody = next(pid for pid in range(1 << 22, 1, -1) if not Path(f"/proc/{pid}").exists())
    resident.sample({"bench": nobody})
    assert resident.now == {"bench": before}
