"""A large fleet as its messages show it: what each host has announced, its seq, and the bytes that come next.

Hosts beyond the templates are copies of them with names, VM ids, names and addresses of their own. All messages are
what the agent's session says; nothing of a host is kept but that it has announced so and so many changes.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, TypedDict

import msgspec
import numpy as np

from benches.streamed import amqp
from benches.streamed.bodies import body
from benches.streamed.frames import Frames, digest_at, first_frame
from benches.streamed.templates import renamed
from vmpulse_agent.session import Outgoing
from vmpulse_contract import sections, topology, wire
from vmpulse_contract.device_columns import pack_columns
from vmpulse_contract.devices import DeviceMessage
from vmpulse_contract.identity import HostId, VmId, host_id
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.stream import ROW_HASH_BYTES, ChangeEvent, Roster, RosterMessage
from vmpulse_contract.topology import Kind
from vmpulse_contract.verbs import SECTION_OF_VERB, HostStatsReply, RosterReply, SectionRecord, SectionReply, Verb
from vmpulse_simulator.lots import Lots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benches.streamed.templates import Template

REPLY_BYTES: Final = 768 << 10
"""Bodies in a reply; what goes beyond is named in ``remaining``, as agents do."""
CHANGED: Final = ((Section.STATUS, 0.55), (Section.GUEST_DETAILS, 0.25), (Section.INFO, 0.2))
"""Which section changes, about as in the simulator, where a move changes two."""


class Head(TypedDict):
    """What every reply begins with."""

    version: int
    epoch: int
    as_of: int
    monotonic_ms: int


class StreamedFleet:
    """The fleet. Its methods may be called from any thread.

    Args:
        templates: what hosts say.
        hosts: how many there are.
        clock: monotonic seconds.
        seed: draws epochs, and which sections change.
    """

    def __init__(self, templates: Sequence[Template], hosts: int, clock: Callable[[], float], seed: int) -> None:
        self.names = [host_id(f"host-{number:05d}") for number in range(hosts)]
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.vms_per_host = templates[0].roster.count
        self.seq = np.zeros(hosts, np.uint32)
        self.said: Counter[Kind] = Counter()
        """Messages made so far."""
        self._templates = templates
        self._clock = clock
        self._lots = Lots(seed, "streamed")
        self._started = clock()
        self._lock = threading.Lock()
        self._epochs = [self._lots.bits() >> 1 | 1 for _ in range(hosts)]
        self._versions: dict[tuple[int, int, Section], int] = {}
        self._reports = np.ones(hosts, np.uint32)
        self._ids = [self._vms_of(number) for number in range(hosts)]
        self._hashes = [self._hashes_of(number) for number in range(hosts)]
        self._digests = np.array([self._digest(number) for number in range(hosts)], np.uint64)
        self._frames = self._all_frames()

    @property
    def vms(self) -> int:
        """How many VMs the fleet has."""
        return len(self.names) * self.vms_per_host

    # --- the stream ---------------------------------------------------------------------------------------------

    def frames(self, first: int, end: int, tick: int) -> bytes:
        """Give the next frames of the hosts from *first* to before *end*, as they are on the wire."""
        with self._lock:
            self.seq[first:end] += 1
            self.said[Kind.FRAME] += end - first
            return self._frames[tick % len(self._frames)].take(
                first, end, self.seq[first:end], self._digests[first:end], self._monotonic_ms()
            )

    def roster(self, number: int) -> bytes:
        """Give a host's roster, as it is on the wire."""
        with self._lock:
            content = wire.write(
                RosterMessage(wire.VERSION, self._epochs[number], self._next(number), self._roster(number))
            )
            return self._message(number, Kind.ROSTER, topology.roster_key(self.names[number]), content)

    def change(self, hosts: int) -> bytes:
        """Let a section of a VM of the first *hosts* hosts change, and give the event as it is on the wire."""
        with self._lock:
            number, row, section = self._draw(hosts)
            before = self._versions.get((number, row, section), 0)
            self._versions[number, row, section] = before + 1
            content = self._body(number, row, section)
            value = ABSENT if content is None else sections.section_hash(section, content)
            at = row * ROW_HASH_BYTES + section * 8
            (previous,) = struct.unpack_from("<Q", self._hashes[number], at)
            struct.pack_into("<Q", self._hashes[number], at, value)
            self._digests[number] = self._digest(number)
            event = ChangeEvent(
                wire.VERSION,
                self._epochs[number],
                self._next(number),
                self._vm(number, row),
                section,
                value,
                previous,
                content,
            )
            return self._message(
                number, Kind.CHANGE, topology.change_key(self.names[number], section), wire.write(event)
            )

    def devices(self, number: int) -> bytes:
        """Give a host's device statistics, as they are on the wire."""
        template, copy = self._template(number), number // len(self._templates)
        records = {renamed(vm, copy): record for vm, record in template.devices.vms.items()}
        with self._lock:
            count, now = int(self._reports[number]), self._monotonic_ms()
            self._reports[number] += 1
        told = pack_columns(DeviceMessage(wire.VERSION, self._epochs[number], count, now, records))
        return self._message(number, Kind.DEVICES, topology.devices_key(self.names[number]), wire.write(told))

    # --- answers ------------------------------------------------------------------------------------------------

    def answer(self, host: HostId, verb: Verb, vms: Sequence[bytes]) -> bytes:
        """Answer a request to one of the hosts, as its agent would. Raises KeyError for others and for other verbs."""
        number = self.numbers[host]
        with self._lock:
            if verb is Verb.GET_ROSTER:
                return wire.write(RosterReply(**self._head(number), roster=self._roster(number)))
            if verb is Verb.GET_HOST_STATS:
                return wire.write(HostStatsReply(**self._head(number)))
            return wire.write(self._section_reply(number, SECTION_OF_VERB[verb], vms))

    def _head(self, number: int) -> Head:
        return Head(
            version=wire.VERSION,
            epoch=self._epochs[number],
            as_of=int(self.seq[number]),
            monotonic_ms=self._monotonic_ms(),
        )

    def _section_reply(self, number: int, section: Section, vms: Sequence[bytes]) -> SectionReply:
        rows = {vm: row for row, vm in enumerate(self._ids[number])}
        records: dict[bytes, SectionRecord] = {}
        left, missing, room = [], [], REPLY_BYTES
        for vm in vms or rows:
            content = self._body(number, rows[vm], section) if vm in rows else None
            if content is None:
                missing.append(vm)
            elif len(content) > room:
                left.append(vm)
            else:
                room -= len(content)
                records[vm] = SectionRecord(sections.section_hash(section, content), content)
        return SectionReply(**self._head(number), vms=records, missing=tuple(missing), remaining=tuple(left))

    # --- what a host is -----------------------------------------------------------------------------------------

    def _template(self, number: int) -> Template:
        return self._templates[number % len(self._templates)]

    def _vms_of(self, number: int) -> list[bytes]:
        copy = number // len(self._templates)
        return [renamed(vm, copy) for vm in self._template(number).roster.vm_ids()]

    def _vm(self, number: int, row: int) -> VmId:
        return VmId(self._ids[number][row])

    def _body(self, number: int, row: int, section: Section) -> bytes | None:
        version = self._versions.get((number, row, section), 0)
        return body(self._template(number).sections[row], section, number * self.vms_per_host + row, version)

    def _hashes_of(self, number: int) -> bytearray:
        values = []
        for row in range(self.vms_per_host):
            for section in Section:
                content = self._body(number, row, section)
                values.append(ABSENT if content is None else sections.section_hash(section, content))
        return bytearray(struct.pack(f"<{len(values)}Q", *values))

    def _digest(self, number: int) -> int:
        return sections.digest(b"".join(self._ids[number]), bytes(self._hashes[number]))

    def _roster(self, number: int) -> Roster:
        roster, name = self._template(number).roster, self.names[number]
        facts = msgspec.structs.replace(roster.facts, fqdn=f"{name}.simulated.example", host_uuid=None)
        return msgspec.structs.replace(
            roster, facts=facts, vms=b"".join(self._ids[number]), hashes=bytes(self._hashes[number])
        )

    def _draw(self, hosts: int) -> tuple[int, int, Section]:
        """Draw a section that a VM has; config alone changes with nothing that could be seen of it."""
        while True:
            number, row = self._lots.below(hosts), self._lots.below(self.vms_per_host)
            section = self._lots.weighted(CHANGED)
            if self._body(number, row, section) is not None:
                return number, row, section

    # --- messages -----------------------------------------------------------------------------------------------

    def _monotonic_ms(self) -> int:
        return int((self._clock() - self._started) * 1000)

    def _next(self, number: int) -> int:
        self.seq[number] += 1
        return int(self.seq[number])

    def _message(self, number: int, kind: Kind, key: str, content: bytes) -> bytes:
        exchange = {Kind.CHANGE: topology.CHANGES, Kind.DEVICES: topology.DEVICES}.get(kind, topology.RUNTIME)
        expiration = topology.DEVICES_EXPIRATION_MS if kind is Kind.DEVICES else None
        self.said[kind] += 1
        outgoing = Outgoing(kind, exchange, key, content, int(self.seq[number]), expiration)
        return amqp.message(self.names[number], outgoing)

    def _all_frames(self) -> list[Frames]:
        first = self._templates[0].roster
        at = digest_at(first.layout, first.count)
        return [Frames(self._first_frames(variant), at) for variant in range(len(self._templates[0].tails))]

    def _first_frames(self, variant: int) -> Iterator[tuple[HostId, bytes]]:
        for number, name in enumerate(self.names):
            template = self._template(number)
            roster = template.roster
            tail = template.tails[variant]
            yield name, first_frame(self._epochs[number], roster.layout, roster.count, tail)
