"""What the events that are kept take of the view's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
from pathlib import Path
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Teller
from vmpulse_consumers.view.events import VmSectionHeld
from vmpulse_contract.identity import VmId, host_id
from vmpulse_contract.sections import Info, Section, encode, section_hash

def resident():
    rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return next(int(row[1]) * 1024 for row in rows if row[0] == "Rss:")

def tell(count):
    for number in range(count):
        text = "x" * (number % 256)
        body = encode(Info(vm_name=text, vm_type=text, cdrom=text, display_ip=text))
        teller.tell([VmSectionHeld(vm, host, Section.INFO, section_hash(Section.INFO, body), body, "web")])

log = EventLog("ab12")
teller, vm, host = Teller("main", log), VmId(bytes(16)), host_id("h001")
tell(1000)
before, counted = resident(), log.size
tell(20_000)
print((resident() - before) / (log.size - counted))
"""


def test_events_take_what_is_counted_for_them() -> None:
    """20,000 events of all lengths take no more memory than the log counts, by which it is bounded, and a twentieth."""
    done = subprocess.run((sys.executable, "-c", SCRIPT), cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.05
