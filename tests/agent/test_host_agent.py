"""One host at work, with its messages caught where the broker link would take them."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from tests.real_broker import at_work, running_vm, simulated_host
from tests.waiting import eventually
from vmpulse_agent import host_agent
from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.host_agent import HostAgent, Timing
from vmpulse_agent.hypervisor import (
    ConnectionBack,
    ConnectionLost,
    DeviceSample,
    Exit,
    Look,
    SectionReading,
    SectionsStale,
)
from vmpulse_agent.session import Outgoing, Policy
from vmpulse_contract import verbs, wire
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.errors import BadRequest, NotAllowed, NotReady, UnknownVerb, VerbError
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import HostFacts, Tombstone, read_frame, read_roster
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_contract.verbs import AnyReply, HostStats, Request, SectionReply, Verb
from vmpulse_simulator.hypervisor import CPUS, MEMORY_MIB, SimulatedHypervisor, state_of

ENGINE = "engine.view"


class Catcher:
    """Takes messages as the broker link does, and confirms changes at once."""

    def __init__(self) -> None:
        self.said: list[Outgoing] = []

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Keep it."""
        self.said.append(message)
        if message.change is not None:
            agent.confirmed(message.change, message.seq)

    async def attach(self, agent: HostAgent) -> None:
        """Take messages from now on."""
        agent.link_up()

    async def detach(self, agent: HostAgent) -> None:
        """Nothing is kept for anybody."""

    def of(self, kind: Kind) -> list[Outgoing]:
        """The messages of one kind."""
        return [message for message in self.said if message.kind is kind]


class Stubborn(SimulatedHypervisor):
    """A host that can be made to fail."""

    failing = False
    failing_reads = False
    edits_in_secret = False
    passing_over = 0
    """So many whole looks get no answer from any monitor, as where others keep them busy."""
    reads = 0

    async def look(self, *, states_only: bool = False) -> Look:
        """Look, or fail to."""
        self._fail()
        look = await super().look(states_only=states_only)
        if states_only or not self.passing_over:
            return look
        self.passing_over -= 1
        return look._replace(domains=[state_of(domain) for domain in look.domains])

    async def read(self, vm: VmId, wanted: frozenset[Section]) -> SectionReading:
        """Read, or fail to."""
        self._fail()
        self.reads += 1
        if self.failing_reads:
            raise HypervisorError("no sections today")
        reading = await super().read(vm, wanted)
        if self.edits_in_secret and reading.config is not None:
            return reading._replace(config=reading.config + b"<!-- -->")
        return reading

    async def host_stats(self) -> HostStats:
        """Read, or fail to."""
        self._fail()
        return await super().host_stats()

    async def device_sample(self) -> DeviceSample:
        """Read, or fail to."""
        self._fail()
        return await super().device_sample()

    def _fail(self) -> None:
        if self.failing:
            raise HypervisorError("the hypervisor is not itself today")


@pytest.fixture
def hypervisor() -> Stubborn:
    """A host with three VMs."""
    host = simulated_host("host")
    return Stubborn(host.host, host.uuid, host.domains.values(), time.monotonic)


@pytest.fixture
def caught() -> Catcher:
    """Where messages go."""
    return Catcher()


def agent_of(hypervisor: SimulatedHypervisor, caught: Catcher, kept: list[Tombstone] | None = None) -> HostAgent:
    """An agent that is in a hurry."""

    def keep(tombstones: object, _: int) -> None:
        if kept is not None and isinstance(tombstones, list):
            kept[:] = tombstones

    return HostAgent(
        hypervisor.host,
        hypervisor,
        caught,
        facts=HostFacts(tick_ms=100),
        timing=Timing(tick_s=0.1, refresh_s=0.2, device_s=0.1, device_report_s=0.3),
        policy=Policy(damping_s=0.05),
        report_phase_s=0.1,
        on_tombstones=keep,
    )


async def ask(agent: HostAgent, verb: str, body: bytes | None = None, user: str | None = ENGINE) -> AnyReply:
    """Ask as a request does and read as its asker does."""
    raw, _ = await agent.answer(verb, wire.write(Request()) if body is None else body, user)
    return verbs.read_reply(Verb(verb) if verb in set(Verb) else Verb.LIST, raw)


async def test_host_begins_with_its_roster_and_ends_with_goodbye(hypervisor: Stubborn, caught: Catcher) -> None:
    """The first message is a roster with every section announced, the last the goodbye; detail costs no event."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: len(caught.of(Kind.FRAME)) > 3)
    roster = read_roster(caught.said[0].body).roster
    assert set(roster.vm_ids()) == hypervisor.domains.keys()
    vm = running_vm(hypervisor)
    at = roster.vm_ids().index(vm) * len(Section)
    assert all(list(roster.announced())[at : at + 3])
    assert not caught.of(Kind.CHANGE)
    assert caught.said[-1].kind is Kind.GOODBYE


async def test_crash_says_nothing_more(hypervisor: Stubborn, caught: Catcher) -> None:
    """An agent that is killed leaves no goodbye."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: caught.of(Kind.FRAME))
        agent.crash()
        said = len(caught.said)
    assert len(caught.said) == said


async def test_nothing_is_said_before_the_first_good_look(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the hypervisor cannot be looked at, the host says nothing and answers that it is not ready (promise A2)."""
    monkeypatch.setattr(host_agent, "RETRY_S", 0.05)
    hypervisor.failing = True
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.counters.looks_failed > 2)
        assert not caught.said
        for verb in Verb:
            with pytest.raises(NotReady):
                await ask(agent, verb)
        hypervisor.failing = False
        await eventually(lambda: caught.of(Kind.ROSTER))


async def test_failing_hypervisor_ends_no_loop(hypervisor: Stubborn, caught: Catcher) -> None:
    """A hypervisor that fails for a while costs ages, not VMs: frames go on with the same layout, and changes after."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: len(caught.of(Kind.FRAME)) > 1)
        hypervisor.failing = True
        rosters, frames = len(caught.of(Kind.ROSTER)), len(caught.of(Kind.FRAME))
        await eventually(lambda: len(caught.of(Kind.FRAME)) > frames + 3)
        assert len(caught.of(Kind.ROSTER)) == rosters
        hypervisor.failing = False
        vm = running_vm(hypervisor)
        hypervisor.domains[vm].name = "renamed"
        hypervisor.changed(vm, Section.INFO)
        await eventually(lambda: caught.of(Kind.CHANGE))


async def test_a_hypervisor_that_is_back_is_looked_at_at_once(hypervisor: Stubborn, caught: Catcher) -> None:
    """Its return is followed by a whole look and a frame, however long the tick is."""
    agent = agent_of(hypervisor, caught)
    agent.timing = agent.timing._replace(tick_s=60.0)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready and agent.measures.ticks.counts != [0] * 11)
        ticks, looks = sum(agent.measures.ticks.counts), agent.session.counters.looks
        hypervisor._announce(ConnectionLost("it went"))
        hypervisor._announce(ConnectionBack())
        await eventually(lambda: sum(agent.measures.ticks.counts) == ticks + 1)
        assert agent.session.counters.looks > looks


async def test_who_is_passed_over_at_the_return_is_looked_at_again_soon(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hypervisor that is back and busy still is looked at again, a few times, however long the tick is."""
    monkeypatch.setattr(host_agent, "CATCH_UP_S", 0.02)
    agent = agent_of(hypervisor, caught)
    agent.timing = agent.timing._replace(tick_s=60.0)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready and agent.measures.ticks.counts != [0] * 11)
        hypervisor._announce(ConnectionLost("it went"))
        hypervisor.passing_over = 2
        back = asyncio.get_running_loop().time()
        hypervisor._announce(ConnectionBack())
        await eventually(lambda: all(row.sampled_at > back for row in agent.session.ledger.order if row.token))
        assert hypervisor.passing_over == 0


async def test_what_nobody_announces_is_found_by_the_refresh(hypervisor: Stubborn, caught: Catcher) -> None:
    """A section that changes without any event of the hypervisor is said once it is read again."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready)
        hypervisor.domains[running_vm(hypervisor)].name = "renamed-in-secret"
        await eventually(lambda: any(b"renamed-in-secret" in message.body for message in caught.of(Kind.CHANGE)))


async def test_what_settles_after_its_event_is_said_soon(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A definition that changes just after its event, as with a plugged device, does not wait for the refresh."""
    monkeypatch.setattr(host_agent, "REREAD_S", 0.3)
    agent, vm = agent_of(hypervisor, caught), running_vm(hypervisor)
    agent.timing = agent.timing._replace(refresh_s=3600.0)
    async with at_work(agent.run()):
        await eventually(lambda: agent.session.ready)
        reads = hypervisor.reads
        hypervisor._announce(SectionsStale(vm, frozenset({Section.INFO}), settling=True))
        await eventually(lambda: hypervisor.reads > reads)
        hypervisor.domains[vm].name = "settled"
        await eventually(lambda: any(b"settled" in message.body for message in caught.of(Kind.CHANGE)))


async def test_devices_are_reported_again_and_again(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each period there is one report, of a newer sample of all VMs that run."""
    monkeypatch.setattr(host_agent, "DEVICE_GAP_S", 0.0)
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        began = time.monotonic()
        await eventually(lambda: len(caught.of(Kind.DEVICES)) == 3)
        assert time.monotonic() - began > 0.6
    messages = [read_columns(message.body) for message in caught.of(Kind.DEVICES)]
    assert [message.number for message in messages[:3]] == [1, 2, 3]
    assert sorted({message.monotonic_ms for message in messages}) == [message.monotonic_ms for message in messages]
    lives = {vm: domain.life.token for vm, domain in hypervisor.domains.items() if domain.life}
    assert {vm: record.token for vm, record in messages[-1].vms.items()} == lives


async def test_samples_are_a_period_apart_however_long_they_take(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The period of device samples is from start to start: a peak may hide in no more than that."""
    monkeypatch.setattr(host_agent, "DEVICE_GAP_S", 0.05)
    began: list[float] = []
    sample = hypervisor.device_sample

    async def slow_sample() -> DeviceSample:
        began.append(time.monotonic())
        await asyncio.sleep(0.3)
        return await sample()

    monkeypatch.setattr(hypervisor, "device_sample", slow_sample)
    agent = agent_of(hypervisor, caught)
    agent.timing = agent.timing._replace(device_s=0.5)
    async with at_work(agent.run()):
        await eventually(lambda: len(began) == 5)
    # The first two are closer: the lives that the first look shows are asked for soon.
    assert 0.45 < min(after - before for before, after in pairwise(began[1:])) < 0.7


async def test_first_reports_are_spread(hypervisor: Stubborn, caught: Catcher) -> None:
    """Unless told when, each host draws the moment of its first report, from one period after its start."""
    agents = [
        HostAgent(hypervisor.host, hypervisor, caught, facts=HostFacts(), timing=Timing(device_report_s=50.0))
        for _ in range(100)
    ]
    phases = sorted(agent._report_phase_s for agent in agents)
    assert 0 <= phases[0] < 10
    assert 40 < phases[-1] <= 50


async def test_the_host_is_told_of_in_rosters_and_frames(hypervisor: Stubborn, caught: Catcher) -> None:
    """The first roster says how big the host is, each frame how busy, and not while that could not be read."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: caught.of(Kind.FRAME))
        facts = read_roster(caught.of(Kind.ROSTER)[0].body).roster.facts
        assert (facts.cpu_count, facts.mem_total, facts.swap_total) == (CPUS, MEMORY_MIB, 0)
        told = read_frame(caught.of(Kind.FRAME)[-1].body).host_stats
        truth = await hypervisor.host_stats()
        assert told is not None
        assert (told.mem_used, told.swap_used) == (truth.mem_used, 0)
        assert len(caught.of(Kind.ROSTER)) == 1
        hypervisor.failing = True
        await eventually(lambda: read_frame(caught.of(Kind.FRAME)[-1].body).host_stats is None)


async def test_ends_are_kept(hypervisor: Stubborn, caught: Catcher) -> None:
    """The end of a VM's life is given to be kept, with the hypervisor's reason."""
    kept: list[Tombstone] = []
    agent = agent_of(hypervisor, caught, kept)
    async with at_work(agent.run()):
        await eventually(lambda: caught.of(Kind.FRAME))
        vm = running_vm(hypervisor)
        hypervisor.power_off(vm, Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN))
        (stone,) = await eventually(lambda: kept)
        assert (stone.vm, stone.exit_reason) == (vm, ExitReason.ADMIN_SHUTDOWN)


async def test_config_is_withheld_when_it_is_not_what_was_announced(hypervisor: Stubborn, caught: Catcher) -> None:
    """The verb getConfig gives the XML that the announced hash covers, byte for byte, or none at all."""
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: caught.of(Kind.FRAME))
        vm = running_vm(hypervisor)
        body = wire.write(Request(vms=(vm,)))
        reply = await ask(agent, Verb.GET_CONFIG, body)
        assert isinstance(reply, SectionReply)
        assert reply.vms[vm].body == hypervisor.domains[vm].config()
        row = agent.session.ledger.rows[vm]
        announced = row.announced[Section.CONFIG]
        agent.session.disconnected()  # nothing can be announced now
        hypervisor.edits_in_secret = True
        withheld = await ask(agent, Verb.GET_CONFIG, body)
        assert isinstance(withheld, SectionReply)
        assert row.announced[Section.CONFIG] == announced
        assert (withheld.vms, withheld.missing, withheld.remaining) == ({}, (), (vm,))
        hypervisor.failing = True
        with pytest.raises(VerbError, match="not itself today"):
            await ask(agent, Verb.GET_CONFIG, body)


@pytest.mark.parametrize("user", [None, "", "another-host", "host"])
async def test_only_engine_users_are_answered(user: str | None, hypervisor: Stubborn, caught: Catcher) -> None:
    """Whoever has no dot in the name is refused, before anything else is looked at."""
    agent = agent_of(hypervisor, caught)
    with pytest.raises(NotAllowed):
        await ask(agent, "no-verb", b"\xc1", user)


@pytest.mark.parametrize("verb", ["", "getLost", "GETROSTER", "x" * 5000, "\n"])
async def test_unknown_verbs_are_said_so(verb: str, hypervisor: Stubborn, caught: Catcher) -> None:
    """A verb that this agent does not know is answered with those that it does."""
    with pytest.raises(UnknownVerb, match="getRoster"):
        await ask(agent_of(hypervisor, caught), verb)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        wire.write([1]),
        wire.write({"version": 2, "vmIDs": ()}),
        wire.write({"version": 1, "vmIDs": (b"short",)}),
        wire.write({"version": 1, "vmIDs": [b"v" * 16] * 4097}),
    ],
)
async def test_malformed_requests_are_said_so(body: bytes, hypervisor: Stubborn, caught: Catcher) -> None:
    """A body that is no request is answered with what is wrong with it."""
    with pytest.raises(BadRequest):
        await ask(agent_of(hypervisor, caught), Verb.LIST, body)


async def test_stop_while_waiting_for_the_hypervisor_is_clean(hypervisor: Stubborn, caught: Catcher) -> None:
    """An agent that is stopped before its first good look ends at once and says nothing."""
    hypervisor.failing = True
    agent = agent_of(hypervisor, caught)
    task = asyncio.create_task(agent.run())
    await eventually(lambda: agent.session.counters.looks_failed)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=1)
    assert done
    assert not caught.said


async def test_failed_reads_are_tried_again_at_one_pace(
    hypervisor: Stubborn, caught: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a VM's sections are wanted while they cannot be read, one timer tries again for it, and no more."""
    monkeypatch.setattr(host_agent, "REREAD_S", 0.2)
    agent = agent_of(hypervisor, caught)
    async with at_work(agent.run()):
        await eventually(lambda: caught.of(Kind.FRAME))
        hypervisor.failing_reads = True
        began, before = time.monotonic(), hypervisor.reads
        for _ in range(50):
            for vm in hypervisor.domains:
                agent._want_read_later(vm, frozenset({Section.STATUS}))
        await eventually(lambda: hypervisor.reads - before >= 40)
        # Three VMs, each read for the refresh and for its timer, both every 0.2 s: 30 a second.
        assert time.monotonic() - began > 0.8
        hypervisor.failing_reads = False
        await eventually(lambda: not agent._to_reread)
