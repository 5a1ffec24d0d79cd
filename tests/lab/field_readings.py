"""What the agent says of a guest, and what others say of it: virsh, /proc and the guest itself."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from xml.etree.ElementTree import Element

from tests.lab.field_log import TICKS, CounterLog, meminfo
from tests.lab.guests import Guest
from tests.lab.lab import CheckFailed, Lab, Row
from vmpulse_agent.libvirt_edge import safe_xml

if TYPE_CHECKING:
    from collections.abc import Callable

VIRSH_S: Final = 20.0
STEADY_TRIES: Final = 5
WHOLE_S: Final = 30.0
VERBS: Final = ("list", "getRoster", "getHostStats")
"""Those that are asked for all VMs at once, beside those of statistics."""
SECTIONS: Final = {
    "info": "getConfInfo",
    "status": "getStatus",
    "guestDetails": "getGuestDetails",
    "config": "getConfig",
}


class Heard(NamedTuple):
    """An answer, and between which moments of time.monotonic() it was asked and had."""

    asked: float
    had: float
    answer: Row


class Said:
    """What all verbs and the view say of some guests, asked one after the other.

    While a section changes, what the verbs say cannot agree: then all are asked again, and ``asked`` counts that.
    Device statistics are asked for until they are of a sample for which nobody else, as the lab, held a monitor.
    """

    def __init__(self, lab: Lab, vms: list[str]) -> None:
        for self.asked in range(1, STEADY_TRIES + 1):
            before = heard(lab, "getAllRuntimeStats")
            self.verbs = {verb: heard(lab, verb) for verb in VERBS}
            self.sections = {name: _call(lab, verb, *vms) for name, verb in SECTIONS.items()}
            self.rows: dict[str, Row] = {vm: lab.row(vm) or {} for vm in vms}
            self.host = _heard(lab.host)
            self.runtimes = [heard(lab, "getAllRuntimeStats") for _ in range(3)]
            if all(_hashes(before, vm) == _hashes(self.runtimes[-1], vm) for vm in vms):
                break
        else:
            raise CheckFailed(f"hashes changed while they were read, {STEADY_TRIES} times")
        self.verbs["getAllRuntimeStats"] = self.runtimes[0]
        self.devices = _whole(lab, lambda: heard(lab, "getAllDeviceStats"), vms)
        self.published = _whole(lab, lambda: _heard(lambda: {"vms": {vm: _published(lab, vm) for vm in vms}}), vms)


def heard(lab: Lab, verb: str) -> Heard:
    """Ask a verb for all VMs."""
    return _heard(lambda: _call(lab, verb))


def _hashes(reply: Heard, vm: str) -> object:
    return reply.answer["vms"].get(vm, {}).get("hashes")


def _published(lab: Lab, vm: str) -> Row:
    """The view's copy of what was reported last; its age stands beside it."""
    reply = lab.api.get(f"/api/v1/vms/{vm}/devices")
    if reply.is_error:
        return {}
    found = reply.json()
    stats: Row = found["deviceStats"]
    return stats | {"statsAge": found["age_s"]}


def _whole(lab: Lab, ask: Callable[[], Heard], vms: list[str]) -> Heard:
    had = []

    def whole() -> bool:
        had.append(ask())
        records = [had[-1].answer["vms"].get(vm, {}) for vm in vms]
        return all(
            record.get("memoryStats") and all("readOps" in disk for disk in record["disks"].values())
            for record in records
        )

    lab.until("device statistics for which no monitor was held by others", whole, WHOLE_S)
    return had[-1]


def _heard(ask: Callable[[], Row]) -> Heard:
    asked = time.monotonic()
    answer = ask()
    return Heard(asked, time.monotonic(), answer)


def _call(lab: Lab, verb: str, *vms: str) -> Row:
    done = lab.call(verb, *vms)
    if done.returncode:
        raise CheckFailed(f"{verb} failed: {done.stderr}")
    answer: Row = json.loads(done.stdout)
    return answer


class Seen:
    """Everything that is known of one guest at one time.

    Args:
        phase: what is done to the guests, such as "busy".
        guest: the guest.
        said: what the agent and the view say.
        log: its counters.
        expected: what the check has brought about itself, by name.
    """

    def __init__(self, phase: str, lab: Lab, guest: Guest, said: Said, log: CounterLog, expected: Row) -> None:  # noqa: PLR0917 - one value each
        self.phase = phase
        self.lab = lab
        self.guest = guest
        self.vm = guest.uuid
        self.said = said
        self.log = log
        self.expected = expected
        self.devices_heard = said.devices
        self._printed: dict[tuple[str, ...], str] = {}

    def published(self) -> Seen:
        """The same, with device statistics as the view has them."""
        other = copy.copy(self)
        other.devices_heard = self.said.published
        return other

    # --- what the agent says ------------------------------------------------------------------------------------

    def verb(self, name: str) -> Heard:
        """The reply to a verb."""
        return self.said.verbs[name]

    def record(self, verb: str) -> Row:
        """What the reply to a verb says of this guest."""
        record: Row = self.verb(verb).answer["vms"].get(self.vm, {})
        return record

    def section(self, name: str) -> Any:
        """The content of a section by its verb; an empty one if it was not given."""
        return self.said.sections[name]["vms"].get(self.vm, {}).get(name, {})

    @property
    def roster(self) -> Row:
        """The host's roster."""
        roster: Row = self.verb("getRoster").answer["roster"]
        return roster

    @property
    def roster_row(self) -> Row:
        """The guest's row of it."""
        return next(row for row in self.roster["vms"] if row["vm"] == self.vm)

    @property
    def devices(self) -> Row:
        """The guest's device statistics."""
        record: Row = self.devices_heard.answer["vms"].get(self.vm, {})
        return record

    @property
    def fresh(self) -> bool:
        """Whether the device statistics are the newest sample, by the verb."""
        return self.devices_heard is self.said.devices

    @property
    def sampled(self) -> float:
        """When the sample that they are of began, on the clock of time.monotonic()."""
        cards = self.devices["network"].values()
        sampled: float = next(card["sampleTime"] for card in cards)
        return sampled

    # --- what others say ----------------------------------------------------------------------------------------

    def virsh(self, *words: str) -> str:
        """What virsh says, run once for all who ask; "DOMAIN" stands for the guest. Raises CheckFailed if it fails."""
        if words not in self._printed:
            self._printed[words] = self._run(*words)
        return self._printed[words]

    def _run(self, *words: str) -> str:
        command = ["virsh", "-c", self.guest.hypervisor.uri, *(self.vm if word == "DOMAIN" else word for word in words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=VIRSH_S, check=False)
        if done.returncode:
            raise CheckFailed(f"{' '.join(command)} failed: {done.stderr}")
        return done.stdout

    def table(self, *words: str) -> dict[str, str]:
        """Lines of virsh as names and values: ``Max memory:     98304 KiB``, ``actual 98304``."""
        lines = (line.strip() for line in self.virsh(*words).splitlines())
        found = (re.split(r":\s+|\s+", line, maxsplit=1) for line in lines if line)
        return {words[0].rstrip(":"): words[-1] for words in found}

    @cached_property
    def xml(self) -> Element:
        """``virsh dumpxml``."""
        return safe_xml.parse(self.virsh("dumpxml", "DOMAIN"))

    @cached_property
    def dominfo(self) -> dict[str, str]:
        """``virsh dominfo``; sizes without their unit."""
        lines = (line.partition(":") for line in self.virsh("dominfo", "DOMAIN").splitlines())
        return {name: value.strip().removesuffix(" KiB") for name, _, value in lines}

    @cached_property
    def pid(self) -> int:
        """The process whose command line names the guest."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if self.vm.encode() in words and b"qemu" in words[0]:
                return int(entry.parent.name)
        raise CheckFailed(f"no process has {self.vm} in its command line")

    def running_s(self, moment: float) -> float:
        """How long its process ran at a moment of time.monotonic(), as /proc tells."""
        words = Path(f"/proc/{self.pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot_less_monotonic = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        return moment + boot_less_monotonic - int(words[19]) / TICKS

    @property
    def inside(self) -> bool:
        """Whether the guest can be asked: not while it is suspended."""
        return self.phase != "suspended"

    @cached_property
    def meminfo(self) -> dict[str, int]:
        """The guest's /proc/meminfo, in KiB."""
        return meminfo(self.guest.order("cat /proc/meminfo"))

    @cached_property
    def mounts(self) -> dict[str, tuple[int, int]]:
        """``df`` in the guest, of file systems on its disk: bytes used and available together, and bytes used.

        The guest agent counts as its total what a user may fill: blocks kept for root are not in it. While the guest
        cannot be asked: what it said last.
        """
        lines = (line.split() for line in self._inside("df -k").splitlines())
        return {
            words[5]: ((int(words[2]) + int(words[3])) * 1024, int(words[2]) * 1024)
            for words in lines
            if words[0].startswith("/dev/")
        }

    @cached_property
    def addresses(self) -> dict[str, tuple[str, list[str], list[str]]]:
        """Card, IPv4 and IPv6 addresses by the guest's name of the card, from its ``ip addr``; or as it said last."""
        found: dict[str, tuple[str, list[str], list[str]]] = {}
        for block in re.split(r"^\d+: ", self._inside("ip addr"), flags=re.MULTILINE)[1:]:
            hw = re.search(r"link/\S+ (\S+)", block)
            inet, inet6 = (sorted(re.findall(rf"{kind} ([^\s/]+)", block)) for kind in ("inet", "inet6"))
            found[block.partition(":")[0]] = (hw[1] if hw else "", inet, inet6)
        return found

    def _inside(self, command: str) -> str:
        known: dict[tuple[str, str], str] = self.expected["inside"]
        if self.inside:
            known[self.vm, command] = self.guest.order(command)
        return known[self.vm, command]


_VIEWER: Final = """
import socket, sys
viewer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
viewer.recv(12)
viewer.sendall(b"RFB 003.008\\n")
kinds = viewer.recv(1)
viewer.recv(kinds[0])
viewer.sendall(b"\\x01")  # no password
viewer.recv(4)
viewer.sendall(b"\\x01")  # shared
viewer.recv(24)
print("in", flush=True)
sys.stdin.read()
"""
"""A VNC client that looks on until its standard input ends: RFC 6143, 7.1 to 7.3."""


class Viewer:
    """Somebody who looks at a guest's screen by VNC, from an address in the lab's network, as a context manager."""

    def __init__(self, guest: Guest, address: str, port: int) -> None:
        inside = ("nsenter", "--net", f"--target={guest.hypervisor.keeper_pid}")
        self._process = subprocess.Popen(
            (*inside, sys.executable, "-c", _VIEWER, address, str(port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "in\n":
            self.__exit__()
            raise CheckFailed("the VNC client was not let in")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10.0)


def host_memory() -> dict[str, int]:
    """The host's /proc/meminfo, in MiB."""
    return {name: size >> 10 for name, size in meminfo(Path("/proc/meminfo").read_text("ascii")).items()}


def cpu_count() -> int:
    """CPUs that are online."""
    return os.sysconf("SC_NPROCESSORS_ONLN")
