"""A view with hosts and VMs in it, fed with the bytes that real agent sessions make, back to back."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from vmpulse_agent import answers
from vmpulse_agent.hypervisor import DeviceCounters, DeviceSample, DiskCounters, DomainLook, Look, SectionReading
from vmpulse_agent.session import Session
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Teller
from vmpulse_consumers.http import EventStreams
from vmpulse_consumers.view import Request, View
from vmpulse_consumers.view.splits import SPLIT_GRACE_S
from vmpulse_contract import verbs, wire
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Status
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats, NetworkStats

START = 1000.0
"""When fleets begin, on the fleet's own clock."""


class Guest(NamedTuple):
    """One VM to simulate. CPU in percent of one CPU."""

    vm: VmId
    name: str
    status: VmStatus = VmStatus.UP
    cpu_user: float = 0.0
    cpu_sys: float = 0.0
    memory: int | None = 50
    ip: str = "192.0.2.1"
    user: str = "alice"

    @property
    def token(self) -> int:
        """A Down VM has no life."""
        return 0 if self.status is VmStatus.DOWN else 7


def guest_id(number: int) -> VmId:
    """A VM id that shows its number."""
    return VmId(UUID(int=0xABC0_0000 << 96 | number).bytes)


class SimulatedHost:
    """One agent session with its guests, and the way of its messages into a view."""

    def __init__(
        self, name: str, facts: HostFacts, guests: list[Guest], epoch: int = 1, stats: HostStats | None = None
    ) -> None:
        self.session = Session(HostId(name), epoch, facts, START - 10)
        self.session.host_sampled(stats, START - 10)
        self.guests = guests
        self._cpu_ns: dict[VmId, tuple[float, float]] = {}
        self._looked = START - 10

    def begin(self) -> None:
        """Look and read for the first time, and announce all of it."""
        self.look(START - 6)
        self.look(START - 3)
        self.session.connected(START - 3)
        self.session.begin(START - 3)

    def look(self, now: float) -> None:
        """Take one look at all guests, and read the sections of those that have begun or ended."""
        span, self._looked = now - self._looked, now
        self.session.looked(Look(now, [self._domain(guest, now, span) for guest in self.guests]), now)
        unread = set(self.session.drain_unread())
        for guest in self.guests:
            if guest.vm in unread:
                self.session.section_read(self._reading(guest), now)

    def _domain(self, guest: Guest, now: float, span: float) -> DomainLook:
        user, system = self._cpu_ns.get(guest.vm, (0.0, 0.0))
        user, system = user + guest.cpu_user * span * 1e7, system + guest.cpu_sys * span * 1e7
        self._cpu_ns[guest.vm] = user, system
        if not guest.token:
            return DomainLook(guest.vm, 0, guest.status)
        elapsed = int((now - START) * 1000) + 60_000
        return DomainLook(
            guest.vm, guest.token, guest.status, elapsed, round(user + system), round(system), guest.memory
        )

    @staticmethod
    def _reading(guest: Guest) -> SectionReading:
        return SectionReading(
            guest.vm,
            info=Info(vm_name=guest.name, pid=4711),
            config=f"<domain>{guest.name}</domain>".encode(),
            status=Status(username=guest.user, guest_ips=(guest.ip,)),
            guest_details=GuestDetails(apps_list=("kernel-6",), net_ifaces=(NetIface(name="eth0", inet=(guest.ip,)),)),
        )

    def report_devices(self, now: float) -> None:
        """Sample the devices of all guests that run, 30, 15 and 0 s ago, and report them."""
        for ago, read in ((30.0, 0), (15.0, 1 << 20), (0.0, 7 << 20)):
            counters = {
                guest.vm: DeviceCounters(
                    guest.token,
                    disks=(DiskCounters("vda", read_ops=7, read_bytes=read),),
                    network=(NetworkStats(name="vnet0", rx=1500),),
                )
                for guest in self.guests
                if guest.token
            }
            self.session.devices_sampled(DeviceSample(now - ago, counters), now)
        self.session.report_devices(now)

    def publish(self, view: View, now: float) -> None:
        """Send what the session has to say."""
        for message in self.session.drain():
            view.receive(message.exchange, message.routing_key, self.session.host, message.body, now)

    def answer(self, view: View, request: Request, now: float) -> None:
        """Answer a request of the view's by the bytes of a real reply."""
        vms = [VmId(vm) for vm in request.vms]
        reply = answers.answer(self.session, answers.Held(), request.verb, vms, now)
        view.replied(request, verbs.read_reply(request.verb, wire.write(reply)), now)


class Fleet:
    """Simulated hosts, the view that hears them, and the clock of both."""

    def __init__(self, hosts: list[SimulatedHost]) -> None:
        self.now = START
        self.view = View(START - 60)
        self.view.canary(START + 1.0)  # so that after two ticks it has listened for more than one
        self.events = EventStreams(Teller("main", EventLog("ab12")))
        self.hosts = {host.session.host: host for host in hosts}
        for host in hosts:
            host.begin()
        self.tick()
        self.tick()

    def clock(self) -> float:
        """The time, in seconds, as the app is to see it."""
        return self.now

    def tick(self, *names: str) -> None:
        """Let 3 s pass: each host (or only those named) looks and publishes, and its requests are answered."""
        self.now += 3.0
        self.view.canary(self.now)
        for name, host in self.hosts.items():
            if not names or name in names:
                host.look(self.now)
                host.session.tick(self.now)
                host.publish(self.view, self.now)
        while requests := self.view.drain_requests(self.now):
            for request in requests:
                self.hosts[request.host].answer(self.view, request, self.now)
        self.view.tick(self.now)


ALPHA_STATS = HostStats(
    cpu_user=25.5,
    cpu_sys=10.0,
    cpu_load=3.25,
    cpu_count=16,
    mem_total=65_536,
    mem_used=16_384,
    swap_total=1024,
    swap_free=1000,
)
ALPHA_UUID = "11111111-2222-3333-4444-555555555555"


def small_fleet() -> Fleet:
    """Hosts alpha (zone a), beta and gamma (zone b); VMs 1-3 on alpha, 4 and 5 on beta, 6 on gamma.

    They differ in all that can be filtered and ordered; VM 3 is Down, VM 5 paused. Only alpha tells its own statistics
    and has reported its devices.
    """
    alpha = [
        Guest(guest_id(1), "web-1", cpu_user=50.0, cpu_sys=10.0, memory=10, ip="192.0.2.11", user="alice"),
        Guest(guest_id(2), "Web-2", cpu_user=5.0, cpu_sys=1.0, memory=90, ip="192.0.2.12", user="bob"),
        Guest(guest_id(3), "db-1", VmStatus.DOWN, memory=None, ip="192.0.2.13", user="carol"),
    ]
    beta = [
        Guest(guest_id(4), "db-2", cpu_user=200.0, cpu_sys=1.5, memory=70, ip="198.51.100.4", user="alice"),
        Guest(guest_id(5), "cache", VmStatus.PAUSED, memory=30, ip="198.51.100.5", user="dave"),
    ]
    gamma = [Guest(guest_id(6), 'odd "name"\\', cpu_user=1.0, ip="203.0.113.6", user="erin")]
    zone_a = HostFacts(
        fqdn="alpha.example.org", host_uuid=ALPHA_UUID, agent_version="1.2", labels={"zone": "a", "rack": "1"}
    )
    fleet = Fleet(
        [
            SimulatedHost("alpha", zone_a, alpha, epoch=1, stats=ALPHA_STATS),
            SimulatedHost("beta", HostFacts(fqdn="beta.example.org", labels={"zone": "b", "rack": "1"}), beta, epoch=2),
            SimulatedHost("gamma", HostFacts(labels={"zone": "b"}), gamma, epoch=3),
        ]
    )
    host = next(iter(fleet.hosts.values()))
    host.report_devices(fleet.now)
    host.publish(fleet.view, fleet.now)
    return fleet


def run_twice(fleet: Fleet) -> None:
    """Have beta of a small fleet run VM 1 too, until the view says that its brain is split; beta owns it then."""
    fleet.hosts[HostId("beta")].guests.append(Guest(guest_id(1), "web-1"))
    for _ in range(int(SPLIT_GRACE_S / 3) + 2):
        fleet.tick()


def large_fleet(hosts: int, vms: int) -> Fleet:
    """A fleet of *hosts* x *vms* VMs that differ in name, CPU, memory and address."""
    return Fleet(
        [
            SimulatedHost(
                f"host-{number:05}",
                HostFacts(fqdn=f"host-{number:05}.example.org", labels={"zone": "abc"[number % 3]}),
                [_any_guest(number * vms + at) for at in range(vms)],
            )
            for number in range(hosts)
        ]
    )


def _any_guest(number: int) -> Guest:
    return Guest(
        guest_id(number),
        f"guest-{number}",
        cpu_user=number % 97,
        cpu_sys=number % 13,
        memory=number % 100,
        ip=f"198.51.{number // 250 % 250}.{number % 250}",
        user=f"user{number % 50}",
    )
