"""The way of operating.md on a machine with systemd, to units that run and show what they should.

Each check gives "" or what is amiss; each stands on those before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from tests.packages.furnishing import GUEST, GUEST_ADDRESS, PASSWORD, documented
from tests.packages.machine import HOSTNAME, Machine
from tests.packages.units import AGENT, UNITS, VIEW, row, sample, started

SHOWN_S: Final = 15.0
GUEST_S: Final = 90.0
"""A guest boots in 5 s on an idle core, and its agent is asked soon after."""


def the_package_installs(machine: Machine) -> str:
    """Dpkg takes it on a running system, whose systemd then knows the units; they are those of this checkout."""
    done = machine.run("dpkg", "-i", "/root/vmpulse.deb")
    if done.code:
        return done.said[-400:]
    loaded = [machine.show(unit, "LoadState", "ActiveState") for unit in UNITS]
    if loaded != [["loaded", "inactive"]] * len(UNITS):
        return f"units: {loaded}"
    differ = machine.shell("for unit in *; do cmp $unit /lib/systemd/system/$unit; done", "/root/deploy/systemd")
    return "" if len(differ.said.splitlines()) == 1 and "vmpulse.sysusers" in differ.said else differ.said


def the_broker_is_set_up_as_documented(machine: Machine) -> str:
    """The commands of operating.md, word by word, give users, rights and password files."""
    machine.write("/root/hosts.txt", f"{HOSTNAME}\n")
    machine.write("/root/admin.password", f"{PASSWORD}\n", 0o600)
    done = machine.shell(documented("rabbitmq-plugins enable rabbitmq_management").replace("PASSWORD", PASSWORD))
    return "" if done.code == 0 and "nothing differs" in done.said else done.said[-400:]


def a_guest_runs(machine: Machine) -> str:
    """As on any Debian: QEMU runs as a user of its own, and starts at each boot."""
    commands = ("virsh define guest.xml", f"virsh autostart {GUEST}", f"virsh start {GUEST}")
    done = machine.shell("\n".join(commands))
    if done.code:
        return done.said[-400:]
    owner = machine.shell(f"stat -c %U /proc/$(cat /run/libvirt/qemu/{GUEST}.pid)").said
    return "" if owner == "libvirt-qemu" else f"QEMU runs as {owner}"


def the_view_starts_as_documented(machine: Machine) -> str:
    """Likewise with view.toml and view.password; the unit is active when `enable --now` returns."""
    machine.write("/root/view.toml", 'broker_url = "amqp://engine.view@127.0.0.1:5672/"\n')
    commands = documented("install -d -m 0755 /etc/vmpulse").replace("agent", "view").replace(HOSTNAME, "view")
    done = machine.shell(f"cp /etc/vmpulse/broker/engine.view view.password\n{commands}")
    return started(machine, VIEW, done)


def the_agent_starts_as_documented(machine: Machine) -> str:
    """With operating.md's own agent.toml, but for the broker's address, which is on loopback here."""
    machine.write("/root/agent.toml", documented("# agent.toml").replace("amqps://BROKER", "amqp://127.0.0.1"))
    commands = documented("install -d -m 0755 /etc/vmpulse")
    done = machine.shell(f"cp /etc/vmpulse/broker/{HOSTNAME} {HOSTNAME}.password\n{commands}")
    return started(machine, AGENT, done)


def the_documented_check_is_content(machine: Machine) -> str:
    """``vmpulse-agent check``, as documented for a unit, fails nothing and finds password and state folder."""
    done = machine.shell(documented("/opt/vmpulse/bin/vmpulse-agent check --config"))
    well = {" ".join(line.split()[1:3]) for line in done.said.splitlines() if line.startswith("ok")}
    wanted = {"password file", "state folder", "pid files", "guest agents"}
    return "" if done.code == 0 and well >= wanted else done.said


def both_are_healthy_and_say_so(machine: Machine) -> str:
    """The health commands end with 0, and ``systemctl status`` has the STATUS line of each."""
    if not machine.until(lambda: all(machine.run(*words).code == 0 for words in HEALTH), SHOWN_S):
        return " | ".join(machine.run(*words).said for words in HEALTH)
    wanted = {AGENT: 'Status: "1 VMs; broker and hypervisor answer"', VIEW: 'Status: "1 hosts; ready"'}

    def told() -> bool:
        return all(line in machine.run("systemctl", "status", unit).said for unit, line in wanted.items())

    return "" if machine.until(told, SHOWN_S) else machine.run("systemctl", "status", *UNITS).said


def the_view_shows_the_guest(machine: Machine) -> str:
    """Status, CPU, memory from the balloon, the process, its start, and what the guest agent tells."""
    machine.until(lambda: not unshown(machine), GUEST_S)
    return unshown(machine)


def unshown(machine: Machine) -> str:
    """What the view lacks of the guest."""
    shown = row(machine)
    sections = shown.get("sections", {})
    pid = machine.run("cat", f"/run/libvirt/qemu/{GUEST}.pid").said
    expected = {
        "status": shown.get("status") == "Up" and shown.get("freshness") == "fresh",
        "cpu": isinstance(shown.get("cpuUser"), float) and isinstance(shown.get("cpuSys"), float),
        "memory": 0 < (shown.get("memUsage") or 0) <= 100,
        "elapsed time": 0 < (shown.get("elapsedTime") or 0) < 3600,
        "process": str(sections.get("info", {}).get("pid")) == pid,
        "monitor": sections.get("status", {}).get("monitorResponse") == 0,
        "guest's address": sections.get("status", {}).get("guestIPs") == [GUEST_ADDRESS],
        "guest's cards": {"eth0", "lo"}
        <= {each.get("name") for each in sections.get("guestDetails", {}).get("netIfaces", [])},
        "config": "config" in shown.get("hashes", {}),
    }
    absent = [name for name, held in expected.items() if not held]
    return f"not as it should be: {', '.join(absent)}: {json.dumps(shown)}" if absent else ""


def nothing_is_lost_in_the_unit(machine: Machine) -> str:
    """What an agent with all of root's rights reads of the guest has the hashes that the confined one has published."""

    def differ() -> str:
        free, published = sample(machine), row(machine)
        return "" if free["hashes"] == published["hashes"] else f"{free['hashes']} != {published['hashes']}"

    machine.until(lambda: not differ(), SHOWN_S)
    return differ()


def state_and_secrets_are_private(machine: Machine) -> str:
    """State folders belong to the programs' users alone; passwords come as credentials, and stand nowhere else."""
    found = machine.shell(
        """
        stat -c '%U %a %n' /var/lib/vmpulse-agent /var/lib/vmpulse-view /var/lib/vmpulse-view/view.db
        for unit in agent view; do
            stat -c '%U %a' /run/credentials/vmpulse-$unit.service/broker-password
            cmp /run/credentials/vmpulse-$unit.service/broker-password /etc/vmpulse/$unit.password
            main=$(systemctl show --value --property=MainPID vmpulse-$unit)
            if grep -q -F -f /etc/vmpulse/$unit.password /proc/$main/environ /proc/$main/cmdline; then echo told; fi
        done"""
    )
    wanted = (
        "root 700 /var/lib/vmpulse-agent",
        "vmpulse 700 /var/lib/vmpulse-view",
        "vmpulse 600 /var/lib/vmpulse-view/view.db",
        "root 400",
        "vmpulse 400",
    )
    return "" if found == (0, "\n".join(wanted)) else f"{found.code}: {found.said}"


HEALTH: Final = (("vmpulse-agent", "health"), ("vmpulse", "health"))
STARTING: Final[tuple[Callable[[Machine], str], ...]] = (
    the_package_installs,
    the_broker_is_set_up_as_documented,
    a_guest_runs,
    the_view_starts_as_documented,
    the_agent_starts_as_documented,
    the_documented_check_is_content,
    both_are_healthy_and_say_so,
    the_view_shows_the_guest,
    nothing_is_lost_in_the_unit,
    state_and_secrets_are_private,
)
