"""Walks the table of fields: each is compared with an independent reading, in quiet, under load, and after changes.

What the agent says comes by its verbs and through the view; what it is held against comes from virsh, from /proc, or
from the guest. A field of the table for which nothing is compared fails the check.
"""

from __future__ import annotations

import base64
import contextlib
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tests.lab.field_comparisons import COMPARISONS, Between
from tests.lab.field_details import DEVICE_S
from tests.lab.field_log import TICKS, CounterLog, process_ticks
from tests.lab.field_readings import Heard, Said, Seen, Viewer
from tests.lab.guests import BRIDGE_ADDRESS, MEMORY_MIB
from tests.lab.lab import TICK_S, CheckFailed, Row
from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_contract.fields import FIELDS, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.checks import Bench
    from tests.lab.guests import Guest
    from tests.lab.lab import Lab

CPU_S: Final = 15.0
"""CPU shares are averaged over so long, idle and busy; elsewhere over SHORT_S."""
SHORT_S: Final = 10.0
SETTLE_S: Final = 30.0
"""What the guest agent says is asked at a slow pace; until then a field may be behind."""
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
        self.expected: Row = {"clients": {}, "cpu": {}, "labels": {"zone": "lab"}}

    def prepare(self) -> None:
        """Bring about what is compared: an agent that samples often, a user, a clock that is off, swap, an end."""
        for guest in self.guests:
            self.log.after(guest.uuid, 0.0)
        self.expected["agent_started"] = time.monotonic()
        _restart_agent(self.bench, "--device-s", f"{DEVICE_S:g}", "--labels", "zone=lab", "--refresh-s", "10")
        for guest in self.guests:
            _log_in(guest)
            guest.order(f"dd if=/dev/zero of=/data/swap bs=1M count={SWAP_MIB} && mkswap /data/swap")
            guest.order("swapon /data/swap")
            guest.order(f"date -s @$(($(date +%s) + {CLOCK_OFFSET_S})) && hwclock -w -u")
        self.expected["users"] = {guest.uuid: USER for guest in self.guests}
        self.expected["clock"] = {guest.uuid: _clock_offset(guest) for guest in self.guests}
        self.expected["gone"], self.expected["layouts"] = self._destroyed()
        first = Said(self.lab, [guest.uuid for guest in self.guests]).verbs["getRoster"]
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
        return Said(self.lab, []).verbs["getRoster"]

    def compare(self, phase: str) -> None:
        """Compare all fields of all guests; what differs may settle for a while."""
        end = time.monotonic() + SETTLE_S
        while True:
            said = Said(self.lab, [guest.uuid for guest in self.guests])
            seen = [Seen(phase, self.lab, guest, said, self.log, self.expected) for guest in self.guests]
            wrong = [text for one in seen for text in self._differences(one)]
            if not wrong or time.monotonic() > end:
                break
        self.wrong += wrong

    def _differences(self, seen: Seen) -> Iterator[str]:
        for field in FIELDS:
            name = f"{seen.phase}: {seen.guest.name}: {field.group}.{field.name}"
            text = _difference(field, seen)
            if text is None:
                self.bench.compared.add(name)
            else:
                yield f"{name}: {text}"


def _difference(field: Field, seen: Seen) -> str | None:
    """What is wrong with a field, or None."""
    comparison = COMPARISONS.get((field.group, field.name))
    if comparison is None:
        return "nothing is compared"
    try:
        pairs = list(comparison(seen))
    except (CheckFailed, KeyError, OSError, StopIteration, ValueError, TypeError, AttributeError) as error:
        return f"could not be compared: {type(error).__name__}: {error}"
    wrong = [f"{said!r} is said, true is {true!r}" for said, true in pairs if true != said]
    return "; ".join(wrong) or (None if pairs else "nothing was there to compare")


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


class Looks:
    """What ticks say of a guest's CPU shares, and what /proc says all the while."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._said: dict[float, Row] = {}
        self._ticks: list[tuple[float, dict[str, int]]] = []

    def note(self, lab: Lab) -> None:
        """Read both once."""
        asked = time.monotonic()
        self._ticks.append((asked, process_ticks(self._guest.pid)))
        row = lab.row(self._guest.uuid) or {}
        at = asked - row.get("age_s", 0.0)
        # A look of before our first reading of /proc has nothing to be held against.
        earliest = max(self._said) + TICK_S / 2 if self._said else self._ticks[0][0]
        if "cpuUser" in row and at >= earliest:
            self._said[at] = row

    def shares(self) -> dict[str, tuple[float, float]]:
        """By counter of /proc: the mean of what was said, and the truth. What is said is of the time since the last."""
        times = sorted(self._said)
        if len(times) < 3:
            raise CheckFailed(f"only {len(times)} looks at {self._guest.name}")
        begin, end = (min(self._ticks, key=lambda one, at=at: abs(one[0] - at)) for at in (times[0], times[-1]))  # type: ignore[misc]
        found = {}
        for name, counter in (("cpuUser", "utime"), ("cpuSys", "stime")):
            said = sum(self._said[last][name] * (last - first) for first, last in pairwise(times))
            true = 100 * (end[1][counter] - begin[1][counter]) / TICKS / (end[0] - begin[0])
            found[counter] = (said / (times[-1] - times[0]), true)
        return found


def _cpu(walk: Walk, seconds: float = SHORT_S) -> None:
    """Average what ticks say over a while, and take the growth in /proc over the same time."""
    looks = {guest.uuid: Looks(guest) for guest in walk.guests}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in looks.values():
            one.note(walk.lab)
        time.sleep(0.1)
    walk.expected["cpu"] = {vm: one.shares() for vm, one in looks.items()}


def _idle(walk: Walk) -> None:
    for guest in walk.guests:
        guest.load()
    _cpu(walk, CPU_S)


def _busy(walk: Walk) -> None:
    """CPU, disk and network, and memory that has to be swapped; somebody looks on."""
    for guest in walk.guests:
        guest.load("cpu", "disk", "net", "memory")
        port = int(safe_xml.parse(guest.domain.XMLDesc(0)).find("devices/graphics").get("port", ""))  # type: ignore[union-attr]
        walk.viewers.enter_context(Viewer(guest, BRIDGE_ADDRESS, port))
        walk.expected["clients"][guest.uuid] = BRIDGE_ADDRESS
    _cpu(walk, CPU_S)


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
            walk.compare(phase)
            bench.say(f"      {phase}: {len(walk.wrong) - before} wrong ({time.monotonic() - began:.1f} s)")
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
