"""Real agent sessions and a real view, wired back to back through a broker that can lose, repeat and withhold.

No clock: ``now`` is a number that the test moves. No mock: every byte is made by the session and read by the view.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from vmpulse_agent import answers
from vmpulse_agent.hypervisor import DomainLook, Exit, LifecycleChange, LifecycleEvent, Look, SectionReading
from vmpulse_agent.session import Outgoing, Policy, Session
from vmpulse_consumers.view import Request, View
from vmpulse_consumers.view.rows import VmRow, vm_row
from vmpulse_contract import sections, verbs, wire
from vmpulse_contract.errors import UnknownHost
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Section, Status
from vmpulse_contract.stream import HostFacts, Tombstone
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

STOPPED = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)


def vm_number(number: int) -> VmId:
    """A VM id that sorts by its number."""
    return VmId(number.to_bytes(16, "big"))


class Delivery(NamedTuple):
    """A message in the view's queue."""

    host: HostId
    message: Outgoing


class Domain:
    """The truth of one VM."""

    def __init__(self, vm: VmId, token: int) -> None:
        self.vm = vm
        self.token = token
        self.name = f"vm-{vm[-1]}"
        self.user = "nobody"
        self.app = "app-1"
        self.cpu_ns = 0

    @property
    def status(self) -> VmStatus:
        return VmStatus.UP if self.token else VmStatus.DOWN

    def reading(self) -> SectionReading:
        """All sections as a hypervisor would read them now."""
        running = bool(self.token)
        return SectionReading(
            self.vm,
            info=Info(vm_name=self.name, pid=self.token or None),
            config=f"<domain><name>{self.name}</name></domain>".encode(),
            status=Status(username=self.user) if running else Status(),
            guest_details=GuestDetails(apps_list=(self.app,), net_ifaces=(NetIface(name="eth0"),)) if running else None,
        )


class SimpleHost:
    """One host: its domains, and the agent session that speaks for them."""

    def __init__(self, name: str, numbers: range, now: float, epoch: int) -> None:
        self.id = HostId(name)
        self.domains = {vm_number(number): Domain(vm_number(number), number + 1000) for number in numbers}
        self.tokens = 10_000 * (1 + numbers.start)
        self.queue: deque[Delivery] = deque()
        self.tombstones: list[Tombstone] = []
        self.session = self.begin(now, epoch)

    def begin(self, now: float, epoch: int) -> Session:
        """Start an agent: a new epoch over the same domains."""
        self.session = Session(self.id, epoch, HostFacts(), now, Policy(damping_s=3.0))
        self.look(now)
        self.read_all(now)
        self.session.begin(now)
        self.session.connected(now)
        self.pump()
        return self.session

    def look(self, now: float) -> None:
        """Look at all domains, and read what has begun or ended a life."""
        looks = [
            DomainLook(
                domain.vm,
                domain.token,
                domain.status,
                elapsed_ms=5000 if domain.token else None,
                cpu_time_ns=domain.cpu_ns if domain.token else None,
                cpu_system_ns=domain.cpu_ns // 4 if domain.token else None,
                mem_usage=domain.vm[-1] if domain.token else None,
            )
            for domain in self.domains.values()
        ]
        self.session.looked(Look(now, looks), now)
        for vm in self.session.drain_unread():
            self.session.section_read(self.domains[vm].reading(), now)
        self.pump()

    def read_all(self, now: float) -> None:
        for domain in self.domains.values():
            self.session.section_read(domain.reading(), now)
        self.pump()

    def tick(self, now: float) -> None:
        """One tick: the counters have grown, look, read what changed, publish a frame."""
        for domain in self.domains.values():
            domain.cpu_ns += 300_000_000 * domain.vm[-1]
        self.look(now)
        self.read_all(now)
        self.session.wake(now)
        self.session.tick(now)
        self.pump()

    def stop_vm(self, vm: VmId, now: float) -> None:
        self.domains[vm].token = 0
        self.session.lifecycle(LifecycleEvent(vm, LifecycleChange.STOPPED, STOPPED), now)

    def start_vm(self, vm: VmId) -> None:
        self.tokens += 1
        self.domains[vm].token = self.tokens
        self.domains[vm].cpu_ns = 0

    def pump(self) -> None:
        """Move what the session says into the view's queue; the broker confirms at once."""
        for message in self.session.drain():
            self.queue.append(Delivery(self.id, message))
            if message.change is not None:
                self.session.confirmed(message.change, message.seq)

    def answer(self, request: Request, now: float) -> bytes:
        """Answer a request as the agent does."""
        body = wire.write(verbs.Request(vms=request.vms))
        asked = verbs.read_request(body)
        reply = answers.answer(self.session, answers.Held(), request.verb, [VmId(vm) for vm in asked.vms], now)
        return wire.write(reply)


class Table:
    """Hosts and a view on one table, with the broker between them in the test's hands."""

    def __init__(self, hosts: int = 1, vms: int = 3) -> None:
        self.now = 1000.0
        self.epochs = 0
        self.hosts = {
            host.id: host
            for host in (
                SimpleHost(f"host-{n}", range(1 + n * vms, 1 + (n + 1) * vms), self.now, self.next_epoch())
                for n in range(hosts)
            )
        }
        self.dead: set[HostId] = set()
        self.view = View(self.now)
        self.view.canary(self.now)

    def next_epoch(self) -> int:
        self.epochs += 1
        return self.epochs * 7919

    @property
    def host(self) -> SimpleHost:
        """The first host."""
        return next(iter(self.hosts.values()))

    def deliver(self) -> None:
        """Hand over all that is queued, in order."""
        for host in self.hosts.values():
            while host.queue:
                self.receive(host.queue.popleft())

    def receive(self, delivery: Delivery) -> None:
        message = delivery.message
        self.view.receive(message.exchange, message.routing_key, delivery.host, message.body, self.now)

    def answer(self) -> int:
        """Let the hosts answer what the view asks, until it asks no more. Gives the number of requests."""
        asked = 0
        while requests := self.view.drain_requests(self.now):
            for request in requests:
                self.answer_one(request)
                asked += 1
            assert asked < 1000, "the view never stops asking"
        return asked

    def answer_one(self, request: Request) -> None:
        host = self.hosts[request.host]
        if request.host in self.dead:
            self.view.request_failed(request, UnknownHost("nobody there"), self.now)
            return
        reply = verbs.read_reply(request.verb, host.answer(request, self.now))
        self.view.replied(request, reply, self.now)

    def step(self, seconds: float = 3.0) -> None:
        """Let time pass in which all is well: a tick of each host, everything delivered and answered."""
        self.now += seconds
        self.view.canary(self.now)
        for host in self.hosts.values():
            if host.id not in self.dead:
                host.tick(self.now)
        self.settle()

    def settle(self) -> None:
        self.view.tick(self.now)
        self.deliver()
        self.answer()
        self.deliver()

    def row(self, number: int) -> VmRow:
        return vm_row(self.view, self.now, self.view.vms[vm_number(number)], with_sections=True, with_claims=True)

    def assert_equal(self) -> None:
        """The view says of every VM of every host what is true."""
        want = {vm for host in self.hosts.values() for vm in host.domains}
        assert self.view.vms.keys() == want
        for host in self.hosts.values():
            for domain in host.domains.values():
                self._assert_vm(host, domain)

    def _assert_vm(self, host: SimpleHost, domain: Domain) -> None:
        row = vm_row(self.view, self.now, self.view.vms[domain.vm], with_sections=True)
        reading = domain.reading()
        assert row.host == host.id
        assert row.status == domain.status.label
        assert row.repairing == ()
        assert row.sections is not None
        assert row.sections.info == reading.info
        assert row.sections.guest_details == (
            reading.guest_details and sections.decode(Section.GUEST_DETAILS, sections.encode(reading.guest_details))
        )
        assert row.sections.status is not None
        assert row.sections.status.username == (domain.user if domain.token else None)
        assert row.hashes["config"] == f"{sections.section_hash(Section.CONFIG, reading.config or b''):016x}"
        assert row.freshness == "fresh"
