"""What the lab checks: each function does one thing through libvirt, and says what the view then has to show."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import libvirt

from tests.lab.lab import HOST, TICK_S, CheckFailed, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.guests import Guest

WITHIN_TICK_S: Final = TICK_S + 0.5
LIFECYCLE_S: Final = 0.25
"""From libvirt's return to the API: an announced change is said at once, but at most 5 times a second."""
READY_S: Final = 15.0
WRONG_S: Final = 2.0
"""How long a question that nobody can answer may take, the start of the program included."""
AWAY_S: Final = 8.0
"""How long libvirtd stays dead: longer than two ticks, so that a hasty agent would have drawn conclusions."""


class Bench:
    """The domains of a run and what was measured on them.

    Args:
        lab: libvirt, broker, agent and view.
        names: of the light domains, which the first checks define and start.
        guests: how many real guests are to be booted; those that were are in ``guests``, by name.
        say: where progress goes.

    ``compared`` names the fields that were held against an independent reading, ``absent`` those that were nowhere
    given and had not to be; ``comparisons`` counts how often.
    """

    def __init__(
        self, lab: Lab, names: list[str], *, guests: int = 0, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.lab = lab
        self.names = names
        self.guests_wanted = guests
        self.guests: dict[str, Guest] = {}
        self.compared: set[str] = set()
        self.absent: set[str] = set()
        self.comparisons = 0
        self.say = say
        self.domains: dict[str, libvirt.virDomain] = {}
        self.latencies: dict[str, float] = {}

    @property
    def first(self) -> libvirt.virDomain:
        """The domain that most checks use."""
        return self.domains[self.names[0]]

    def act(
        self, what: str, action: Callable[[], object], status: str, domain: libvirt.virDomain | None = None
    ) -> None:
        """Do something to a domain and measure how long after libvirt's return the view shows it."""
        vm = (domain or self.first).UUIDString()
        action()
        self.shows(what, f"the view says {status}", self.lab.status_is(vm, status))

    def shows(self, what: str, how: str, holds: Callable[[], bool]) -> None:
        """Measure how long the view takes from now to show *what* was just done; hold it to the limit."""
        took = self.lab.until(f"{what}: {how}", holds, WITHIN_TICK_S)
        self.latencies[what] = took
        if took > LIFECYCLE_S:
            raise CheckFailed(f"{what} was shown after {took * 1000:.0f} ms; allowed: {LIFECYCLE_S * 1000:.0f} ms")


def a_host_without_domains_is_live(bench: Bench) -> None:
    """The host is live before it has a single domain."""
    lab = bench.lab
    lab.until("the host is live", lab.live, READY_S)
    if lab.rows():
        raise CheckFailed(f"nothing is defined, yet the view has {lab.rows()}")


def defined_domains_appear_down(bench: Bench) -> None:
    """Each defined domain is in the view within 250 ms, Down."""
    lab = bench.lab
    for name in bench.names:
        xml = lab.hypervisor.light_domain(name, vnc=True)
        bench.domains[name] = lab.connection.defineXML(xml)
        vm = bench.domains[name].UUIDString()
        bench.shows(f"define {name}", "the view says Down", lab.status_is(vm, "Down"))


def started_domains_are_up(bench: Bench) -> None:
    """Each start shows within 250 ms."""
    for name, domain in bench.domains.items():
        bench.act(f"start {name}", domain.create, "Up", domain)


def sections_are_true(bench: Bench) -> None:
    """Name, pid, type and display of each domain are those of its QEMU process and its XML."""
    lab = bench.lab
    for name, domain in bench.domains.items():
        vm = domain.UUIDString()
        lab.until(f"info of {name}", lambda vm=vm: "info" in (lab.row(vm) or {}).get("sections", {}), WITHIN_TICK_S)  # type: ignore[misc]
        info = (lab.row(vm) or {})["sections"]["info"]
        expected = {"vmName": name, "pid": lab.hypervisor.domain_pid(name), "vmType": "qemu", "kvmEnable": False}
        wrong = {key: (info.get(key), value) for key, value in expected.items() if info.get(key) != value}
        if wrong or info.get("displayType") != "vnc" or not info.get("displayPort"):
            raise CheckFailed(f"info of {name}: {wrong or info}")


def runtime_values_are_true(bench: Bench) -> None:
    """After two ticks CPU shares are known and plausible, and the running time is libvirt's own."""
    lab, vm = bench.lab, bench.first.UUIDString()
    lab.until("cpu of the first domain", lambda: "cpuUser" in (lab.row(vm) or {}), 3 * TICK_S)
    row = lab.row(vm) or {}
    busy = row["cpuUser"] + row["cpuSys"]
    if not 0 <= busy <= 120 or row["freshness"] != "fresh" or not 0 < row["elapsedTime"] < 300:
        raise CheckFailed(f"runtime values of the first domain: {row}")


def suspend_shows_as_paused(bench: Bench) -> None:
    """Suspend shows within 250 ms."""
    bench.act("suspend", bench.first.suspend, "Paused")


def resume_shows_as_up(bench: Bench) -> None:
    """Resume shows within 250 ms."""
    bench.act("resume", bench.first.resume, "Up")


def reboot_keeps_the_life(bench: Bench) -> None:
    """A reset and a reboot request keep the domain up, in the same incarnation, without a tombstone."""
    lab, vm = bench.lab, bench.first.UUIDString()
    before = len(lab.host().get("tombstones", []))
    bench.first.reset()
    bench.first.reboot()
    deadline = time.monotonic() + 2 * TICK_S
    while time.monotonic() < deadline:
        row = lab.row(vm)
        if row is None or row["status"] not in {"Up", "RebootInProgress"}:
            raise CheckFailed(f"during a reboot the view says {row}")
        time.sleep(0.05)
    if len(lab.host().get("tombstones", [])) != before:
        raise CheckFailed("a reboot left a tombstone")


def configuration_is_given_by_verb(bench: Bench) -> None:
    """``vmpulse call`` gives the XML that the announced config hash covers; unknown ids come back in ``missing``."""
    vm, unknown = bench.first.UUIDString(), "00000000-0000-4000-8000-000000000000"
    reply = bench.lab.call("getConfig", vm, unknown)
    if reply.returncode:
        raise CheckFailed(f"getConfig failed: {reply.stderr}")
    answer = json.loads(reply.stdout)
    record, announced = answer["vms"][vm], (bench.lab.row(vm) or {})["hashes"]["config"]
    if record["hash"] != announced or vm not in record["config"] or answer["missing"] != [unknown]:
        raise CheckFailed(f"getConfig answered {answer}, announced was {announced}")


def host_statistics_are_given(bench: Bench) -> None:
    """``getHostStats`` counts the domains that libvirt counts, and says what the CPUs do."""
    lab = bench.lab
    host = json.loads(lab.call("getHostStats").stdout)["stats"]
    active = len(lab.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))
    if host["vmActive"] != active or not 0 <= host["cpuIdle"] <= 100 or host["memTotal"] <= 0:
        raise CheckFailed(f"host statistics: {host}")


def device_statistics_are_given(bench: Bench) -> None:
    """``getAllDeviceStats`` has disk and balloon of each domain, soon after its start; sizes are libvirt's."""
    lab = bench.lab
    devices = json.loads(lab.call("getAllDeviceStats").stdout)["vms"]
    for domain in bench.domains.values():
        record = devices.get(domain.UUIDString(), {})
        disks, balloon = record.get("disks") or {}, record.get("balloonInfo") or {}
        sizes = [disk.get("apparentsize") for disk in disks.values()]
        if sizes != [1 << 20] or balloon.get("balloon_max") != domain.info()[1]:
            raise CheckFailed(f"device statistics of {domain.name()}: {record}")


def destroy_leaves_a_tombstone(bench: Bench) -> None:
    """Destroy shows Down within 250 ms, and the roster says that an administrator did it."""
    vm = bench.first.UUIDString()
    bench.act("destroy", bench.first.destroy, "Down")
    stones = [stone for stone in bench.lab.host().get("tombstones", []) if stone["id"] == vm]
    if not stones or stones[-1].get("exitReason") != "admin_shutdown":
        raise CheckFailed(f"tombstones after destroy: {stones}")


def undefine_makes_it_vanish(bench: Bench) -> None:
    """An undefined domain leaves the view within 250 ms."""
    vm = bench.first.UUIDString()
    bench.first.undefine()
    bench.shows("undefine", "gone from the view", lambda: bench.lab.row(vm) is None)


def a_killed_libvirtd_takes_no_vm_along(bench: Bench) -> None:
    """SIGKILL of libvirtd: no VM is reported gone or Down, ages grow; after its return all is fresh within one tick."""
    lab = bench.lab
    before = {vm: row["status"] for vm, row in lab.rows().items()}
    lab.hypervisor.kill()
    deadline = time.monotonic() + AWAY_S
    oldest = 0.0
    while time.monotonic() < deadline:
        _assert_same(lab, before)
        oldest = max(oldest, *(row["age_s"] for row in lab.rows().values()))
        time.sleep(0.05)
    if oldest < AWAY_S / 2:
        raise CheckFailed(f"libvirtd was dead for {AWAY_S} s, yet the oldest age was {oldest} s")
    lab.hypervisor.start()
    back = time.monotonic()
    lab.until("all VMs fresh again", lambda: max(row["age_s"] for row in lab.rows().values()) < TICK_S + 0.5, 15.0)
    _assert_same(lab, before)
    lab.connection = libvirt.open(lab.hypervisor.uri)
    bench.domains = {name: lab.connection.lookupByName(name) for name in bench.names[1:]}
    bench.names = bench.names[1:]
    if time.monotonic() - back > 3 * TICK_S:
        raise CheckFailed(f"fresh only {time.monotonic() - back:.1f} s after libvirtd's return")


def _assert_same(lab: Lab, before: dict[str, str]) -> None:
    now = {vm: row["status"] for vm, row in lab.rows().items()}
    if now != before:
        raise CheckFailed(f"while libvirtd was away the view turned from {before} to {now}")


def after_its_return_events_flow_again(bench: Bench) -> None:
    """A restarted libvirtd is listened to anew: suspend and resume show within 250 ms."""
    bench.act("suspend after the return", bench.first.suspend, "Paused")
    bench.act("resume after the return", bench.first.resume, "Up")


def an_agent_restart_loses_nothing(bench: Bench) -> None:
    """A clean restart of the agent says goodbye, comes back by itself, and keeps VMs and tombstones."""
    lab = bench.lab
    before, stones = {vm: row["status"] for vm, row in lab.rows().items()}, len(lab.host().get("tombstones", []))
    code = lab.agent.stop()
    if code:
        raise CheckFailed(f"the agent ended with {code}: {lab.agent.said[-500:]}")
    lab.until("host stopped", lambda: lab.host()["state"] == "stopped", 2.0)
    lab.agent = lab.start_agent()
    lab.until("host live again", lambda: lab.host()["state"] == "live", 15.0)
    lab.until("same VMs", lambda: {vm: row["status"] for vm, row in lab.rows().items()} == before, WITHIN_TICK_S)
    if len(lab.host().get("tombstones", [])) != stones:
        raise CheckFailed(f"{stones} tombstones became {lab.host().get('tombstones')}")


def the_list_is_libvirts(bench: Bench) -> None:
    """``list`` names exactly the domains that libvirt has, with their names."""
    reply = bench.lab.call("list")
    if reply.returncode:
        raise CheckFailed(f"list failed: {reply.stderr}")
    listed = {vm: record.get("vmName") for vm, record in json.loads(reply.stdout)["vms"].items()}
    true = {domain.UUIDString(): domain.name() for domain in bench.lab.connection.listAllDomains()}
    if listed != true:
        raise CheckFailed(f"list gives {listed}, libvirt has {true}")


def wrong_answers_are_errors(bench: Bench) -> None:
    """A host that nobody knows and a verb that is none end ``vmpulse call`` soon, with one line and their exit code."""
    lab = bench.lab
    for host, verb, code in (("nosuchhost", "list", 1), (HOST, "noSuchVerb", 2)):
        began = time.monotonic()
        done = lab.call(verb, host=host)
        took = time.monotonic() - began
        if (done.returncode, done.stdout, done.stderr.count("\n")) != (code, "", 1) or took > WRONG_S:
            raise CheckFailed(f"call {host} {verb} took {took:.1f} s and gave {done}; wanted: {code} and one line")


def the_command_line_shows_the_view(bench: Bench) -> None:
    """``vmpulse vms``, ``vm``, ``hosts`` and ``host`` show people and machines what the API says."""
    lab, vm = bench.lab, bench.first.UUIDString()
    listed = {row["id"] for row in json.loads(_printed(lab, "vms", "--json"))["vms"]}
    if listed != set(lab.rows()):
        raise CheckFailed(f"vms --json lists {listed}, the API {set(lab.rows())}")
    for words, expected in (
        (("vm", vm), (vm, bench.names[0], "Up")),
        (("hosts",), (HOST, "live")),
        (("host", HOST), (HOST, "live", vm)),
    ):
        shown = _printed(lab, *words)
        absent = [word for word in expected if word not in shown]
        if absent:
            raise CheckFailed(f"{' '.join(words)} does not show {absent}: {shown}")


def _printed(lab: Lab, *arguments: str) -> str:
    done = lab.vmpulse(*arguments)
    if done.returncode or done.stderr:
        raise CheckFailed(f"vmpulse {' '.join(arguments)} failed: {done}")
    return done.stdout


SETUP: Final[tuple[Callable[[Bench], None], ...]] = (
    a_host_without_domains_is_live,
    defined_domains_appear_down,
    started_domains_are_up,
)
"""What every other check stands on."""
CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (
    sections_are_true,
    runtime_values_are_true,
    suspend_shows_as_paused,
    resume_shows_as_up,
    reboot_keeps_the_life,
    configuration_is_given_by_verb,
    host_statistics_are_given,
    device_statistics_are_given,
    the_list_is_libvirts,
    wrong_answers_are_errors,
    the_command_line_shows_the_view,
    destroy_leaves_a_tombstone,
    undefine_makes_it_vanish,
    a_killed_libvirtd_takes_no_vm_along,
    after_its_return_events_flow_again,
    an_agent_restart_loses_nothing,
)
