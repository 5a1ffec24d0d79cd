"""Each field of the contract against an independent reading: one function for each, by group and name.

A function yields pairs: what the agent says, and what it must be. Expected is a value, or ``Between`` where what is
compared moves on meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Final

import msgspec

from tests.lab.field_log import SAMPLE_S, uptime
from tests.lab.field_readings import Heard, Seen, cpu_count, host_memory
from tests.lab.lab import TICK_S
from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_contract import sections
from vmpulse_contract.sections import SECTION_BY_LABEL, GuestDetails, Info, Section, SectionBody, Status

Pair = tuple[object, object]
Comparison = Callable[[Seen], Iterator[Pair]]

CPU_POINTS: Final = 5.0
"""How far a share of CPU may be off in all, in percentage points."""
CPU_PART_POINTS: Final = 3.0
"""The same for the user's and the system's part: both sides read each in steps of 10 ms, twice, of 1.5 s to 3 s."""
AGE_GRAIN_S: Final = 0.005
START_GRAIN_S: Final = 0.05
"""The start of a process is known to 10 ms; the clocks are not read at one moment."""
SLOT_KIB: Final = 1024
"""How far a figure of the guest's memory may move while it is read twice in quiet."""


BODIES: Final[dict[Section, type[SectionBody]]] = {
    Section.INFO: Info,
    Section.STATUS: Status,
    Section.GUEST_DETAILS: GuestDetails,
}


@dataclass(frozen=True, eq=False)
class Between:
    """Equal to any number from *low* to *high*."""

    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float) and self.low <= other <= self.high

    __hash__ = object.__hash__


COMPARISONS: Final[dict[tuple[str, str], Comparison]] = {}


def compares(group: str, *names: str) -> Callable[[Comparison], Comparison]:
    """Register a function for one field, or for several that it compares alike."""

    def register(comparison: Comparison) -> Comparison:
        COMPARISONS.update(dict.fromkeys(((group, name) for name in names), comparison))
        return comparison

    return register


# --- list, runtime, hashes ------------------------------------------------------------------------------------------


def _state(seen: Seen) -> str:
    return {"running": "Up", "paused": "Paused"}[seen.virsh("domstate", "DOMAIN").strip()]


@compares("list", "status")
def _listed_status(seen: Seen) -> Iterator[Pair]:
    yield seen.record("list")["status"], _state(seen)


@compares("list", "vmName")
def _listed_name(seen: Seen) -> Iterator[Pair]:
    yield seen.record("list")["vmName"], seen.virsh("domname", "DOMAIN").strip()


@compares("runtime", "status")
def _status(seen: Seen) -> Iterator[Pair]:
    yield seen.record("getAllRuntimeStats")["status"], _state(seen)
    yield seen.said.rows[seen.vm]["status"], _state(seen)


def _cpu(name: str) -> Comparison:
    """Look by look, against the growth in /proc over the same time; measured by the check. Both together as well."""

    def compare(seen: Seen) -> Iterator[Pair]:
        for share in seen.expected["cpu"][seen.vm]:
            low, high = share.true[name]
            yield share.said[name], Between(low - CPU_PART_POINTS, high + CPU_PART_POINTS)
            low, high = share.true["total"]
            yield share.said["total"], Between(low - CPU_POINTS, high + CPU_POINTS)

    return compare


compares("runtime", "cpuUser")(_cpu("cpuUser"))
compares("runtime", "cpuSys")(_cpu("cpuSys"))


@compares("runtime", "memUsage")
def _mem_usage(seen: Seen) -> Iterator[Pair]:
    heard = seen.verb("getAllRuntimeStats")
    readings = seen.log.between(seen.vm, heard.asked - 3 * TICK_S, heard.had)
    shares = [100 - 100 * one.values["memory.usable"] / one.values["memory.available"] for one in readings]
    yield seen.record("getAllRuntimeStats")["memUsage"], Between(min(shares) - 1, max(shares) + 1)
    if seen.inside and seen.phase != "busy":
        inside = 100 - 100 * seen.meminfo["MemAvailable"] / seen.meminfo["MemTotal"]
        yield seen.record("getAllRuntimeStats")["memUsage"], Between(inside - CPU_POINTS, inside + CPU_POINTS)


def _elapsed(seen: Seen, heard: Heard) -> Between:
    return Between(seen.running_s(heard.asked) - START_GRAIN_S, seen.running_s(heard.had) + START_GRAIN_S)


@compares("runtime", "elapsedTime")
def _elapsed_time(seen: Seen) -> Iterator[Pair]:
    heard = seen.verb("getAllRuntimeStats")
    yield seen.record("getAllRuntimeStats")["elapsedTime"], _elapsed(seen, heard)


@compares("runtime", "statsAge")
def _stats_age(seen: Seen) -> Iterator[Pair]:
    """A look each tick, whose duration counts as well. Between two of three quick replies there was none: it grows.

    A look that finds the monitor busy, with our own readings say, passes the VM over; the next one makes up for it.
    """
    yield seen.record("getAllRuntimeStats")["statsAge"], Between(0, 2 * TICK_S + SAMPLE_S)
    answers = [heard.answer for heard in seen.said.runtimes]
    looks = [answer["monotonicMs"] / 1000 - answer["vms"][seen.vm]["statsAge"] for answer in answers]
    yield min(later - earlier for earlier, later in pairwise(looks)), Between(-AGE_GRAIN_S, AGE_GRAIN_S)


@compares("runtime", "hashes")
def _hashes(seen: Seen) -> Iterator[Pair]:
    yield set(seen.record("getAllRuntimeStats")["hashes"]), set(SECTION_BY_LABEL)
    yield seen.record("getAllRuntimeStats")["hashes"], seen.said.rows[seen.vm]["hashes"]


def _hash(section: Section) -> Comparison:
    """The hash that a body of the same content has; as announced with it by its verb."""

    def compare(seen: Seen) -> Iterator[Pair]:
        content, kind = seen.section(section.label), BODIES.get(section)
        body = content.encode() if kind is None else sections.encode(msgspec.convert(content, kind))
        made = f"{sections.section_hash(section, body):016x}"
        yield seen.said.sections[section.label]["vms"][seen.vm]["hash"], made
        yield seen.record("getAllRuntimeStats")["hashes"][section.label], made

    return compare


for _section in Section:
    compares("hashes", _section.label)(_hash(_section))


# --- roster, tombstones, facts --------------------------------------------------------------------------------------


@compares("roster", "layout")
def _layout(seen: Seen) -> Iterator[Pair]:
    """It rose when the check defined, started and destroyed a domain, and stands while nothing of the kind happens."""
    before, after = seen.expected["layouts"]
    yield after, Between(before + 3, before + 12)
    yield seen.roster["layout"], after


@compares("roster", "monotonicMs")
def _monotonic(seen: Seen) -> Iterator[Pair]:
    """Between two replies it grows by what our clock says."""
    first, now = seen.expected["first_roster"], seen.verb("getRoster")
    low, high = now.asked - first.had, now.had - first.asked
    yield now.answer["monotonicMs"] - first.answer["monotonicMs"], Between(1000 * low - 50, 1000 * high + 50)


@compares("roster", "facts")
def _facts(seen: Seen) -> Iterator[Pair]:
    yield bool(seen.roster["facts"]), True


@compares("roster", "vms")
def _vms(seen: Seen) -> Iterator[Pair]:
    yield {row["vm"] for row in seen.roster["vms"]}, set(seen.virsh("list", "--all", "--uuid").split())


@compares("roster", "tokens")
def _tokens(seen: Seen) -> Iterator[Pair]:
    """One of its own for each life: the same since the check began, nothing (0) for inactive domains."""
    active = set(seen.virsh("list", "--uuid").split())
    tokens = {row["vm"]: int(row["token"], 16) for row in seen.roster["vms"]}
    yield {vm for vm, token in tokens.items() if token}, active
    yield len({tokens[vm] for vm in active}), len(active)
    yield seen.roster_row["token"], seen.expected["tokens"][seen.vm]


@compares("roster", "elapsedMs")
def _elapsed_ms(seen: Seen) -> Iterator[Pair]:
    yield seen.roster_row["elapsedMs"] / 1000, _elapsed(seen, seen.verb("getRoster"))


@compares("roster", "hashes")
def _roster_hashes(seen: Seen) -> Iterator[Pair]:
    """Announced at the same time as those of the runtime statistics."""
    names = set(SECTION_BY_LABEL)
    yield set(seen.roster_row["hashes"]), names
    yield seen.roster_row["hashes"], seen.record("getAllRuntimeStats")["hashes"]


@compares("roster", "tombstones")
def _tombstones(seen: Seen) -> Iterator[Pair]:
    yield [stone["vm"] for stone in seen.roster["tombstones"]].count(seen.expected["gone"]["vm"]), 1


def _tombstone(name: str) -> Comparison:
    """Of the domain that the check destroyed."""

    def compare(seen: Seen) -> Iterator[Pair]:
        stones = {stone["vm"]: stone for stone in seen.roster["tombstones"]}
        gone = seen.expected["gone"]
        yield stones[gone["vm"]][name], gone[name]

    return compare


for _name in ("vm", "token", "exitCode", "exitReason", "endedMs"):
    compares("tombstones", _name)(_tombstone(_name))


def _fact(name: str, true: Callable[[Seen], object]) -> None:
    def compare(seen: Seen) -> Iterator[Pair]:
        yield seen.roster["facts"].get(name), true(seen)

    compares("facts", name)(compare)


_fact("tickMs", lambda _: TICK_S * 1000)
_fact("fqdn", lambda _: socket.getfqdn().lower())
_fact("hostUuid", lambda seen: safe_xml.parse(seen.virsh("capabilities")).findtext("host/uuid"))
_fact("agentVersion", lambda _: version("vmpulse"))
_fact("hypervisorVersion", lambda seen: seen.table("version")["Running"].partition(":")[2].strip())
_fact("libvirtVersion", lambda seen: seen.virsh("version", "--daemon").rstrip().rpartition(" ")[2])
_fact("cpuCount", lambda _: cpu_count())
_fact("memTotal", lambda _: host_memory()["MemTotal"])
_fact("swapTotal", lambda _: host_memory()["SwapTotal"])
_fact("labels", lambda seen: seen.expected["labels"])


# --- the host -------------------------------------------------------------------------------------------------------


def _host(group: str, name: str, true: Callable[[Seen, Heard], object]) -> None:
    """By the verb for ``hostStats``, in the view's row of the host for what frames carry."""

    def compare(seen: Seen) -> Iterator[Pair]:
        heard = seen.verb("getHostStats") if group == "hostStats" else seen.said.host
        stats = heard.answer["stats"]
        said = stats["swapTotal"] - stats["swapFree"] if name == "swapUsed" else stats[name]
        yield said, true(seen, heard)

    compares(group, name)(compare)


def _share(counter: str) -> Callable[[Seen, Heard], Between]:
    """Shares of the host's time over any tick of late: when the agent read is not told."""

    def share(seen: Seen, heard: Heard) -> Between:
        shares = list(seen.log.shares(seen.vm, counter, heard.asked - 3 * TICK_S, heard.had, TICK_S - 0.5))
        return Between(min(shares) - CPU_POINTS, max(shares) + CPU_POINTS)

    return share


def _load(seen: Seen, heard: Heard) -> Between:
    # Around: while a guest reboots its monitor may keep the log from reading anything for seconds.
    readings = seen.log.around(seen.vm, heard.asked - 3 * TICK_S, heard.had)
    loads = [reading.values["host.load"] / 100 for reading in readings]
    return Between(min(loads) - 0.02, max(loads) + 0.02)


def _memory(name: str) -> Callable[[Seen, Heard], Between]:
    """The host's memory as read in the last ticks; free stands for available."""

    def memory(seen: Seen, heard: Heard) -> Between:
        readings = seen.log.around(seen.vm, heard.asked - 3 * TICK_S, heard.had)
        sizes = [reading.values[f"host.{name}"] >> 10 for reading in readings]
        return Between(min(sizes) - 32, max(sizes) + 32)

    return memory


def _count(*words: str) -> Callable[[Seen, Heard], int]:
    return lambda seen, _: len(seen.virsh("list", "--uuid", *words).split())


for _group in ("hostStats", "frameHostStats"):
    _host(_group, "cpuUser", _share("host.user"))
    _host(_group, "cpuSys", _share("host.system"))
    _host(_group, "cpuLoad", _load)
    _host(_group, "memUsed", _memory("used"))
_host("frameHostStats", "swapUsed", _memory("swap_used"))
_host("hostStats", "cpuIdle", _share("host.idle"))
_host("hostStats", "cpuCount", lambda *_: cpu_count())
_host("hostStats", "memTotal", lambda *_: host_memory()["MemTotal"])
_host("hostStats", "memFree", _memory("available"))
_host("hostStats", "swapTotal", lambda *_: host_memory()["SwapTotal"])
_host("hostStats", "swapFree", _memory("swap_free"))
_host("hostStats", "vmCount", _count("--all"))
_host("hostStats", "vmActive", _count())
_host("hostStats", "vmMigrating", lambda *_: 0)
_host(
    "hostStats",
    "elapsedTime",
    lambda _, heard: Between(uptime(heard.asked) - TICK_S - SAMPLE_S, uptime(heard.had) + 0.1),
)
