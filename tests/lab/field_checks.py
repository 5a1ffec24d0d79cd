"""Walks the table of fields: each is compared with an independent reading, in quiet, under load, and after changes.

What the agent says comes by its verbs and through the view; what it is held against comes from virsh, from /proc, or
from the guest. A field of the table for which nothing is compared fails the check.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab import field_cpu
from tests.lab.field_comparisons import Between
from tests.lab.field_details import DEVICE_S, REPORT_S
from tests.lab.field_log import CounterLog
from tests.lab.field_rates import ALL
from tests.lab.field_readings import Heard, Said, Seen, Viewer, heard
from tests.lab.guests import BRIDGE_ADDRESS, MEMORY_MIB
from tests.lab.lab import TICK_S, CheckFailed, Row
from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_contract.fields import FIELDS, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.checks import Bench
    from tests.lab.guests import Guest

LOOKS_BUSY: Final = 3
"""CPU shares are compared in so many looks while the guests are busy, otherwise in one."""
SETTLE_S: Final = 30.0
GUEST_AGENT: Final = frozenset({"netIfaces", "disksUsage", "guestDetails"})
GUEST_AGENT_FIELDS: Final = frozenset(
    {("status", name) for name in ("timeOffset", "username", "session", "guestIPs")} | {("deviceStats", "disksUsage")}
)
"""What the guest agent says is asked at a slow pace, so it may be behind for SETTLE_S. All else is true at once."""
DEVICE_GROUPS: Final = frozenset({"deviceStats", "memoryStats", "balloonInfo", "disksUsage", "disks", "network"})
"""Compared twice: as the verb says, and as it was published and is in the view."""
SMALLER_MIB: Final = 84
"""The balloon's size in the phase "ballooned"; with much less the guest's kernel kills its own programs."""
SWAP_MIB: Final = 24
CLOCK_OFFSET_S: Final = 7200
USER: Final = "alice"
_UTMP_USER_PROCESS: Final = 7


class Walk:
    """One walk over the table, phase by phase. ``wrong`` tells what did not hold."""

    def __init__(self, bench: Bench, log: CounterLog, viewers: contextlib.ExitStack) -> None:
        self.bench = bench
        self.lab = bench.lab
        self.guests: list[Guest] = list(bench.guests.values())
        self.log = log
        self.viewers = viewers
        self.wrong: list[str] = []
        self.expected: Row = {"clients": {}, "cpu": {}, "labels": {"zone": "lab"}, "inside": {}}

    def prepare(self) -> None:
        """Bring about what is compared: an agent that samples often, a user, a clock that is off, swap, an end."""
        for guest in self.guests:
            self.log.after(guest.uuid, 0.0)
        self.expected["agent_started"] = time.monotonic()
        devices = ("--device-s", f"{DEVICE_S:g}", "--device-report-s", f"{REPORT_S:g}")
        _restart_agent(self.bench, *devices, "--labels", "zone=lab", "--refresh-s", "10")
        for guest in self.guests:
            _log_in(guest)
            guest.order(f"dd if=/dev/zero of=/data/swap bs=1M count={SWAP_MIB} && mkswap /data/swap")
            guest.order("swapon /data/swap")
            guest.order(f"date -s @$(($(date +%s) + {CLOCK_OFFSET_S})) && hwclock -w -u")
        self.expected["users"] = {guest.uuid: USER for guest in self.guests}
        self.expected["clock"] = {guest.uuid: _clock_offset(guest) for guest in self.guests}
        self.expected["gone"], self.expected["layouts"] = self._destroyed()
        first = self._roster()
        self.expected["first_roster"] = first
        self.expected["tokens"] = {row["vm"]: row["token"] for row in first.answer["roster"]["vms"]}

    def _destroyed(self) -> tuple[Row, tuple[int, int]]:
        """The end of a domain that was only there for it, and the layouts before and after."""
        lab = self.lab
        before = self._roster().answer["roster"]["layout"]
        domain = lab.connection.defineXML(lab.hypervisor.light_domain("fields-gone"))
        vm = domain.UUIDString()
        domain.create()
        lab.until("the domain is up", lab.status_is(vm, "Up"), 10.0)
        began = self._roster()
        token = next(row["token"] for row in began.answer["roster"]["vms"] if row["vm"] == vm)
        asked = time.monotonic()
        domain.destroy()
        had = time.monotonic()
        lab.until("the domain is down", lab.status_is(vm, "Down"), 10.0)
        domain.undefine()
        lab.until("the domain is gone", lambda: lab.row(vm) is None, 10.0)
        after = self._roster()
        ended = (_agent_ms(began, asked)[0], _agent_ms(began, had + TICK_S)[1])
        gone = {"vm": vm, "token": token, "exitCode": "normal", "exitReason": "admin_shutdown"}
        return gone | {"endedMs": Between(*ended)}, (before, after.answer["roster"]["layout"])

    def _roster(self) -> Heard:
        return heard(self.lab, "getRoster")

    def compare(self, phase: str) -> int:
        """Compare all fields of all guests; gives how often that was tried.

        The guest agents' may settle. Any other that does not hold is held to the next report as well: ours is a bound
        on what a sample of unknown moment may have read, and one in thousands falls outside. Two in a row are wrong.
        """
        end = time.monotonic() + SETTLE_S
        missed = False
        for tried in itertools.count(1):
            said = Said(self.lab, [guest.uuid for guest in self.guests])
            seen = [Seen(phase, self.lab, guest, said, self.log, self.expected) for guest in self.guests]
            found = [held for one in seen for held in _all_held(one)]
            wrong = [held for held in found if held.wrong]
            if wrong and all(held.may_settle for held in wrong) and time.monotonic() < end:
                continue
            if wrong and not missed:
                missed = True
                self.bench.say(f"      {phase}: once more, for {'; '.join(held.name for held in wrong[:5])}")
                # Two looks more: longer than a report takes.
                _cpu(self, 2)
                continue
            self.wrong += [f"{held.name}: {held.wrong}" for held in wrong]
            self._count(found)
            return tried
        raise AssertionError

    def _count(self, found: list[Held]) -> None:
        for held in found:
            if held.wrong is None:
                self.bench.comparisons += held.comparisons
                (self.bench.compared if held.comparisons else self.bench.absent).add(held.field)
        self.bench.absent -= self.bench.compared


class Held(NamedTuple):
    """What a field was held against. ``comparisons``: those of something that was there, or had to be."""

    name: str
    field: str
    may_settle: bool
    comparisons: int
    wrong: str | None


def _all_held(seen: Seen) -> Iterator[Held]:
    published = seen.published()
    for field in FIELDS:
        yield _held(field, seen)
        if field.group in DEVICE_GROUPS:
            yield _held(field, published)


def _held(field: Field, seen: Seen) -> Held:
    """Compare one field."""
    of = f"{field.group}.{field.name}"
    name = f"{seen.phase}: {seen.guest.name}: {of}{'' if seen.fresh else ' (published)'}"
    may_settle = field.group in GUEST_AGENT or (field.group, field.name) in GUEST_AGENT_FIELDS
    comparison = ALL.get((field.group, field.name))
    if comparison is None:
        return Held(name, of, False, 0, "nothing is compared")
    try:
        pairs = list(comparison(seen))
    except (CheckFailed, KeyError, OSError, StopIteration, ValueError, TypeError, AttributeError) as error:
        return Held(name, of, may_settle, 0, f"could not be compared: {type(error).__name__}: {error}")
    wrong = [f"{said!r} is said, true is {true!r}" for said, true in pairs if true != said]
    if not pairs:
        wrong.append("nothing was there to compare")
    return Held(name, of, may_settle, sum(true is not None for _, true in pairs), "; ".join(wrong) or None)


def _agent_ms(heard: Heard, moment: float) -> tuple[float, float]:
    """Bounds of the agent's monotonic time, in ms, at a moment of ours."""
    said = heard.answer["monotonicMs"]
    return said + 1000 * (moment - heard.had) - 50, said + 1000 * (moment - heard.asked) + 50


def _log_in(guest: Guest) -> None:
    """Write a record of a user who is logged in: there is no login in these guests, and qemu-ga reads utmp."""
    record = struct.pack(
        "hxxi32s4s32s256shhiii16s20x", _UTMP_USER_PROCESS, 1, b"tty1", b"1", USER.encode(), b"", 0, 0, 0, 1, 0, b""
    )
    guest.order(f"echo {base64.b64encode(record).decode()} | base64 -d >/run/utmp")


def _clock_offset(guest: Guest) -> int:
    """How far the guest's hardware clock is off the host's."""
    return int(guest.order("cat /sys/class/rtc/rtc0/since_epoch")) - round(time.time())


def _cpu(walk: Walk, looks: int = 1) -> None:
    walk.expected["cpu"] = field_cpu.watch(walk.lab, walk.guests, looks)


def _idle(walk: Walk) -> None:
    for guest in walk.guests:
        guest.load()
    _cpu(walk)


def _busy(walk: Walk) -> None:
    """CPU, disk and network, and memory that has to be swapped; somebody looks on."""
    for guest in walk.guests:
        guest.load("cpu", "disk", "net", "memory")
        port = int(safe_xml.parse(guest.domain.XMLDesc(0)).find("devices/graphics").get("port", ""))  # type: ignore[union-attr]
        walk.viewers.enter_context(Viewer(guest, BRIDGE_ADDRESS, port))
        walk.expected["clients"][guest.uuid] = BRIDGE_ADDRESS
    _cpu(walk, LOOKS_BUSY)


def _ballooned(walk: Walk) -> None:
    walk.viewers.close()
    walk.expected["clients"].clear()
    for guest in walk.guests:
        guest.load()
        guest.domain.setMemory(SMALLER_MIB << 10)
    for guest in walk.guests:
        _reaches(walk, guest, SMALLER_MIB)
    _cpu(walk)


def _reaches(walk: Walk, guest: Guest, mib: int) -> None:
    walk.lab.until(f"{guest.name} has {mib} MiB", lambda: guest.domain.info()[2] == mib << 10, SETTLE_S)


def _suspended(walk: Walk) -> None:
    for guest in walk.guests:
        guest.domain.suspend()
    _cpu(walk)


def _rebooted(walk: Walk) -> None:
    """From inside; the balloon is whole again, the user is gone, the clock stays off."""
    for guest in walk.guests:
        guest.domain.resume()
        guest.domain.setMemory(MEMORY_MIB << 10)
        _reaches(walk, guest, MEMORY_MIB)
        guest.tell("reboot -f")
    for guest in walk.guests:
        guest.close()
        guest.wait()
        walk.expected["users"][guest.uuid] = None
    _cpu(walk)


PHASES: Final[dict[str, Callable[[Walk], None]]] = {
    "idle": _idle,
    "busy": _busy,
    "ballooned": _ballooned,
    "suspended": _suspended,
    "rebooted": _rebooted,
}


def every_field_is_true(bench: Bench) -> None:
    """Each field of the table is what virsh, /proc and the guest say: idle, busy, ballooned, suspended, rebooted."""
    if not bench.guests:
        raise CheckFailed("no guest has booted")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(CounterLog(bench.lab.hypervisor.uri_read_only, bench.guests.values()))
        stack.callback(_restart_agent, bench)
        walk = Walk(bench, log, stack.enter_context(contextlib.ExitStack()))
        walk.prepare()
        for phase, enter in PHASES.items():
            began, before = time.monotonic(), len(walk.wrong)
            enter(walk)
            tried = walk.compare(phase)
            took = time.monotonic() - began
            bench.say(f"      {phase}: {len(walk.wrong) - before} wrong, compared {tried} times ({took:.1f} s)")
            for text in walk.wrong[before:]:
                bench.say(f"        {text}")
        if walk.wrong:
            raise CheckFailed(f"{len(walk.wrong)} comparisons do not hold, see above")


def _restart_agent(bench: Bench, *options: str) -> None:
    lab = bench.lab
    lab.agent.stop()
    lab.agent = lab.start_agent(options=options)
    lab.until("the host is live again", lambda: lab.host()["state"] == "live", 15.0)


CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (every_field_is_true,)
