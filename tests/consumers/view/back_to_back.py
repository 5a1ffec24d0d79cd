"""Real agent sessions and a real view, wired back to back through a broker that can lose, repeat and withhold.

No clock: ``now`` is a number that the test moves. No mock: every byte is made by the session and read by the view.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tests.consumers.view.said import DAMPING_S, Said
from tests.consumers.view.simulated_broker import Link, SimulatedBroker
from vmpulse_agent import answers
from vmpulse_agent.hypervisor import (
    DeviceCounters,
    DeviceSample,
    DiskCounters,
    DomainLook,
    Exit,
    LifecycleChange,
    LifecycleEvent,
    Look,
    SectionReading,
)
from vmpulse_agent.session import Outgoing, Policy, Session
from vmpulse_consumers.view import Request, View
from vmpulse_consumers.view.rows import VmRow, vm_row
from vmpulse_contract import sections, verbs, wire
from vmpulse_contract.devices import DeviceRecord
from vmpulse_contract.errors import HostDidNotAnswer, NotReady, UnknownHost
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Section, Status
from vmpulse_contract.stream import HostFacts, Tombstone
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus
from vmpulse_contract.verbs import HostStats, RosterReply, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROSTERS = frozenset({Kind.ROSTER, Kind.ROSTER_CHANGE})
"""Both ways of the stream to say who is there."""
STOPPED = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)
MIGRATED = Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED)
FAILED = Exit(ExitCode.ERROR, ExitReason.MIGRATION_FAILED)


def vm_number(number: int) -> VmId:
    """A VM id that sorts by its number."""
    return VmId(number.to_bytes(16, "big"))


class Delivery(NamedTuple):
    """A message in the view's queue."""

    host: HostId
    message: Outgoing
    epoch: int


class Domain:
    """The truth of one VM."""

    def __init__(self, vm: VmId, token: int) -> None:
        self.vm = vm
        self.token = token
        self.name = f"vm-{vm[-1]}"
        self.user = "nobody"
        self.apps: tuple[str, ...] = ("app-1",)
        self.cpu_ns = 0
        self.answered = True
        self.moving: VmStatus | None = None
        """Its role in a migration that is going on and has announced itself."""

    @property
    def status(self) -> VmStatus:
        return (self.moving or VmStatus.UP) if self.token else VmStatus.DOWN

    @property
    def runs(self) -> bool:
        """Whether it runs here, as opposed to arriving."""
        return self.token != 0 and self.moving is not VmStatus.MIGRATION_DESTINATION

    def reading(self) -> SectionReading:
        """All sections as a hypervisor would read them now."""
        running = bool(self.token)
        return SectionReading(
            self.vm,
            info=Info(vm_name=self.name, pid=self.token or None),
            config=f"<domain><name>{self.name}</name></domain>".encode(),
            status=Status(username=self.user) if running else Status(),
            guest_details=GuestDetails(apps_list=self.apps, net_ifaces=(NetIface(name="eth0"),)) if running else None,
        )


class SimpleHost:
    """One host: its domains, and the agent session that speaks for them."""

    sessions_are: type[Session] = Session

    def __init__(self, name: str, numbers: range, now: float, epoch: int) -> None:
        self.id = HostId(name)
        self.domains = {vm_number(number): Domain(vm_number(number), number + 1000) for number in numbers}
        self.tokens = 10_000 * (1 + numbers.start)
        self.queue: deque[Delivery] = deque()
        self.link = Link.UP
        self.blocked = False
        """The broker is in alarm, and takes no messages."""
        self.withheld: deque[tuple[Session, Delivery]] = deque()
        """Messages on their way to the broker, which does not take them now."""
        self.now = now
        """When it was last given the time."""
        self.looked: dict[int, set[VmId]] = {}
        """What the last good look has shown, by epoch."""
        self.tombstones: list[Tombstone] = []
        self.said = Said()
        self.held = answers.Held()
        self.held.host = HostStats(cpu_user=1.0)
        self.rival: Session | None = None
        """A second live agent for this host; ``session`` is the one that holds the rpc queue."""
        self.session = self.begin(now, epoch)

    def sessions(self) -> Iterator[Session]:
        """The live agents: one, or by somebody's mistake two."""
        yield self.session
        if self.rival is not None:
            yield self.rival

    def begin(self, now: float, epoch: int) -> Session:
        """Start an agent: a new epoch over the same domains, and with the tombstones that were kept, if any."""
        self.withheld.clear()
        if self.link is not Link.UP:
            self.link = Link.AWAY  # what cannot connect has no connection that only seems to be there
        self.session = self.sessions_are(self.id, epoch, HostFacts(), now, Policy(damping_s=DAMPING_S))
        self.session.tombstones.extend(self.tombstones)
        self.tombstones = []
        self.look(now)
        self.read_all(now)
        self.session.begin(now)
        if self.link is Link.UP:
            self.session.connected(now)
        self.pump()
        return self.session

    def keep_tombstones(self, now: float, jump_s: float) -> None:
        """Keep the tombstones for the next agent, over whose start the wall clock jumps by *jump_s*."""
        shift = int(jump_s * 1000) + self.session.monotonic_ms(now)
        self.tombstones = [
            msgspec.structs.replace(stone, ended_ms=min(-1, stone.ended_ms - shift))
            for stone in self.session.tombstones
        ]

    def reconnect(self, now: float) -> None:
        """The agent's connection is there again, after it was lost."""
        self.now = now
        for session in self.sessions():
            session.disconnected()
            self.said.note_connected(session)
            session.connected(now)
        self.pump()

    def fail_to_look(self, now: float) -> None:
        """A look that gives nothing."""
        self.now = now
        for session in self.sessions():
            session.look_failed(now)
        self.pump()

    def look(self, now: float) -> None:
        """Look at all domains, and read what has begun or ended a life."""
        self.now = now
        looks = [
            DomainLook(
                domain.vm,
                domain.token,
                domain.status,
                answered=domain.answered,
                elapsed_ms=5000 if domain.token else None,
                cpu_time_ns=domain.cpu_ns if domain.token else None,
                cpu_system_ns=domain.cpu_ns // 4 if domain.token else None,
                mem_usage=domain.vm[-1] if domain.token else None,
            )
            for domain in self.domains.values()
        ]
        for session in self.sessions():
            if now > session.looked_at:
                self.looked[session.epoch] = set(self.domains)
            session.looked(Look(now, looks), now)
            self.said.note_hashes(session)
            for vm in session.drain_unread():
                if vm in self.domains:
                    session.section_read(self.domains[vm].reading(), now)
                    self.said.note_hashes(session)
        self.pump()

    def read_all(self, now: float) -> None:
        for session in self.sessions():
            for domain in self.domains.values():
                session.section_read(domain.reading(), now)
                self.said.note_hashes(session)
        self.pump()

    def tick(self, now: float) -> None:
        """One tick: the counters have grown, look, read what changed, publish a frame."""
        for domain in self.domains.values():
            domain.cpu_ns += 300_000_000 * domain.vm[-1]
        self.look(now)
        self.read_all(now)
        for session in self.sessions():
            session.wake(now)
            session.tick(now)
        self.pump()

    def report_devices(self, now: float) -> None:
        """Sample the devices and report them: each running VM has a disk that has read as many bytes as now is ms."""
        counters = {
            vm: DeviceCounters(domain.token, disks=(DiskCounters("vda", read_bytes=int(now * 1000)),))
            for vm, domain in self.domains.items()
            if domain.token
        }
        self.now = now
        sample = DeviceSample(now, counters)
        for session in self.sessions():
            session.devices_sampled(sample, now)
            session.report_devices(now)
        self.pump()

    def stop_vm(self, vm: VmId, now: float, end: Exit = STOPPED) -> None:
        self.now = max(self.now, now)
        self.domains[vm].token, self.domains[vm].moving = 0, None
        for session in self.sessions():
            session.lifecycle(LifecycleEvent(vm, LifecycleChange.STOPPED, end), now)

    def define_vm(self, vm: VmId) -> Domain:
        """Define a VM here, Down; one that is there already stays as it is."""
        return self.domains.setdefault(vm, Domain(vm, 0))

    def undefine_vm(self, vm: VmId, now: float, end: Exit = STOPPED) -> None:
        """Take a VM away, running or not."""
        if self.domains[vm].token:
            self.stop_vm(vm, now, end)
        for session in self.sessions():
            session.lifecycle(LifecycleEvent(vm, LifecycleChange.UNDEFINED, None), now)
        del self.domains[vm]

    def start_vm(self, vm: VmId) -> None:
        self.tokens += 1
        self.domains[vm].token = self.tokens
        self.domains[vm].cpu_ns, self.domains[vm].moving = 0, None

    def receive_vm(self, vm: VmId) -> None:
        """A migration brings a VM here; it does not run here yet."""
        self.define_vm(vm)
        self.start_vm(vm)
        self.domains[vm].moving = VmStatus.MIGRATION_DESTINATION

    def pump(self) -> None:
        """Move what the session says into the view's queue, or to wherever the broker lets it come."""
        for session in self.sessions():
            self.said.note_hashes(session)
            for message in session.drain():
                self.said.note_message(session, message, self.now)
                delivery = Delivery(self.id, message, session.epoch)
                if self.blocked or self.link is Link.WITHHOLDS:
                    self.withheld.append((session, delivery))
                elif self.link is Link.UP:
                    self.take(session, delivery)

    def take(self, session: Session, delivery: Delivery) -> None:
        """The broker takes a message, and says so."""
        self.queue.append(delivery)
        change = delivery.message.change
        if change is not None:
            session.confirmed(change, delivery.message.seq)

    def answer(self, request: Request, now: float) -> bytes:
        """Answer a request as the agent does."""
        body = wire.write(verbs.Request(vms=request.vms))
        asked = verbs.read_request(body)
        try:
            return self._answer(request, asked, now)
        except NotReady as error:
            return answers.failure(self.session, error)

    def _answer(self, request: Request, asked: verbs.Request, now: float) -> bytes:
        reply = answers.answer(self.session, self.held, request.verb, [VmId(vm) for vm in asked.vms], now)
        if isinstance(reply, RosterReply) and reply.roster is not None:
            self.said.rosters[reply.epoch, reply.as_of].append(frozenset(reply.roster.vm_ids()))
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
        self.broker = SimulatedBroker(lambda: list(self.hosts.values()))
        self.dead: set[HostId] = set()
        self.delivered: defaultdict[tuple[HostId, int], int] = defaultdict(int)
        """The highest seq handed to the view, by host and epoch."""
        self.confirmed: set[tuple[HostId, int]] = set()
        """Hosts and epochs of the rosters by verb that the view was given."""
        self.watch: Callable[[], None] = lambda: None
        """Called whenever the view was given something."""
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
        message, key = delivery.message, (delivery.host, delivery.epoch)
        if message.kind is not Kind.DEVICES:
            self.delivered[key] = max(self.delivered[key], message.seq)
        self.view.receive(message.exchange, message.routing_key, delivery.host, message.body, self.now)
        self.watch()

    def answer(self) -> int:
        """Let the hosts answer what the view asks, until it asks no more. Gives the number of requests."""
        asked = 0
        while (due_in := self.view.requests_due_in(self.now)) is not None:
            self.now += due_in
            for request in self.view.drain_requests(self.now):
                self.answer_one(request)
                asked += 1
            assert asked < 1000, "the view never stops asking"
        return asked

    def answer_one(self, request: Request) -> None:
        host = self.hosts[request.host]
        if request.host in self.dead:
            self.view.request_failed(request, UnknownHost("nobody there"), self.now)
            return
        if not self.broker.reaches(host):
            self.view.request_failed(request, HostDidNotAnswer("cut off"), self.now)
            return
        self.reply(request, host.answer(request, self.now))

    def reply(self, request: Request, raw: bytes) -> None:
        """Hand over an answer now, whenever it was made."""
        try:
            reply = verbs.read_reply(request.verb, raw)
        except NotReady as error:
            self.view.request_failed(request, error, self.now)
            return
        if request.verb is Verb.GET_ROSTER:
            self.confirmed.add((request.host, reply.epoch))
        self.view.replied(request, reply, self.now)
        self.watch()

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
        """The view says of every VM what is true where it runs, or else where it is defined."""
        where: defaultdict[VmId, list[SimpleHost]] = defaultdict(list)
        for host in self.hosts.values():
            assert set(self.view.hosts[host.id].vms) == host.domains.keys()
            for vm in host.domains:
                where[vm].append(host)
        # What left for another host and was never seen there may be anywhere: for an hour the view says so (V3).
        assert self.view.vms.keys() - self.view.transits.keys() <= where.keys() <= self.view.vms.keys()
        for vm, hosts in where.items():
            owner = self.view.vms[vm].owner
            if owner is None:
                assert not any(host.domains[vm].token for host in hosts)
                continue
            assert owner.id in {host.id for host in hosts if host.domains[vm].runs} or not any(
                host.domains[vm].runs for host in hosts
            )
            self._assert_vm(self.hosts[owner.id], self.hosts[owner.id].domains[vm])

    def assert_devices(self) -> None:
        """The view has of each VM that runs what its host said last, and nothing of the others."""
        for host in self.hosts.values():
            held, epoch = self.view.hosts[host.id], host.session.epoch
            for vm, domain in host.domains.items():
                said = held.devices.of(vm, domain.token)
                assert (said is not None) == (domain.token != 0)
                assert said is None or DeviceRecord(said.token, said.stats) == host.said.devices[epoch, vm][-1]

    def _assert_vm(self, host: SimpleHost, domain: Domain) -> None:
        row = vm_row(self.view, self.now, self.view.vms[domain.vm], with_sections=True)
        reading = domain.reading()
        assert row.host == host.id
        assert row.status == domain.status.label
        assert row.mem_usage == (domain.vm[-1] if domain.token else None)
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
