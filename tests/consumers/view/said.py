"""What the agents of a host have said, so that what the view shows can be held to it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from vmpulse_contract import wire
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.devices import DeviceRecord
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import RosterMessage
from vmpulse_contract.topology import Kind

if TYPE_CHECKING:
    from vmpulse_agent.change_schedule import ChangeKey
    from vmpulse_agent.ledger import Row
    from vmpulse_agent.session import Outgoing, Session

DAMPING_S = 3.0
ROUNDING_S = 0.000_001
"""Sums of floats differ by so little."""


class Values(NamedTuple):
    """What a frame says of one VM, and when that was read."""

    sampled_at: float
    mem_usage: int | None


class Said:
    """All that the sessions of one host have ever said: what the view may show of it, and in which order."""

    def __init__(self) -> None:
        self.frames: dict[tuple[int, int], dict[VmId, Values]] = {}
        """By epoch and seq."""
        self.rosters: defaultdict[tuple[int, int], list[frozenset[VmId]]] = defaultdict(list)
        """By epoch and seq, or the as_of of a reply."""
        self.hashes: defaultdict[tuple[int, VmId, Section], list[int]] = defaultdict(list)
        """The announced hashes of a section within one epoch, in order; 0 first."""
        self.devices: defaultdict[tuple[int, VmId], list[DeviceRecord]] = defaultdict(list)
        """By epoch."""
        self.hurried: list[ChangeKey] = []
        """Changes that were told again before their damping was over (promise A4)."""
        self._changes: dict[tuple[Row, Section], float] = {}

    def note_hashes(self, session: Session) -> None:
        """Append what has changed of what the session has announced."""
        for row in session.ledger.order:
            for section in Section:
                history = self.hashes[session.epoch, row.vm, section]
                if not history or history[-1] != row.announced[section]:
                    history.append(row.announced[section])

    def note_connected(self, session: Session) -> None:
        """What was not confirmed, or has changed since, is told at once when the broker is there again."""
        ours = set(session.ledger.rows.values())
        self._changes = {key: at for key, at in self._changes.items() if key[0] not in ours}

    def note_message(self, session: Session, message: Outgoing, now: float) -> None:
        """Remember what a message that is about to be published says."""
        if message.kind is Kind.FRAME:
            self.frames[session.epoch, message.seq] = {
                row.vm: Values(row.sampled_at, row.mem_usage) for row in session.ledger.order
            }
        elif message.kind is Kind.ROSTER:
            roster = wire.read_stream(message.body, RosterMessage).roster
            self.rosters[session.epoch, message.seq].append(frozenset(roster.vm_ids()))
        elif message.kind is Kind.ROSTER_CHANGE:
            self.rosters[session.epoch, message.seq].append(frozenset(session.ledger.rows))
        elif message.kind is Kind.DEVICES:
            for vm, record in read_columns(message.body).vms.items():
                self.devices[session.epoch, VmId(vm)].append(record)
        if message.change is not None:
            key = session.ledger.rows[message.change.vm], message.change.section
            if now - self._changes.get(key, float("-inf")) < DAMPING_S - ROUNDING_S:
                self.hurried.append(message.change)
            self._changes[key] = now
