"""The units on a machine, as an operator looks at them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.packages.furnishing import GUEST
from tests.packages.machine import HOSTNAME

if TYPE_CHECKING:
    from tests.packages.machine import Done, Machine

AGENT: Final = "vmpulse-agent.service"
VIEW: Final = "vmpulse-view.service"
UNITS: Final = (AGENT, VIEW)
DROP_IN: Final = "/run/systemd/system/{unit}.d/trial.conf"


def started(machine: Machine, unit: str, done: Done) -> str:
    """What is amiss after a command that had to start a unit: Type=notify, so that it returns at READY."""
    active = machine.show(unit, "ActiveState", "SubState", "NRestarts")
    return (
        ""
        if done.code == 0 and active == ["active", "running", "0"]
        else f"{active}: {done.said}\n{log(machine, unit)}"
    )


def restart(machine: Machine, unit: str) -> str:
    """Restart a unit; gives what is amiss."""
    return started(machine, unit, machine.run("systemctl", "restart", unit))


def mend(machine: Machine) -> str:
    """Whatever a check has left: as shipped, and running. Gives what is amiss."""
    machine.run("sh", "-c", "rm -f /etc/vmpulse/*.env")
    put_away(machine)
    return restart(machine, VIEW) or restart(machine, AGENT)


def log(machine: Machine, unit: str, lines: int = 15) -> str:
    """The end of what a unit has said."""
    return machine.run("journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={unit}").said


def row(machine: Machine) -> dict[str, Any]:
    """The guest in the view, with its sections; empty if the view has none."""
    return parsed(machine, "vmpulse", "vm", uuid(machine), "--json")


def host(machine: Machine) -> dict[str, Any]:
    """The host in the view, with its tombstones; empty if the view has none."""
    return parsed(machine, "vmpulse", "host", HOSTNAME, "--json")


def sample(machine: Machine) -> dict[str, Any]:
    """The guest as an agent sees it that runs outside of any unit, with all of root's rights."""
    said = parsed(machine, "vmpulse-agent", "sample", "--host", HOSTNAME, "--once")
    return dict(said.get("vms", {}).get(uuid(machine), {}))


def uuid(machine: Machine) -> str:
    """The guest's id."""
    return machine.run("virsh", "domuuid", GUEST).said


def parsed(machine: Machine, *command: str) -> dict[str, Any]:
    """The JSON object that a command prints last; empty if it fails."""
    done = machine.run(*command)
    return dict(json.loads(done.said.splitlines()[-1])) if done.code == 0 and done.said.endswith("}") else {}


def put(machine: Machine, unit: str, lines: str) -> None:
    """Put a drop-in on a unit, which lasts until ``put_away`` or a reset."""
    path = DROP_IN.format(unit=unit)
    machine.shell(f"mkdir -p $(dirname {path})\ncat >{path} <<'END'\n[Service]\n{lines}\nEND\nsystemctl daemon-reload")


def put_away(machine: Machine) -> None:
    """Take the drop-ins of all units away."""
    files = " ".join(DROP_IN.format(unit=unit) for unit in UNITS)
    machine.shell(f"rm -f {files}\nsystemctl daemon-reload\nsystemctl reset-failed")
