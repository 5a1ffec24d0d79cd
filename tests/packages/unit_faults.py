"""How the units end, fail and come back: each check gives "" or what is amiss."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tests.packages.furnishing import GUEST
from tests.packages.machine import Machine
from tests.packages.unit_checks import GUEST_S, both_are_healthy_and_say_so, the_view_shows_the_guest
from tests.packages.units import AGENT, UNITS, VIEW, host, log, mend, restart, row, uuid

FED_BEYOND_S: Final = 35.0
"""More than WatchdogSec."""
STOP_S: Final = 2.0
SHOWN_S: Final = 15.0
BACK_S: Final = 30.0
"""RestartSec, and a start."""
HUNG_S: Final = 75.0
"""WatchdogSec, RestartSec, a start, and TimeoutStopSec for a program that does not heed the watchdog's signal."""
AWAY: Final = {AGENT: "broker: no connection to amqp://", VIEW: "the stream has not been heard yet"}
SETTING_WRONG: Final = "2"


def the_watchdog_is_fed(machine: Machine) -> str:
    """Both live on for longer than WatchdogSec, and have fed the watchdog within it."""
    before = {unit: machine.show(unit, "MainPID", "NRestarts") for unit in UNITS}
    since = {unit: machine.show(unit, "WatchdogTimestampMonotonic") for unit in UNITS}
    end = time.monotonic() + FED_BEYOND_S
    machine.until(lambda: time.monotonic() > end, FED_BEYOND_S + 1)
    for unit in UNITS:
        if machine.show(unit, "MainPID", "NRestarts", "ActiveState") != [*before[unit], "active"]:
            return f"{unit} did not live on: {log(machine, unit)}"
        fed = (int(machine.show(unit, "WatchdogTimestampMonotonic")[0]) - int(since[unit][0])) / 1e6
        if fed < FED_BEYOND_S / 2:
            return f"{unit} has not fed the watchdog for long: {fed:.0f} s"
    return ""


def what_hangs_is_started_anew(machine: Machine) -> str:
    """Both stopped by SIGSTOP are killed by the watchdog, and started again."""
    return come_back(machine, "STOP", HUNG_S)


def what_is_killed_is_started_anew(machine: Machine) -> str:
    """After SIGKILL for both programs systemd starts both again, and the view has the guest as before."""
    return come_back(machine, "KILL", BACK_S) or the_view_shows_the_guest(machine)


def come_back(machine: Machine, signal: str, seconds: float) -> str:
    """Send both programs a signal; gives what is amiss unless both are started again, once, in time."""
    pids = {unit: machine.show(unit, "MainPID")[0] for unit in UNITS}
    counts = {unit: int(machine.show(unit, "NRestarts")[0]) for unit in UNITS}
    machine.run("systemctl", "kill", "--kill-who=main", f"--signal={signal}", *UNITS)

    def back(unit: str) -> bool:
        pid, restarts, active = machine.show(unit, "MainPID", "NRestarts", "ActiveState")
        return pid not in {"0", pids[unit]} and int(restarts) == counts[unit] + 1 and active == "active"

    for unit in UNITS:
        if not machine.until(lambda unit=unit: back(unit), seconds):  # type: ignore[misc]
            return f"{unit}: {machine.show(unit, 'ActiveState', 'NRestarts')} {log(machine, unit)}"
    return both_are_healthy_and_say_so(machine)


def a_restart_is_quick(machine: Machine) -> str:
    """``systemctl restart`` of each returns with a new program at work, and a view that remembers the host."""
    for unit in UNITS:
        if amiss := restart(machine, unit):
            return amiss
    remembered = log(machine, VIEW)
    if "1 hosts and" not in remembered:
        return f"the store was empty: {remembered}"
    return both_are_healthy_and_say_so(machine)


def they_stop_in_good_order(machine: Machine) -> str:
    """``systemctl stop`` of each takes less than two seconds and ends with 0; the view calls the host stopped."""
    for unit in UNITS:
        began = time.monotonic()
        machine.run("systemctl", "stop", unit)
        took = time.monotonic() - began
        ended = machine.show(unit, "ActiveState", "Result", "ExecMainCode", "ExecMainStatus")
        if took > STOP_S or ended != ["inactive", "success", "1", "0"]:
            return f"{unit}: {took:.1f} s, {ended} {log(machine, unit)}"
        if unit == AGENT and not machine.until(lambda: host(machine).get("state") == "stopped", SHOWN_S):
            return f"the host is {host(machine)}"
    return mend(machine)


def a_wrong_setting_is_tried_once(machine: Machine) -> str:
    """A value that is not allowed: `systemctl start` fails with 2, the journal says which, nothing is tried again."""
    for unit in UNITS:
        name = unit.removesuffix(".service").removeprefix("vmpulse-")
        machine.run("systemctl", "stop", unit)
        machine.write(f"/etc/vmpulse/{name}.env", f"VMPULSE_{name.upper()}_LOG_LEVEL=loud\n")
        begun = machine.run("systemctl", "start", unit)
        # One that is to be started again would be "activating (auto-restart)" from the same moment on.
        found = machine.show(unit, "ActiveState", "SubState", "ExecMainStatus")
        machine.run("rm", f"/etc/vmpulse/{name}.env")
        if begun.code == 0 or found != ["failed", "failed", SETTING_WRONG]:
            return f"{unit}: {begun.code} {found} {log(machine, unit)}"
        if f"VMPULSE_{name.upper()}_LOG_LEVEL: 'loud' is not allowed" not in log(machine, unit):
            return f"{unit}: {log(machine, unit)}"
    return mend(machine)


def both_come_up_after_a_reset(machine: Machine) -> str:
    """The power fails; at the next boot broker, libvirt, guest and both units come up, and the view shows the guest."""
    machine.reset()
    for unit in UNITS:
        if not machine.until(lambda unit=unit: machine.show(unit, "ActiveState") == ["active"], BACK_S):  # type: ignore[misc]
            return f"{unit}: {machine.show(unit, 'ActiveState', 'Result')} {log(machine, unit)}"
    return the_view_shows_the_guest(machine) or both_are_healthy_and_say_so(machine)


def the_end_of_a_guest_is_remembered(machine: Machine) -> str:
    """What the agent writes into its state folder outlives it: it tells of the end of a guest after a restart."""

    def told() -> bool:
        ends = host(machine).get("tombstones", [])
        return [end["id"] for end in ends] == [uuid(machine)] and host(machine).get("state") == "live"

    machine.run("virsh", "destroy", GUEST)
    if not machine.until(told, SHOWN_S):
        return f"not told: {host(machine)}"
    # The view forgets what it was told; only the agent can tell it again.
    machine.shell(f"systemctl stop {AGENT} {VIEW}\nrm /var/lib/vmpulse-view/view.db*")
    kept = machine.shell("stat -c '%U %a %n' /var/lib/vmpulse-agent/*").said
    if kept != "root 600 /var/lib/vmpulse-agent/tombstones.msgpack":
        return kept
    if amiss := mend(machine):
        return amiss
    if not machine.until(told, SHOWN_S):
        return f"forgotten: {host(machine)}"
    machine.run("virsh", "start", GUEST)
    machine.until(lambda: not the_view_shows_the_guest(machine), GUEST_S)
    return the_view_shows_the_guest(machine)


def they_start_without_a_broker(machine: Machine) -> str:
    """A broker that is away keeps neither unit from starting; STATUS says so, and both go on when it is back."""
    machine.run("systemctl", "stop", "rabbitmq-server")
    amiss = restart(machine, VIEW) or restart(machine, AGENT)
    said = {unit: machine.show(unit, "StatusText")[0] for unit in UNITS}
    machine.run("systemctl", "start", "rabbitmq-server")
    if amiss or not all(words in said[unit] for unit, words in AWAY.items()):
        return f"{amiss} {said}"
    return both_are_healthy_and_say_so(machine)


def a_libvirtd_that_restarts_is_found_again(machine: Machine) -> str:
    """The confined agent lives through a restart of libvirtd, and connects anew by itself."""
    before = machine.show(AGENT, "MainPID", "NRestarts")
    done = machine.run("systemctl", "restart", "libvirtd")
    if done.code:
        return done.said
    # Seen by the new connection only: what the old one said would go on to look right for a while.
    for act, status in (("suspend", "Paused"), ("resume", "Up")):
        machine.run("virsh", act, GUEST)
        if not machine.until(lambda status=status: row(machine).get("status") == status, SHOWN_S):  # type: ignore[misc]
            return f"not {status}: {row(machine)} {log(machine, AGENT)}"
    amiss = both_are_healthy_and_say_so(machine) or the_view_shows_the_guest(machine)
    return amiss or ("" if machine.show(AGENT, "MainPID", "NRestarts") == before else log(machine, AGENT))


FAULTS: Final[tuple[Callable[[Machine], str], ...]] = (
    the_watchdog_is_fed,
    a_restart_is_quick,
    they_stop_in_good_order,
    a_wrong_setting_is_tried_once,
    the_end_of_a_guest_is_remembered,
    they_start_without_a_broker,
    a_libvirtd_that_restarts_is_found_again,
    what_is_killed_is_started_anew,
    what_hangs_is_started_anew,
    both_come_up_after_a_reset,
)
