"""Whatever happens to a session, a receiver that hears everything agrees with its digests."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.agent.receiver import Receiver
from tests.agent.situations import (
    EPOCH,
    SHUT_DOWN,
)
from vmpulse_agent.change_schedule import ChangeKey
from vmpulse_agent.hypervisor import (
    DeviceCounters,
    DeviceSample,
    DomainLook,
    Exit,
    LifecycleChange,
    LifecycleEvent,
    Look,
    SectionReading,
)
from vmpulse_agent.session import Policy, Session
from vmpulse_contract import sections
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_contract.stream import HostFacts
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

IDS = [VmId(bytes([letter]) * 16) for letter in b"ABCD"]
contents = st.builds(
    SectionReading,
    st.sampled_from(IDS),
    info=st.none() | st.builds(Info, pid=st.integers(0, 2)),
    config=st.none() | st.sampled_from([b"<a/>", b"<b/>"]),
    status=st.none() | st.builds(Status, time_offset=st.integers(0, 2)),
    guest_details=st.none() | st.builds(GuestDetails, apps_list=st.sampled_from([(), ("a",)])),
)
domains = st.lists(
    st.builds(
        DomainLook,
        st.sampled_from(IDS),
        st.integers(0, 2),
        st.sampled_from([VmStatus.UP, VmStatus.PAUSED, VmStatus.UNKNOWN]),
        st.none() | st.integers(0, 9000),
        st.none() | st.integers(0, 10**12),
        st.none() | st.integers(0, 10**12),
        st.none() | st.integers(0, 100),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda look: look.vm,
)


class SessionMachine(RuleBasedStateMachine):
    """Anything may happen in any order; a receiver that hears all of it always agrees with the digest."""

    @initialize(first=domains, connected=st.booleans())
    def start(self, first: list[DomainLook], *, connected: bool) -> None:
        """Begin with any VMs, with a broker or before it."""
        self.now = 1000.1
        self.session = Session(
            HostId("h1"), EPOCH, HostFacts(), self.now, Policy(damping_s=3.0, unresponsive_after_s=5)
        )
        self.receiver = Receiver(EPOCH)
        self.flying: list[tuple[ChangeKey, int]] = []
        self.told: dict[ChangeKey, float] = {}
        self.is_connected = connected
        self.session.looked(Look(self.now, first), self.now)
        if connected:
            self.session.connected(self.now)
        self.session.begin(self.now)
        self._hear()

    def _hear(self) -> None:
        outgoing = self.session.drain()
        assert self.is_connected or not outgoing
        self.receiver.hear(outgoing)
        for one in outgoing:
            if one.change is not None:
                self.flying.append((one.change, one.seq))
                assert self.now - self.told.get(one.change, float("-inf")) >= 3.0 - 1e-6
                self.told[one.change] = self.now

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0, 3.0, 7.3]))
    def time_passes(self, seconds: float) -> None:
        """Time goes on, and the session is woken when it asked to be."""
        until = self.now + seconds
        for _ in range(100):
            at = self.session.wake_at()
            if at is None or at > until:
                break
            assert at > self.now, "what is due was done"
            self.now = at
            self.session.wake(self.now)
            self._hear()
        else:
            raise AssertionError("woken again and again")
        self.now = until

    @rule(seen=domains, late=st.sampled_from([0.0, 0.0, 0.0, 0.1, 2.0]))
    def look(self, seen: list[DomainLook], late: float) -> None:
        """A look shows any VMs, in time or late."""
        before = {row.vm: row.token for row in self.session.ledger.order}
        self.session.looked(Look(self.now - late, seen), self.now)
        # The interval of damping is that of a VM which is there: one that comes back is told at once.
        for vm in before.keys() - {row.vm for row in self.session.ledger.order}:
            for section in Section:
                self.told.pop(ChangeKey(vm, section), None)
        self._hear()

    @rule(lives=st.dictionaries(st.sampled_from(IDS), st.integers(1, 3)), due=st.booleans())
    def sample_devices(self, lives: dict[VmId, int], *, due: bool) -> None:
        """Devices are sampled, also of lives that are over or not known yet; a report may be due."""
        sample = DeviceSample(self.now, {vm: DeviceCounters(token) for vm, token in lives.items()})
        if due:
            self.session.report_devices(self.now)
        self.session.devices_sampled(sample, self.now)
        self._hear()

    @rule(memory=st.none() | st.integers(0, 3), fails=st.booleans())
    def sample_host(self, memory: int | None, *, fails: bool) -> None:
        """The host's own statistics are read; its memory may have grown."""
        self.session.host_sampled(None if fails else HostStats(cpu_user=1.0, mem_total=memory), self.now)
        self._hear()

    @rule()
    def look_fails(self) -> None:
        """A look fails."""
        before = [row.vm for row in self.session.ledger.order]
        self.session.look_failed(self.now)
        assert [row.vm for row in self.session.ledger.order] == before
        self._hear()

    @rule(reading=contents)
    def read(self, reading: SectionReading) -> None:
        """Sections of a VM are read, also of one that is not there."""
        self.session.section_read(reading, self.now)
        self._hear()

    @rule(vm=st.sampled_from(IDS), change=st.sampled_from(LifecycleChange), exit_=st.none() | st.just(SHUT_DOWN))
    def event(self, vm: VmId, change: LifecycleChange, exit_: Exit | None) -> None:
        """The hypervisor announces anything."""
        self.session.lifecycle(LifecycleEvent(vm, change, exit_), self.now)

    @rule()
    def tick(self) -> None:
        """A tick publishes a frame while there is a broker, unless a roster has to come first."""
        self.session.tick(self.now)
        self._hear()

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """The broker confirms a change, or refuses it."""
        change, seq = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if data.draw(st.booleans()):
            self.session.confirmed(change, seq)
        else:
            self.session.refused(change, seq, self.now)
        self._hear()

    @precondition(lambda self: self.is_connected)
    @rule()
    def disconnect(self) -> None:
        """The broker goes away."""
        self.is_connected = False
        self.session.disconnected()
        self.flying.clear()
        assert self.session.wake_at() is None

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        """The broker comes back, and may be told anything again at once."""
        self.is_connected = True
        self.told.clear()
        self.session.connected(self.now)
        self._hear()
        assert self.receiver.frame is not None
        self._agrees()

    def _agrees(self) -> None:
        roster = self.receiver.roster
        assert roster is not None
        if roster.layout == self.session.ledger.layout:
            assert self.receiver.digest() == self.session.ledger.digest()

    @invariant()
    def receiver_agrees(self) -> None:
        """While all is heard under the present layout, the receiver's digest is the ledger's."""
        if self.is_connected:
            self._agrees()

    def teardown(self) -> None:
        """In the end, whatever happened, the receiver knows every section as it was last read."""
        if not hasattr(self, "session"):
            return
        if not self.is_connected:
            self.connect()
        self.time_passes(20.0)
        ledger = self.session.ledger
        assert list(ledger.unannounced()) == []
        assert self.receiver.hashes == {row.vm: row.current for row in ledger.order}
        for (vm, section), body in self.receiver.bodies.items():
            row = ledger.rows.get(vm)
            if row is not None and section in sections.BODIED and row.announced[section] != sections.ABSENT:
                assert sections.section_hash(section, body) == row.announced[section]


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
