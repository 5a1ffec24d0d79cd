"""What a view costs alone, as the bench measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from benches.view_alone import VMS, Report
from tests.benches.running import bench

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = 50
MOST_BYTES = 1050
"""Of a VM with all its sections, as Python asks for them; 946 as this is written."""


def measured(folder: Path, *options: str) -> Report:
    """Run the bench in a process of its own, for a table of this one that grows would be counted too."""
    with bench(folder, "benches.view_alone", *options) as program:
        out, err = program.communicate()
    assert program.returncode == 0, err
    return msgspec.json.decode(out, type=Report)


def test_a_vm_takes_no_more_than_it_did(tmp_path: Path) -> None:
    """A VM of which nothing is any other's takes about a kilobyte, device statistics apart."""
    report = measured(tmp_path, "--hosts", str(HOSTS), "--traced")
    assert report.vms == HOSTS * VMS
    assert report.bytes_with_sections < MOST_BYTES
    assert report.bytes_with_devices > report.bytes_with_sections
    assert any(place.where.startswith("consumers/") for place in report.largest)


def test_messages_are_timed(tmp_path: Path) -> None:
    """Without tracing each kind of message has a cost."""
    report = measured(tmp_path, "--hosts", "2")
    assert report.frame_us
    assert report.devices_us
    assert not report.largest
