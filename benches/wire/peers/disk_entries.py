"""What VDSM says of one disk of a VM: sizes, counters, and rates over the time between two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from vmpulse_agent.hypervisor import DiskCounters

if TYPE_CHECKING:
    from benches.wire.peers.entries import Entry

EMPTY: Final = DiskCounters("sdc")
"""The CD drive that every VM has, without a medium that counts anything."""


def disk_entry(now: DiskCounters, before: DiskCounters | None, span_s: float, *, full: bool) -> Entry:
    """One disk, with rates over the time between two samples; *full*: what came after 2013 too."""
    spans = Spans(now, before or now, span_s)
    disk: Entry = {
        "truesize": str(now.truesize or 0),
        "apparentsize": str(now.apparentsize or 0),
        "readLatency": spans.latency(now.read_time_ns, spans.before.read_time_ns, now.read_ops, spans.before.read_ops),
        "writeLatency": spans.latency(
            now.write_time_ns, spans.before.write_time_ns, now.write_ops, spans.before.write_ops
        ),
        "flushLatency": spans.latency(
            now.flush_time_ns, spans.before.flush_time_ns, now.flush_ops, spans.before.flush_ops
        ),
        "readRate": spans.rate(now.read_bytes, spans.before.read_bytes),
        "writeRate": spans.rate(now.written_bytes, spans.before.written_bytes),
    }
    if now.image_id is not None:
        disk["imageID"] = str(uuid5(NAMESPACE_OID, now.image_id))
    if full:
        disk |= {
            "writtenBytes": str(now.written_bytes or 0),
            "writeOps": str(now.write_ops or 0),
            "readOps": str(now.read_ops or 0),
            "readBytes": str(now.read_bytes or 0),
        }
    return disk


class Spans(NamedTuple):
    """Growth of a disk's counters between two samples."""

    now: DiskCounters
    before: DiskCounters
    span_s: float

    def rate(self, now: int | None, before: int | None) -> str:
        """Bytes a second."""
        return f"{((now or 0) - (before or 0)) / self.span_s:.2f}"

    @staticmethod
    def latency(time_ns: int | None, time_before: int | None, ops: int | None, ops_before: int | None) -> str:
        """Nanoseconds for each operation; 0 where there was none."""
        grown = (ops or 0) - (ops_before or 0)
        return f"{((time_ns or 0) - (time_before or 0)) / grown:.2f}" if grown else "0.00"
