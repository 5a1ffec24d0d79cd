"""Replies of the detail verbs, built from the ledger: the last announced hash with its body, never a fresh look.

So a reply can never run ahead of the stream, and ``as_of`` orders it among the stream's messages. Pure functions.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

from msgspec import structs

from vmpulse_contract import deflation, limits, sections, wire
from vmpulse_contract.errors import NotReady
from vmpulse_contract.sections import ABSENT, Section
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import (
    SECTION_OF_VERB,
    AnyReply,
    DeviceReply,
    DeviceStats,
    Failure,
    HostStats,
    HostStatsReply,
    ListRecord,
    ListReply,
    Reply,
    RosterReply,
    RuntimeRecord,
    RuntimeReply,
    SectionHashes,
    SectionRecord,
    SectionReply,
    Verb,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmpulse_agent.ledger import Row
    from vmpulse_agent.session import Session
    from vmpulse_contract.errors import VerbError
    from vmpulse_contract.identity import VmId

ENVELOPE_BYTES: Final = 1024
"""Room for the fields of Reply around the records."""
RECORD_BYTES: Final = 48
"""Room for a record's key, hash and headers beside its body."""
UTF8_BYTES: Final = 4
"""Bytes that one character may take."""
DEFLATE_LEVEL: Final = 3
"""The definitions of 40 simulated VMs, 177 kB, become 9 kB in 0.3 ms; the best level takes several times as long for a
fifth less."""
BUDGET: Final = limits.MESSAGE_BYTES.maximum - ENVELOPE_BYTES


def failure(session: Session | None, error: VerbError) -> bytes:
    """Encode the reply that says why there is none."""
    epoch, as_of = (session.epoch, session.seq) if session else (0, 0)
    text = str(error)[: limits.TEXT_CHARACTERS.maximum]
    return wire.write(
        Reply(version=wire.VERSION, epoch=epoch, as_of=as_of, monotonic_ms=0, error=Failure(error.code, text))
    )


class Encoded(NamedTuple):
    """A reply's body as it travels, and its property ``content_encoding``."""

    body: bytes
    encoding: str | None


def encoded(body: bytes, *, deflate: bool) -> Encoded:
    """Deflate a reply if its asker takes that and it becomes smaller: a roster, nearly all hashes, hardly does."""
    packed = zlib.compress(body, DEFLATE_LEVEL) if deflate else body
    return Encoded(packed, deflation.ENCODING) if len(packed) < len(body) else Encoded(body, None)


class Held:
    """What the agent holds beside the session: the last host statistics."""

    def __init__(self) -> None:
        self.host: HostStats | None = None


def answer(session: Session, held: Held, verb: Verb, vms: Sequence[VmId], now: float) -> AnyReply:
    """Answer any verb but getConfig, whose bodies the ledger does not keep. Raises NotReady before the first look."""
    if not session.ready:
        raise NotReady("the agent has not had its first look at the hypervisor yet; ask again in a few seconds")
    if verb in SECTION_OF_VERB:
        return section_reply(session, SECTION_OF_VERB[verb], vms, now)
    match verb:
        case Verb.LIST:
            return _list_reply(session, now)
        case Verb.GET_ALL_RUNTIME_STATS:
            return RuntimeReply(
                **_envelope(session, now), vms={row.vm: _runtime_record(row, now) for row in session.ledger.order}
            )
        case Verb.GET_ROSTER:
            return RosterReply(**_envelope(session, now), roster=session.roster(now))
        case Verb.GET_HOST_STATS:
            if held.host is None:
                raise NotReady("host statistics have not been read yet; ask again in a few seconds")
            return HostStatsReply(**_envelope(session, now), stats=_with_counts(held.host, session))
        case _:
            return _device_reply(session, vms, now)


def _with_counts(stats: HostStats, session: Session) -> HostStats:
    """The VM counts are the ledger's, of this moment; the rest was sampled up to a tick ago."""
    order = session.ledger.order
    migrating = {VmStatus.MIGRATION_SOURCE, VmStatus.MIGRATION_DESTINATION}
    return structs.replace(
        stats,
        vm_count=len(order),
        vm_active=sum(row.token != 0 for row in order),
        vm_migrating=sum(row.status in migrating for row in order),
    )


class _Envelope(TypedDict):
    version: int
    epoch: int
    as_of: int
    monotonic_ms: int


def _envelope(session: Session, now: float) -> _Envelope:
    return {
        "version": wire.VERSION,
        "epoch": session.epoch,
        "as_of": session.seq,
        "monotonic_ms": session.monotonic_ms(now),
    }


def _list_reply(session: Session, now: float) -> ListReply:
    """All VMs with their names; without the names if these are so long that the reply would not fit."""
    named: dict[bytes, ListRecord] = {
        row.vm: ListRecord(status=row.status, vm_name=_name(row)) for row in session.ledger.order
    }
    reply = ListReply(**_envelope(session, now), vms=named)
    if sum(len(record.vm_name or "") * UTF8_BYTES + RECORD_BYTES for record in named.values()) <= BUDGET:
        return reply
    return ListReply(
        **_envelope(session, now), vms={vm: ListRecord(status=known.status) for vm, known in named.items()}
    )


def _name(row: Row) -> str | None:
    body = row.bodies[Section.INFO]
    info = sections.decode(Section.INFO, body) if body else None
    return info.vm_name if isinstance(info, sections.Info) else None


def _runtime_record(row: Row, now: float) -> RuntimeRecord:
    info, config, status, details = (value or None for value in row.announced)
    elapsed = row.elapsed(now)
    return RuntimeRecord(
        status=row.status,
        cpu_user=None if row.cpu_user is None else row.cpu_user / 10,
        cpu_sys=None if row.cpu_sys is None else row.cpu_sys / 10,
        mem_usage=row.mem_usage,
        elapsed_time=None if elapsed is None else elapsed / 1000,
        stats_age=round(max(0.0, now - row.sampled_at), 3),
        hashes=SectionHashes(info=info, config=config, status=status, guest_details=details),
    )


def section_reply(
    session: Session,
    section: Section,
    vms: Sequence[VmId],
    now: float,
    config: Mapping[VmId, bytes] | None = None,
) -> SectionReply:
    """Answer for one section; no ids: all VMs. *config* has that section's bodies, which the ledger does not keep."""
    rows, missing = _select(session, vms)
    records: dict[bytes, SectionRecord] = {}
    remaining: list[bytes] = []
    room = BUDGET - (len(rows) + len(missing)) * 18
    for row in rows:
        body = row.bodies[section] if config is None else config.get(row.vm)
        if row.announced[section] == ABSENT:
            continue
        if body is None or len(body) + RECORD_BYTES > room:
            remaining.append(row.vm)
            continue
        room -= len(body) + RECORD_BYTES
        records[row.vm] = SectionRecord(row.announced[section], body)
    return SectionReply(**_envelope(session, now), vms=records, missing=tuple(missing), remaining=tuple(remaining))


def _select(session: Session, vms: Sequence[VmId]) -> tuple[list[Row], list[VmId]]:
    known = session.ledger.rows
    if not vms:
        return session.ledger.order, []
    wanted = list(dict.fromkeys(vms))
    return [known[vm] for vm in wanted if vm in known], [vm for vm in wanted if vm not in known]


def _device_stats(session: Session, row: Row, now: float) -> DeviceStats | None:
    """The last statistics of the VM's present life, with their age and with rates since the last report."""
    stats, sampled_at = session.devices.of(row), session.devices.sampled_at(row.vm)
    if stats is None or sampled_at is None:
        return None
    return structs.replace(stats, stats_age=round(max(0.0, now - sampled_at), 3))


def _device_reply(session: Session, vms: Sequence[VmId], now: float) -> DeviceReply:
    rows, missing = _select(session, vms)
    records: dict[bytes, DeviceStats] = {}
    remaining: list[bytes] = []
    room = BUDGET - (len(rows) + len(missing)) * 18
    for row in rows:
        stats = _device_stats(session, row, now)
        if stats is None:
            continue
        size = len(wire.write(stats)) + RECORD_BYTES
        if size > room:
            remaining.append(row.vm)
            continue
        room -= size
        records[row.vm] = stats
    return DeviceReply(**_envelope(session, now), vms=records, missing=tuple(missing), remaining=tuple(remaining))
