"""What the host knows of its VMs, and what it has announced of that: the one source of frames, rosters and replies.

Rules of this file. *Current* is what was last read; *announced* is what the stream last said. They differ only while an
event is damped or the broker is away, and everything that leaves the host (digest, roster, verb replies) speaks of
announced values, so that no reply can run ahead of the stream. A section's hash belongs to one incarnation: a new start
token forgets info, status and guestDetails, because the old values describe a life that is over; config describes the
definition and stays.

No I/O and no clock: times are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_contract import columns, sections
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_agent.hypervisor import DomainLook
    from vmpulse_contract.columns import Column
    from vmpulse_contract.identity import VmId

CPU_WINDOW_S: Final = 1.0
"""Shortest span over which a CPU share is computed: libvirt's counters move in steps of up to 10 ms, 1 % of this."""

SECTIONS: Final = tuple(Section)


class Row:
    """One VM: its incarnation, its runtime values, and its sections, current and announced."""

    __slots__ = (
        "announced",
        "before",
        "began_with",
        "bodies",
        "cpu_at",
        "cpu_sys",
        "cpu_system_ns",
        "cpu_time_ns",
        "cpu_user",
        "current",
        "current_bodies",
        "elapsed_at",
        "elapsed_ms",
        "mem_usage",
        "monitor_response",
        "sampled_at",
        "silent_since",
        "silent_until",
        "status",
        "token",
        "vm",
    )

    def __init__(self, look: DomainLook, started: float) -> None:
        self.vm = look.vm
        self.token = look.token
        self.began_with = 0
        """The layout that its life came with; 0: none yet."""
        self.status = look.status
        self.sampled_at = started
        self.monitor_response = 0
        self.silent_since: float | None = None
        """Start of the first look in which the monitor was asked and silent; None since it last answered."""
        self.silent_until = 0.0
        """Start of the last such look."""
        self.current = [ABSENT] * len(SECTIONS)
        self.current_bodies = [b""] * len(SECTIONS)
        self.before = [ABSENT] * len(SECTIONS)
        """What was current until the last change: a section that returns to it flaps."""
        self.announced = [ABSENT] * len(SECTIONS)
        self.bodies = [b""] * len(SECTIONS)
        self._forget_values()

    def _forget_values(self) -> None:
        self.cpu_user: int | None = None
        self.cpu_sys: int | None = None
        self.mem_usage: int | None = None
        self.elapsed_ms: int | None = None
        self.elapsed_at = 0.0
        self.cpu_time_ns: int | None = None
        self.cpu_system_ns: int | None = None
        self.cpu_at = 0.0

    def reincarnate(self, token: int) -> None:
        """Begin a new life, or none (token 0): what was said of the old one is no longer known."""
        self.token = token
        self.began_with = 0
        self.monitor_response = 0
        self.silent_since = None
        self._forget_values()
        for section in BODIED:
            self.current[section] = self.before[section] = self.announced[section] = ABSENT
            self.current_bodies[section] = self.bodies[section] = b""

    def observe(self, look: DomainLook, started: float) -> None:
        """Take in one look at the same incarnation."""
        self.status = look.status
        self.observe_values(look, started)

    def observe_values(self, look: DomainLook, started: float) -> None:
        """Take in what a look says beside the status."""
        if look.elapsed_ms is not None:
            self.elapsed_ms, self.elapsed_at = look.elapsed_ms, started
        if not look.answered:
            if look.answered is False:
                self.silent_until = started
                if self.silent_since is None:
                    self.silent_since = started
            return
        self.silent_since = None
        if self.cpu_user is not None and started - self.cpu_at < CPU_WINDOW_S:
            return  # too soon for a new share; the old one must not be passed off as younger (promise V7)
        self.sampled_at = started
        self.mem_usage = look.mem_usage
        self._observe_cpu(look.cpu_time_ns, look.cpu_system_ns, started)

    def _observe_cpu(self, time_ns: int | None, system_ns: int | None, started: float) -> None:
        """Share out the growth: cpuSys is that of ``cpu.system``, cpuUser the rest of ``cpu.time``; never negative."""
        span = started - self.cpu_at
        if time_ns is None:
            self.cpu_user = self.cpu_sys = self.cpu_time_ns = None
            return
        if self.cpu_time_ns is None:
            self.cpu_time_ns, self.cpu_system_ns, self.cpu_at = time_ns, system_ns, started
            return
        if span < CPU_WINDOW_S:
            return
        to_units = 1e-6 / span  # ns in *span* seconds -> tenths of a percent of one CPU
        total = time_ns - self.cpu_time_ns
        if system_ns is None or self.cpu_system_ns is None or total < 0 or system_ns < self.cpu_system_ns:
            # Counters that fell began anew: the growth is unknown, which is not 0.
            self.cpu_user = self.cpu_sys = None
        else:
            # The two are read one after the other, so system may have grown by a step more than the whole.
            system = min(system_ns - self.cpu_system_ns, total)
            self.cpu_sys = round(system * to_units)
            self.cpu_user = round((total - system) * to_units)
        self.cpu_time_ns, self.cpu_system_ns, self.cpu_at = time_ns, system_ns, started

    def elapsed(self, now: float) -> int | None:
        """How many milliseconds the incarnation has been running at *now*."""
        if not self.token or self.elapsed_ms is None:
            return None
        return self.elapsed_ms + max(0, int((now - self.elapsed_at) * 1000))

    def hold(self, section: Section, body: bytes) -> bool:
        """Take in a section as read. Tells whether it now differs from what was announced."""
        now = sections.section_hash(section, body)
        if now != self.current[section]:
            self.before[section], self.current[section] = self.current[section], now
        self.current_bodies[section] = body if section in BODIED else b""
        return self.current[section] != self.announced[section]

    def announce(self, section: Section) -> tuple[int, int]:
        """Make the current value the announced one. Gives (hash, previous hash)."""
        previous = self.announced[section]
        self.announced[section] = self.current[section]
        self.bodies[section] = self.current_bodies[section]
        return self.announced[section], previous


class Ledger:
    """All VMs of the host, in layout order."""

    def __init__(self) -> None:
        self.rows: dict[VmId, Row] = {}
        self.order: list[Row] = []
        self.layout = 0
        self._packed_ids = b""
        self._packed_hashes: bytes | None = None
        self._digest = 0

    def __len__(self) -> int:
        return len(self.order)

    def relayout(self) -> None:
        """Membership, order or a start token has changed: order anew (by id) and count the layout up."""
        self.order = [self.rows[vm] for vm in sorted(self.rows)]
        self.layout += 1
        for row in self.order:
            row.began_with = row.began_with or self.layout
        self._packed_ids = b"".join(row.vm for row in self.order)
        self._packed_hashes = None

    def touched(self) -> None:
        """Some announced hash has changed."""
        self._packed_hashes = None

    def announced_hashes(self) -> bytes:
        """The announced hashes as rosters and digests pack them."""
        if self._packed_hashes is None:
            self._packed_hashes = columns.to_bytes("Q", [value for row in self.order for value in row.announced])
            self._digest = sections.digest(self._packed_ids, self._packed_hashes)
        return self._packed_hashes

    def digest(self) -> int:
        """The digest over all that is announced."""
        self.announced_hashes()
        return self._digest

    def unannounced(self) -> Iterator[tuple[Row, Section]]:
        """Give every section whose current value the stream has not told yet."""
        for row in self.order:
            for section in SECTIONS:
                if row.current[section] != row.announced[section]:
                    yield row, section

    def announce_all(self) -> None:
        """Announce everything current at once: the next roster tells it."""
        for row, section in list(self.unannounced()):
            row.announce(section)
        self.touched()

    def runtime_columns(self, now: float) -> tuple[Column, Column, Column, Column, Column]:
        """The columns of a frame at *now*, in wire order."""
        order = self.order
        return (
            columns.pack([None if row.status is VmStatus.UNKNOWN else row.status for row in order]),
            columns.pack([row.cpu_user for row in order]),
            columns.pack([row.cpu_sys for row in order]),
            columns.pack([row.mem_usage for row in order]),
            self._ages(now),
        )

    def _ages(self, now: float) -> Column:
        sampled = [row.sampled_at for row in self.order]
        oldest = min(sampled, default=now)
        if oldest == max(sampled, default=now):
            return age_units(now - oldest)
        return columns.pack([age_units(now - at) for at in sampled])


def age_units(seconds: float) -> int:
    """Write an age in AGE_UNIT of a frame, rounded up: an age is never too young (promise V7)."""
    return max(0, -int(-seconds * 10 // 1))
