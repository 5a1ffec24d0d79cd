"""What the units' programs cannot do, tried as they would try it; and that nothing they need is among it.

Each check gives "" or what is amiss.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.packages.furnishing import GUEST
from tests.packages.machine import Machine
from tests.packages.unit_checks import the_view_shows_the_guest
from tests.packages.units import AGENT, UNITS, VIEW, host, log, mend, put, restart

PROBE: Final = Path(__file__).with_name("probe.py")
THERE: Final = "/usr/local/lib/vmpulse-probe.py"
REFUSALS: Final = {"EACCES", "EAFNOSUPPORT", "ENOENT", "EPERM", "EROFS"}
PYTHON: Final = "/opt/vmpulse/bin/python3"
SHOWN_S: Final = 15.0
PASSED_OVER: Final = "mbind set_mempolicy"
"""Refused, and it does not matter: numpy's OpenBLAS and libvirt's libnuma try to place memory, and go on without."""
COMPLAINTS: Final = re.compile(r"EPERM|not permitted|[Dd]enied|seccomp|Traceback \(most|Read-only file system")


def rights_are_what_the_units_say(machine: Machine) -> str:
    """The kernel's account of both processes: user, capabilities, no new privileges, a filter of system calls."""
    wanted = {AGENT: ("0", f"{1 << 2:016x}"), VIEW: (machine.run("id", "-u", "vmpulse").said, "0" * 16)}
    for unit, (user, capabilities) in wanted.items():
        (pid,) = machine.show(unit, "MainPID")
        fields = dict(re.findall(r"^(\w+):\t(.*)$", machine.run("cat", f"/proc/{pid}/status").said, re.MULTILINE))
        found = [fields["Uid"].split()[1], *(fields[name] for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp"))]
        if found != [user, capabilities, capabilities, "1", "2"]:
            return f"{unit}: {found}"
    return ""


def what_is_forbidden_fails(machine: Machine) -> str:
    """Each attempt of the probe fails within both units, and succeeds outside of them."""
    shutil.copyfile(PROBE, machine.root / THERE.lstrip("/"))
    pid = machine.shell(f"touch /tmp/vmpulse-common\ncat /run/libvirt/qemu/{GUEST}.pid").said
    machine.run(PYTHON, THERE, pid)
    free = json.loads(machine.run("cat", "/root/probe.json").said)
    if failed := {name: result for name, result in free.items() if result != "allowed"}:
        return f"these prove nothing, for they fail outside of a unit: {failed}"
    for unit in UNITS:
        put(machine, unit, f"ExecStartPre={PYTHON} {THERE} {pid}")
        amiss = restart(machine, unit)
        found = machine.shell(f"cd /var/lib/{unit.removesuffix('.service')}\ncat probe.json\nrm probe.json probe").said
        allowed = amiss or {name: result for name, result in json.loads(found).items() if result not in REFUSALS}
        if allowed or json.loads(found).keys() != free.keys():
            return f"{unit}: {allowed or found}"
    return mend(machine)


def no_needed_call_is_refused(machine: Machine) -> str:
    """With a filter that kills for each call it would refuse, both do all of their work, and stop in good order."""
    for unit in reversed(UNITS):
        put(machine, unit, f"SystemCallErrorNumber=kill\nSystemCallFilter={PASSED_OVER}")
        if amiss := restart(machine, unit):
            return amiss
    machine.until(lambda: host(machine).get("state") == "live", SHOWN_S)
    if amiss := the_view_shows_the_guest(machine):
        return amiss
    for unit in UNITS:
        machine.run("systemctl", "stop", unit)
        result = machine.show(unit, "Result", "ExecMainStatus")
        if result != ["success", "0"]:
            return f"{unit}: {result} {log(machine, unit)}"
    return mend(machine)


def the_filter_kills(machine: Machine) -> str:
    """The filter of the check before is in force: without its exceptions the programs do not even start."""
    for unit in UNITS:
        put(machine, unit, "SystemCallErrorNumber=kill\nRestart=no")
        machine.run("systemctl", "restart", unit)
        result = machine.show(unit, "Result", "ExecMainStatus")
        if result != ["signal", "31"]:
            return f"{unit}: {result}"
    return mend(machine)


def the_journal_has_no_complaints(machine: Machine) -> str:
    """Nothing that either program or systemd has said of the units speaks of something forbidden."""
    said = [log(machine, unit, 1000) for unit in UNITS]
    return "\n".join(line for text in said for line in text.splitlines() if COMPLAINTS.search(line))


CONFINED: Final[tuple[Callable[[Machine], str], ...]] = (
    rights_are_what_the_units_say,
    what_is_forbidden_fails,
    no_needed_call_is_refused,
    the_filter_kills,
)
