"""Comparisons of sections and device statistics; see field_comparisons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from xml.etree.ElementTree import Element

from tests.lab.field_comparisons import SLOT_KIB, Between, Pair, compares
from tests.lab.field_log import SAMPLE_S
from tests.lab.field_readings import Seen
from tests.lab.lab import Row
from vmpulse_agent.libvirt_edge import safe_xml

DEVICE_S: Final = 3.0
"""Between two samples of devices, by the agent's setting in this check."""
REPORT_S: Final = 7.0
"""Between two reports of devices, by its setting: some hold two spans between samples, some three."""
BALLOON_S: Final = 4.0
"""The guest's balloon driver reports every 2 s, and libvirt asks QEMU now and then."""
USAGE_SLACK: Final = 8 << 20
"""Bytes that a load may have on the disk."""
CLOCK_S: Final = 6
"""timeOffset is rounded, by at most 5 s, and a clock is set to whole seconds."""
LEFT_OUT: Final = (
    r"domain \w*id",
    r"domain/currentMemory .*",
    r"domain/clock adjustment",
    r"domain/devices/graphics\S* (port|tlsPort|websocket)",
    r"domain/devices/channel\S*/source .*",
    r"domain/devices/channel\S*/target state",
    r"domain/devices/interface\S*/target .*",
    r"domain/devices/(\S+/)?alias .*",
    r"domain/devices/disk\S*/source index",
    r"domain/devices/disk\S*/backingStore .*",
    r"domain/devices/disk\S*/target tray",
    r"domain/(seclabel|resource)\S* .*",
)
"""What of these guests' definitions docs/sections.md names as left out: paths of elements, and their attributes."""


def _of(group: str, name: str, true: Callable[[Seen], object]) -> None:
    """A field of a section, by its verb and in the view's copy."""

    def compare(seen: Seen) -> Iterator[Pair]:
        expected = true(seen)
        yield seen.section(group).get(name), expected
        yield seen.said.rows[seen.vm]["sections"][group].get(name), expected

    compares(group, name)(compare)


# --- info -----------------------------------------------------------------------------------------------------------


def _display(seen: Seen) -> tuple[str, str, int]:
    """Kind, address and port of ``virsh domdisplay``: ``vnc://10.99.0.1:0`` for port 5900."""
    kind, _, place = seen.virsh("domdisplay", "DOMAIN").strip().partition("://")
    address, _, number = place.partition(":")
    return kind, address, 5900 + int(number or 0)


def _cmdline(seen: Seen) -> str:
    with open(f"/proc/{seen.pid}/cmdline", "rb") as file:  # noqa: PTH123 - of /proc
        return file.read().decode("utf-8", "replace")


def _media(seen: Seen) -> str | None:
    lines = (line.split(maxsplit=3) for line in seen.virsh("domblklist", "DOMAIN", "--details").splitlines())
    return next((words[3] for words in lines if words[1:2] == ["cdrom"] and words[3] != "-"), None)


_of("info", "vmName", lambda seen: seen.dominfo["Name"])
_of("info", "acpiEnable", lambda seen: "acpi=off" not in _cmdline(seen) and "-no-acpi" not in _cmdline(seen))
_of("info", "displayType", lambda seen: _display(seen)[0])
_of("info", "displayPort", lambda seen: _display(seen)[2])
_of("info", "displaySecurePort", lambda seen: seen.xml.find("devices/graphics").get("tlsPort"))  # type: ignore[union-attr]
_of("info", "displayIp", lambda seen: _display(seen)[1])
_of("info", "pid", lambda seen: seen.pid)
_of("info", "vmType", lambda seen: "kvm" if "accel=kvm" in _cmdline(seen) else "qemu")
_of("info", "kvmEnable", lambda seen: "accel=kvm" in _cmdline(seen))
_of("info", "cdrom", _media)
_of("info", "boot", lambda seen: {"hd": "c", "cdrom": "d"}[seen.xml.find("os/boot").get("dev", "")])  # type: ignore[union-attr]


# --- status ---------------------------------------------------------------------------------------------------------


def _answers(seen: Seen) -> int:
    """0 if QEMU's monitor answers."""
    return 0 if '"return"' in seen.virsh("qemu-monitor-command", "DOMAIN", '{"execute":"query-status"}') else -1


def _pause_code(seen: Seen) -> str | None:
    reason = seen.virsh("domstate", "DOMAIN", "--reason").strip()
    return {"paused (user)": "NOERR"}.get(reason) if reason.startswith("paused") else None


def _addresses(seen: Seen) -> list[str]:
    found = (address for _, inet, _ in seen.addresses.values() for address in inet)
    return sorted(address for address in found if not address.startswith(("127.", "169.254.")))


def _clock(seen: Seen) -> Between:
    offset = seen.expected["clock"][seen.vm]
    return Between(offset - CLOCK_S, offset + CLOCK_S)


_of("status", "timeOffset", _clock)
_of("status", "monitorResponse", _answers)
_of("status", "clientIp", lambda seen: seen.expected["clients"].get(seen.vm))
_of("status", "username", lambda seen: seen.expected["users"][seen.vm])
_of("status", "session", lambda seen: "UserLoggedOn" if seen.expected["users"][seen.vm] else "LoggedOff")
_of("status", "guestIPs", _addresses)
_of("status", "pauseCode", _pause_code)
# No guest here has one: that a watchdog fires is tried where a boot sector does it.
_of("status", "watchdogEvent", lambda seen: seen.xml.find("devices/watchdog"))
for _name in ("time", "action"):
    compares("watchdogEvent", _name)(
        lambda seen: iter([(seen.section("status").get("watchdogEvent"), seen.xml.find("devices/watchdog"))])
    )


# --- guestDetails, config -------------------------------------------------------------------------------------------

_of("guestDetails", "appsList", lambda _: None)


@compares("guestDetails", "netIfaces")
def _interfaces(seen: Seen) -> Iterator[Pair]:
    yield {card["name"] for card in seen.section("guestDetails")["netIfaces"]}, set(seen.addresses)


@compares("netIfaces", "name", "hw", "inet", "inet6")
def _interface(seen: Seen) -> Iterator[Pair]:
    for card in seen.section("guestDetails")["netIfaces"]:
        yield (card["hw"], card["inet"], card["inet6"]), seen.addresses[card["name"]]
    card = next(card for card in seen.section("guestDetails")["netIfaces"] if card["name"] == "eth0")
    yield card["hw"], seen.xml.find("devices/interface/mac").get("address")  # type: ignore[union-attr]
    yield card["inet"], [seen.guest.address]


@compares("config", "config")
def _config(seen: Seen) -> Iterator[Pair]:
    """All of ``virsh dumpxml --inactive`` and nothing else, but for what is left out since it changes by itself."""
    ours = Counter(_flat(safe_xml.parse(seen.section("config"))))
    theirs = Counter(_flat(safe_xml.parse(seen.virsh("dumpxml", "--inactive", "DOMAIN"))))
    yield ours - theirs, Counter()
    lost = {f"{path} {name}" for path, name, _ in theirs - ours}
    yield {line for line in lost if not any(re.fullmatch(pattern, line) for pattern in LEFT_OUT)}, set()


def _flat(element: Element, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Texts and attributes of all elements, with the tags that lead to them; devices are told apart by their names."""
    here = f"{path}/{element.tag}{_called(element)}".lstrip("/")
    yield here, "", (element.text or "").strip()
    yield from ((here, name, value) for name, value in element.attrib.items())
    for child in element:
        yield from _flat(child, here)


def _called(device: Element) -> str:
    target = device.find("target")
    if device.tag == "controller":
        return f"[{device.get('type')}{device.get('index')}]"
    if target is None or device.tag == "interface":
        return ""
    return f"[{target.get('dev') or target.get('name') or target.get('port')}]"


# --- device statistics ----------------------------------------------------------------------------------------------


def _devices(kind: str) -> Callable[[Seen], set[str]]:
    """Names of all devices, from virsh's lists of them."""
    words, column = (("domblklist",), 0) if kind == "disks" else (("domiflist",), 0)
    return lambda seen: {line.split()[column] for line in seen.virsh(*words, "DOMAIN").splitlines()[2:] if line.strip()}


def _statistic(name: str, true: Callable[[Seen], object]) -> None:
    compares("deviceStats", name)(lambda seen: iter([(_plain(seen.devices.get(name)), true(seen))]))


def _plain(value: object) -> object:
    return set(value) if isinstance(value, dict) else value


def _given(group: str, named: Callable[[Seen], set[str]]) -> None:
    compares("deviceStats", group)(lambda seen: iter([(_plain(seen.devices.get(group)), named(seen))]))


_given("disks", _devices("disks"))
_given("network", _devices("network"))


@compares("deviceStats", "memoryStats", "balloonInfo")
def _there(seen: Seen) -> Iterator[Pair]:
    yield bool(seen.devices["memoryStats"] and seen.devices["balloonInfo"]), True


@compares("deviceStats", "disksUsage")
def _usage(seen: Seen) -> Iterator[Pair]:
    yield {usage["path"] for usage in seen.devices["disksUsage"]}, set(seen.mounts)


@compares("deviceStats", "interval")
def _interval(seen: Seen) -> Iterator[Pair]:
    yield seen.devices["interval"], Between(DEVICE_S - SAMPLE_S, seen.sampled - seen.expected["agent_started"])


@compares("deviceStats", "statsAge")
def _age(seen: Seen) -> Iterator[Pair]:
    heard = seen.devices_heard
    yield seen.devices["statsAge"], Between(heard.asked - seen.sampled - 0.05, heard.had - seen.sampled + 0.05)
    yield seen.devices["statsAge"], Between(0, DEVICE_S + SAMPLE_S + (0 if seen.fresh else REPORT_S))


def _memory(name: str, counter: str, inside: str) -> None:
    def compare(seen: Seen) -> Iterator[Pair]:
        sizes = [
            one.values[f"memory.{counter}"]
            for one in seen.log.between(seen.vm, seen.sampled - BALLOON_S, seen.sampled + BALLOON_S)
        ]
        yield seen.devices["memoryStats"][name], Between(min(sizes), max(sizes))
        if seen.fresh and seen.phase in {"idle", "ballooned"}:
            true = seen.meminfo[inside]
            yield seen.devices["memoryStats"][name], Between(true - 4 * SLOT_KIB, true + 4 * SLOT_KIB)

    compares("memoryStats", name)(compare)


_memory("mem_total", "available", "MemTotal")
_memory("mem_unused", "unused", "MemFree")
_memory("mem_free", "usable", "MemAvailable")


def _balloon(name: str, true: Callable[[Seen], object]) -> None:
    compares("balloonInfo", name)(lambda seen: iter([(seen.devices["balloonInfo"][name], true(seen))]))


_balloon("balloon_max", lambda seen: int(seen.dominfo["Max memory"]))
_balloon("balloon_min", lambda seen: int(seen.xml.findtext("memtune/min_guarantee", "0")))
_balloon("balloon_cur", lambda seen: int(seen.table("dommemstat", "DOMAIN")["actual"]))
_balloon("balloon_target", lambda seen: int(seen.dominfo["Used memory"]))
_balloon("ballooning_enabled", lambda seen: "virtio-balloon" in _cmdline(seen))


@compares("disksUsage", "path", "total", "used", "fs")
def _usages(seen: Seen) -> Iterator[Pair]:
    """As ``df`` says; what the load writes comes and goes, and guests that are no longer new are asked rarely.

    One that is suspended cannot be asked at all: what the agent had last may still be of the load.
    """
    for usage in seen.devices["disksUsage"]:
        yield usage["fs"], "ext4"
        yield usage["path"], "/data"
        total, used = seen.mounts[usage["path"]]
        slack = USAGE_SLACK if seen.phase in {"busy", "ballooned", "suspended"} else (64 << 10)
        yield usage["total"], total
        yield usage["used"], Between(used - slack, used + slack)


def each(group: str, seen: Seen) -> Iterator[tuple[str, Row]]:
    """The records of all devices of a kind, by the devices' names."""
    yield from seen.devices[group].items()


def _counter(group: str, name: str, counter: str) -> None:
    def compare(seen: Seen) -> Iterator[Pair]:
        for device, record in each(group, seen):
            yield record[name], Between(*seen.log.at(seen.vm, f"{device}.{counter}", seen.sampled))

    compares(group, name)(compare)


for _name, _counted in (
    ("readOps", "rd_operations"),
    ("writeOps", "wr_operations"),
    ("readBytes", "rd_bytes"),
    ("writtenBytes", "wr_bytes"),
):
    _counter("disks", _name, _counted)
for _name in ("rx", "tx", "rxErrors", "txErrors", "rxDropped", "txDropped"):
    _counter("network", _name, _name)


def _image(name: str, true: Callable[[Seen, str], object]) -> None:
    def compare(seen: Seen) -> Iterator[Pair]:
        for device, record in each("disks", seen):
            yield record.get(name), true(seen, device)

    compares("disks", name)(compare)


def _source(seen: Seen, device: str) -> Element:
    return next(disk for disk in seen.xml.iterfind("devices/disk") if disk.find(f"target[@dev='{device}']") is not None)


def _stat(seen: Seen, device: str, name: str) -> list[int]:
    readings = seen.log.between(seen.vm, seen.sampled - SAMPLE_S, seen.sampled + 2 * SAMPLE_S)
    return [reading.values[f"{device}.{name}"] for reading in readings]


def _occupied(seen: Seen, device: str) -> Between:
    """What the image occupies; libvirt says the length of an image that occupies nothing."""
    sizes = [512 * blocks for blocks in _stat(seen, device, "st_blocks")]
    lengths = _stat(seen, device, "st_size")
    return Between(min(sizes) or min(lengths), max(sizes) or max(lengths))


def _length(seen: Seen, device: str) -> int:
    return max(_stat(seen, device, "st_size"))


_image("truesize", _occupied)
_image("apparentsize", _length)
_image("imageID", lambda seen, device: _source(seen, device).findtext("serial"))


def _card(name: str, true: Callable[[Seen, str], object]) -> None:
    def compare(seen: Seen) -> Iterator[Pair]:
        for device, record in each("network", seen):
            yield record.get(name), true(seen, device)

    compares("network", name)(compare)


def _mac(seen: Seen, device: str) -> str:
    lines = (line.split() for line in seen.virsh("domiflist", "DOMAIN").splitlines())
    return next(words[4] for words in lines if words[:1] == [device])


def _sample_time(seen: Seen, _device: str) -> Between:
    heard = seen.devices_heard
    return Between(heard.asked - DEVICE_S - SAMPLE_S - (0 if seen.fresh else REPORT_S), heard.had)


_card("name", lambda _, device: device)
_card("macAddr", _mac)
_card("speed", lambda *_: None)
_card("state", lambda *_: None)
_card("sampleTime", _sample_time)
