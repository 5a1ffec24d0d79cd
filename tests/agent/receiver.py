"""A reader that believes whatever it is told, in order: what the session says must be enough for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from vmpulse_agent.session import Outgoing
from vmpulse_contract import columns, sections, stream, topology
from vmpulse_contract.columns import to_bytes
from vmpulse_contract.device_door import read_columns
from vmpulse_contract.devices import DeviceMessage
from vmpulse_contract.identity import VmId
from vmpulse_contract.roster_change import RosterChange, applied, read_roster_change
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import ChangeEvent, Frame, Goodbye, Roster
from vmpulse_contract.topology import Kind

Message = Frame | Roster | RosterChange | ChangeEvent | Goodbye | DeviceMessage


@dataclass
class Receiver:
    """The stream of one host, decoded by the contract's readers and held to its promises message by message."""

    epoch: int
    seq: int = 0
    roster: Roster | None = None
    hashes: dict[VmId, list[int]] = field(default_factory=dict)
    bodies: dict[tuple[VmId, Section], bytes] = field(default_factory=dict)
    frame: Frame | None = None
    reports: int = 0
    heard: list[Message] = field(default_factory=list)

    def hear(self, outgoing: Iterable[Outgoing], *, gaps: bool = False) -> list[Message]:
        """Take in what was drained; gives it decoded. *gaps*: numbers may be left out."""
        heard = [self._hear(one, gaps=gaps) for one in outgoing]
        self.heard.extend(heard)
        return heard

    def _hear(self, one: Outgoing, *, gaps: bool) -> Message:
        address = topology.parse_stream_key(one.exchange, one.routing_key)
        assert address.kind is one.kind
        if one.kind is Kind.DEVICES:
            return self._hear_devices(one, gaps=gaps)
        assert one.seq > self.seq if gaps else one.seq == self.seq + 1, "seq is contiguous from 1"
        self.seq = one.seq
        assert (one.change is not None) == (one.kind is Kind.CHANGE)
        assert (one.expiration_ms is not None) == (one.kind is Kind.FRAME)
        match one.kind:
            case Kind.FRAME:
                return self._hear_frame(one)
            case Kind.ROSTER:
                return self._hear_roster(one)
            case Kind.ROSTER_CHANGE:
                return self._hear_roster_change(one)
            case Kind.CHANGE:
                return self._hear_change(one)
            case _:
                goodbye = stream.read_goodbye(one.body)
                assert (goodbye.epoch, goodbye.seq) == (self.epoch, one.seq)
                return goodbye

    def _hear_devices(self, one: Outgoing, *, gaps: bool) -> DeviceMessage:
        message = read_columns(one.body)
        assert (message.epoch, message.number) == (self.epoch, one.seq)
        assert message.number > self.reports if gaps else message.number == self.reports + 1
        self.reports = message.number
        assert self.roster is not None, "a roster says first whose life it is"
        lives = dict(zip(self.roster.vm_ids(), self.roster.start_tokens(), strict=True))
        assert all(record.token == lives[VmId(vm)] != 0 for vm, record in message.vms.items())
        return message

    def _hear_roster(self, one: Outgoing) -> Roster:
        message = stream.read_roster(one.body)
        assert (message.epoch, message.seq) == (self.epoch, one.seq)
        self._take(message.roster)
        return message.roster

    def _hear_roster_change(self, one: Outgoing) -> RosterChange:
        message = read_roster_change(one.body)
        assert (message.epoch, message.seq) == (self.epoch, one.seq)
        assert self.roster is not None, "a difference follows a roster"
        known = to_bytes("Q", [value for row in self.hashes.values() for value in row])
        roster = applied(msgspec.structs.replace(self.roster, hashes=known), message.change)
        assert roster is not None, "a difference is to what was said before"
        self._take(roster)
        return message.change

    def _take(self, roster: Roster) -> None:
        self.roster = roster
        announced = iter(roster.announced())
        self.hashes = {vm: [next(announced) for _ in Section] for vm in roster.vm_ids()}

    def _hear_change(self, one: Outgoing) -> ChangeEvent:
        event = stream.read_change(one.body)
        assert (event.epoch, event.seq) == (self.epoch, one.seq)
        assert one.change == (event.vm, event.section)
        self.hashes[VmId(event.vm)][event.section] = event.hash
        if event.body is not None:
            self.bodies[VmId(event.vm), event.section] = event.body
        return event

    def _hear_frame(self, one: Outgoing) -> Frame:
        frame = stream.read_frame(one.body)
        assert (frame.epoch, frame.seq) == (self.epoch, one.seq)
        assert self.roster is not None, "a roster comes before the first frame"
        assert (frame.layout, frame.count) == (self.roster.layout, self.roster.count)
        assert frame.digest == self.digest(), "all that a frame's digest covers was said before it"
        self.frame = frame
        return frame

    def digest(self) -> int:
        """The digest of all that was heard."""
        packed = to_bytes("Q", [value for row in self.hashes.values() for value in row])
        return sections.digest(b"".join(self.hashes), packed)

    def column(self, name: str) -> list[int | None]:
        """One column of the last frame."""
        assert self.frame is not None
        return columns.unpack(getattr(self.frame, name), self.frame.count)
