"""A test stand: a simulated host, a session that is fed from it, and a reader that knows only what was published.

Time is a number that tests set; nothing sleeps and nothing is connected.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vmpulse_agent import answers
from vmpulse_agent.hypervisor import HypervisorEvent, LifecycleEvent, SectionsStale
from vmpulse_agent.session import Outgoing, Session
from vmpulse_contract import columns, verbs, wire
from vmpulse_contract.identity import VmId, vm_text
from vmpulse_contract.roster_change import applied, read_roster_change
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import (
    Frame,
    HostFacts,
    Roster,
    read_change,
    read_frame,
    read_roster,
)
from vmpulse_contract.topology import Kind
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import SectionReply
from vmpulse_simulator.fleet import Fleet
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.truth import plain

TICK_S = 3.0


class Clock:
    """Monotonic seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Read the clock."""
        return self.now


class Stand:
    """One host of a fleet under a session; ``published`` is everything it said."""

    def __init__(self, hypervisor: SimulatedHypervisor, clock: Clock) -> None:
        self.hypervisor = hypervisor
        self.clock = clock
        self.session = Session(hypervisor.host, 7, HostFacts(), clock.now)
        self.published: list[Outgoing] = []
        self._stale: dict[VmId, frozenset[Section]] = {}

    async def begin(self) -> None:
        """Do what an agent does at its start."""
        await self.hypervisor.open(self._notified)
        await self._look()
        await self._read()
        self.session.begin(self.clock.now)
        self.session.connected(self.clock.now)
        self._collect()

    async def tick(self) -> None:
        """Do what an agent does in a tick."""
        await self._look()
        await self._read()
        self.session.wake(self.clock.now)
        self.session.tick(self.clock.now)
        self._collect()

    async def rows(self) -> list[dict[str, Any]]:
        """The host's VMs as a view's API would tell them, from published bytes and replies to verbs alone."""
        roster, frame = self._last()
        values = [columns.unpack(column, frame.count) for column in frame.columns]
        announced = roster.announced()
        hashes = {
            vm: dict(zip(Section, announced[4 * at : 4 * at + 4], strict=True)) for at, vm in enumerate(roster.vm_ids())
        }
        held = {section: self._reply(section) for section in (Section.INFO, Section.STATUS, Section.GUEST_DETAILS)}
        elapsed = roster.elapsed()
        since = frame.monotonic_ms - roster.monotonic_ms
        told = [
            {
                section.label: plain(section, reply.vms[vm].body, {})
                for section, reply in held.items()
                if vm in reply.vms
            }
            for vm in roster.vm_ids()
        ]
        return [
            {
                "id": vm_text(vm),
                "host": self.hypervisor.host,
                "name": told[at]["info"]["vmName"],
                "freshness": "fresh",
                "age_s": (values[4][at] or 0) / 10,
                "status": VmStatus(values[0][at] or 0).label,
                "cpuUser": tenths(values[1][at]),
                "cpuSys": tenths(values[2][at]),
                "memUsage": values[3][at],
                "elapsedTime": None if (ms := elapsed[at]) is None else (ms + since) / 1000,
                "hashes": {section.label: f"{value:016x}" for section, value in hashes[vm].items() if value},
                "sections": told[at],
            }
            for at, vm in enumerate(roster.vm_ids())
        ]

    def host_row(self) -> dict[str, Any]:
        """The host as a view's API would tell it, tombstones included."""
        roster = self._last()[0]
        return {
            "host": self.hypervisor.host,
            "state": "live",
            "epoch": f"{self.session.epoch:016x}",
            "vms": roster.count,
            "tombstones": [
                {"id": vm_text(VmId(stone.vm)), "exitReason": stone.exit_reason.name.lower()}
                for stone in roster.tombstones
            ],
        }

    def _reply(self, section: Section) -> SectionReply:
        verb = verbs.VERB_OF_SECTION[section]
        raw = wire.write(answers.answer(self.session, answers.Held(), verb, (), self.clock.now))
        reply = verbs.read_reply(verb, raw)
        assert isinstance(reply, SectionReply)
        return reply

    def _last(self) -> tuple[Roster, Frame]:
        """The roster that all that was said adds up to, and the last frame."""
        newest = max(at for at, message in enumerate(self.published) if message.kind is Kind.ROSTER)
        roster = read_roster(self.published[newest].body).roster
        for message in self.published[newest:]:
            if message.kind is Kind.ROSTER_CHANGE:
                made = applied(roster, read_roster_change(message.body).change)
                assert made is not None
                roster = made
            elif message.kind is Kind.CHANGE:
                change = read_change(message.body)
                announced = roster.announced()
                announced[roster.vm_ids().index(VmId(change.vm)) * len(Section) + change.section] = change.hash
                roster = msgspec.structs.replace(roster, hashes=columns.to_bytes("Q", announced))
        return roster, read_frame([message.body for message in self.published if message.kind is Kind.FRAME][-1])

    def _notified(self, event: HypervisorEvent) -> None:
        if isinstance(event, SectionsStale):
            self._stale[event.vm] = self._stale.get(event.vm, frozenset()) | event.sections
        elif isinstance(event, LifecycleEvent):
            self.session.lifecycle(event, self.clock.now)
            self._stale[event.vm] = frozenset(Section)

    async def _look(self) -> None:
        self.session.looked(await self.hypervisor.look(), self.clock.now)
        for vm in self.session.drain_unread():
            self._stale[vm] = frozenset(Section)

    async def _read(self) -> None:
        stale, self._stale = self._stale, {}
        for vm, wanted in stale.items():
            if vm in self.hypervisor.domains:
                self.session.section_read(await self.hypervisor.read(vm, wanted), self.clock.now)

    def _collect(self) -> None:
        self.published.extend(self.session.drain())


async def pass_tick(stands: list[Stand], clock: Clock, seconds: float = TICK_S) -> None:
    """Let time pass, and then each host do its tick."""
    clock.now += seconds
    for stand in stands:
        await stand.tick()


def tenths(value: int | None) -> float | None:
    """A CPU column's value in percent."""
    return None if value is None else value / 10


def small_fleet(clock: Clock, hosts: int = 2, vms: int = 30, seed: int = 1) -> Fleet:
    """A fleet for a test."""
    return Fleet(hosts, vms, seed, clock)
