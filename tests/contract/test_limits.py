"""Limits: each is held by the public functions, and its breach has an error of its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import msgpack
import pytest
from msgspec import structs

from vmpulse_contract import columns, device_door, device_weight, devices, errors, limits, sections, stream, verbs, wire
from vmpulse_contract.device_columns import pack_columns
from vmpulse_contract.device_weight import weight
from vmpulse_contract.devices import DeviceRecord
from vmpulse_contract.errors import LimitBreached
from vmpulse_contract.identity import VmId
from vmpulse_contract.roster_change import RosterChange, RosterChangeMessage, read_roster_change
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Section
from vmpulse_contract.stream import HostFacts, RosterMessage, Tombstone
from vmpulse_contract.values import ExitCode, ExitReason
from vmpulse_contract.verbs import Verb

MANY_IDS = tuple(number.to_bytes(16, "little") for number in range(4097))
REPLY = {"version": 1, "epoch": 1, "asOf": 1, "monotonicMs": 1}


def _roster(count: int = 0, tombs: int = 0, labels: int = 0) -> bytes:
    """A roster on the wire, which no sender of ours would make."""
    tombstone = Tombstone(MANY_IDS[0], 1, ExitCode.NORMAL, ExitReason.SUCCESS, 0)
    facts = HostFacts(labels={str(number): "x" for number in range(labels)})
    packed = (b"".join(MANY_IDS[:count]), b"\0" * 8 * count, b"\0" * 8 * count, b"\0" * 32 * count)
    roster = stream.Roster(1, 1, facts, *packed, tombstones=(tombstone,) * tombs)
    return wire.write(RosterMessage(1, 1, 1, roster))


def _roster_change(began: int = 0, left: int = 0, tombs: int = 0) -> bytes:
    """A difference on the wire, which no sender of ours would make."""
    tombstone = Tombstone(MANY_IDS[0], 1, ExitCode.NORMAL, ExitReason.SUCCESS, 0)
    packed = (b"".join(MANY_IDS[:began]), b"\0" * 8 * began, b"\0" * 8 * began, b"\0" * 32 * began)
    change = RosterChange(2, 1, 1, b"".join(MANY_IDS[:left]), *packed, tombstones=(tombstone,) * tombs)
    return wire.write(RosterChangeMessage(1, 1, 1, change))


def _frame(count: int) -> bytes:
    return msgpack.packb([1, 1, 1, 1, count, 1, 1, 1, 1, 1, 1, 1])


def _reply(**fields: object) -> bytes:
    return msgpack.packb({**REPLY, **fields})


def _details(apps: int = 0, interfaces: int = 0, addresses: int = 0) -> GuestDetails:
    one = NetIface(inet6=tuple(map(str, range(addresses))))
    return GuestDetails(apps_list=tuple(map(str, range(apps))), net_ifaces=(one,) * interfaces)


def _read_details(details: GuestDetails) -> object:
    return sections.decode(Section.GUEST_DETAILS, wire.write(details))


def _mapped_record(size: int) -> DeviceRecord:
    """A record whose statistics take so many bytes: of disks that take 168 bytes each, and a last one for the rest."""
    disks = {f"d{number:03}": verbs.DiskStats(image_id="x" * 150) for number in range((size - 90) // 168)}
    rest = size - len(wire.write(verbs.DeviceStats(disks={**disks, "last": verbs.DiskStats(image_id="x" * 40)}))) + 40
    return DeviceRecord(1, verbs.DeviceStats(disks={**disks, "last": verbs.DiskStats(image_id="x" * rest)}))


def _weighing(size: int) -> verbs.DeviceStats:
    """Statistics that weigh so much: file systems that are alike, all known, and the last one's path for the rest."""
    alike = verbs.DiskUsage(path="/" * 100, total=1, used=1, fs="ext4")
    nothing = weight(verbs.DeviceStats())
    count, rest = divmod(size - nothing, weight(verbs.DeviceStats(disks_usage=(alike,))) - nothing)
    last = structs.replace(alike, path="/" * (100 + rest))
    return verbs.DeviceStats(disks_usage=(*(alike,) * (count - 1), last))


def _device_columns(size: int) -> bytes:
    """A message by columns whose one VM weighs so much."""
    return wire.write(pack_columns(devices.DeviceMessage(1, 5, 6, 7, {MANY_IDS[0]: DeviceRecord(1, _weighing(size))})))


def _columns(vms: int, file_systems: int | list[int] | None) -> bytes:
    """Device statistics of so many VMs, each with so many file systems, which are all alike."""
    counts = columns.pack(file_systems) if isinstance(file_systems, list) else file_systems
    table = None if counts is None else [counts, "/"]
    body = wire.write([b"".join(MANY_IDS[:vms]), b"\0" * 8 * vms, None, None, table])
    return wire.write([1, 1, 1, 1, zlib.compress(body)])


Case = tuple[type[LimitBreached], Callable[[int], object]]
CASES: list[Case] = [
    (errors.MessageTooBig, lambda size: wire.unpack(b"\xc6" + (size - 5).to_bytes(4, "big") + b"x" * (size - 5))),
    (errors.MessageTooBig, lambda size: wire.write(b"x" * (size - 5))),
    (errors.MessageTooBig, lambda size: wire.write_canonical(b"x" * (size - 5))),
    (errors.TooManyVms, lambda count: stream.read_frame(_frame(count))),
    (errors.TooManyVms, lambda count: stream.read_roster(_roster(count=count))),
    (errors.TooManyVms, lambda count: read_roster_change(_roster_change(began=count))),
    (errors.TooManyVms, lambda count: read_roster_change(_roster_change(left=count))),
    (errors.TooManyTombstones, lambda count: read_roster_change(_roster_change(tombs=count))),
    (
        errors.TooManyVms,
        lambda count: verbs.read_reply(Verb.LIST, _reply(vms={vm: {"status": 1} for vm in MANY_IDS[:count]})),
    ),
    (
        errors.TooManyVms,
        lambda count: verbs.read_reply(
            Verb.GET_ALL_RUNTIME_STATS, _reply(vms={vm: {"status": 1} for vm in MANY_IDS[:count]})
        ),
    ),
    (
        errors.TooManyVms,
        lambda count: verbs.read_reply(Verb.GET_ALL_DEVICE_STATS, _reply(vms={vm: {} for vm in MANY_IDS[:count]})),
    ),
    (
        errors.TooManyVms,
        lambda count: stream.pack_roster(
            layout=1,
            monotonic_ms=1,
            facts=HostFacts(),
            vms=[VmId(vm) for vm in MANY_IDS[:count]],
            tokens=[0] * count,
            elapsed_ms=[None] * count,
            hashes=b"\0" * 32 * count,
            tombstones=(),
        ),
    ),
    (errors.TooManyIds, lambda count: verbs.read_request(msgpack.packb({"version": 1, "vmIDs": MANY_IDS[:count]}))),
    (errors.TooManyIds, lambda count: verbs.read_reply(Verb.GET_STATUS, _reply(missing=MANY_IDS[:count]))),
    (errors.TooManyIds, lambda count: verbs.read_reply(Verb.GET_CONFIG, _reply(remaining=MANY_IDS[:count]))),
    (errors.DeviceStatsTooBig, lambda size: devices.check_record(_mapped_record(size))),
    (errors.DeviceStatsTooBig, lambda size: device_weight.check(_weighing(size))),
    (errors.DeviceStatsTooBig, lambda size: device_door.read_columns(_device_columns(size))),
    (
        errors.TooManyDevices,
        lambda count: devices.check_record(
            DeviceRecord(1, verbs.DeviceStats(disks_usage=(verbs.DiskUsage(path="/"),) * count))
        ),
    ),
    (errors.TooManyDevices, lambda count: device_door.read_columns(_columns(1, count))),
    (errors.TooManyRows, lambda count: device_door.read_columns(_columns(65, [1024] * 63 + [1000, count - 65_512]))),
    (errors.TooManyVms, lambda count: device_door.read_columns(_columns(count, None))),
    (errors.TooManyTombstones, lambda count: stream.read_roster(_roster(tombs=count))),
    (errors.TooManyLabels, lambda count: stream.read_roster(_roster(labels=count))),
    (errors.TooManyApps, lambda count: sections.encode(_details(apps=count))),
    (errors.TooManyApps, lambda count: _read_details(_details(apps=count))),
    (errors.TooManyInterfaces, lambda count: sections.encode(_details(interfaces=count))),
    (errors.TooManyInterfaces, lambda count: _read_details(_details(interfaces=count))),
    (errors.TooManyAddresses, lambda count: sections.encode(_details(interfaces=1, addresses=count))),
    (errors.TooManyAddresses, lambda count: _read_details(_details(interfaces=1, addresses=count))),
    (errors.TextTooLong, lambda count: sections.encode(Info(vm_name="é" * count))),
    (errors.TextTooLong, lambda count: sections.decode(Section.INFO, wire.write(Info(cdrom="é" * count)))),
    (errors.TextTooLong, lambda count: sections.encode(GuestDetails(net_ifaces=(NetIface(inet=("x" * count,)),)))),
    (
        errors.TextTooLong,
        lambda count: stream.check_roster(
            stream.Roster(1, 1, HostFacts(labels={"x" * count: "y"}), b"", b"", b"", b"")
        ),
    ),
    (
        errors.TextTooLong,
        lambda count: verbs.read_reply(Verb.LIST, _reply(vms={MANY_IDS[0]: {"status": 1, "vmName": "x" * count}})),
    ),
    (
        errors.TextTooLong,
        lambda count: verbs.read_reply(
            Verb.GET_ALL_DEVICE_STATS, _reply(vms={MANY_IDS[0]: {"disks": {"x" * count: {}}}})
        ),
    ),
]


@pytest.mark.parametrize("kind, at_size", CASES)
def test_limits_hold_exactly(kind: type[LimitBreached], at_size: Callable[[int], object]) -> None:
    """At its maximum each limit holds; one beyond, its own error names the limit, the value and what is allowed."""
    at_size(kind.limit.maximum)
    with pytest.raises(kind) as caught:
        at_size(kind.limit.maximum + 1)
    assert type(caught.value) is kind
    assert caught.value.value == kind.limit.maximum + 1
    assert f"{kind.limit.name} is {kind.limit.maximum + 1}; allowed: at most {kind.limit.maximum}" in str(caught.value)


def _long_details(text: str) -> GuestDetails:
    return GuestDetails(apps_list=tuple(f"{number:04}{text}" for number in range(4096)))


def test_body_limit() -> None:
    """Lists that are each within limits but too long together have an error of their own, not a reply too big."""
    with pytest.raises(errors.BodyTooBig):
        sections.encode(_long_details("x" * 240))
    with pytest.raises(errors.BodyTooBig):
        sections.decode(Section.GUEST_DETAILS, wire.write(_long_details("x" * 240)))
    assert len(sections.encode(_long_details("x" * 200))) < limits.BODY_BYTES.maximum


def test_the_largest_body_fits_a_reply() -> None:
    """The largest body, and an id in every place for ids, fit one message: what is asked for can always be answered."""
    ids = MANY_IDS[: limits.IDS_PER_REQUEST.maximum]
    body = b"x" * limits.BODY_BYTES.maximum
    record = verbs.SectionRecord(sections.section_hash(Section.CONFIG, body), body)
    reply = verbs.SectionReply(version=1, epoch=1, as_of=1, monotonic_ms=1, vms={ids[0]: record}, remaining=ids[1:])
    assert verbs.read_reply(Verb.GET_CONFIG, wire.write(reply)) == reply


def test_the_largest_roster_fits_a_message() -> None:
    """A roster with all VMs, tombstones and labels that are allowed fits one message."""
    full = partial(_roster, count=4096, tombs=256, labels=32)
    assert stream.read_roster(full()).roster.count == 4096
    assert len(full()) < limits.MESSAGE_BYTES.maximum // 3


def test_each_limit_has_its_error() -> None:
    """Every limit but two has one error class, every error class is provoked above, and each belongs to the table."""
    kinds = set(LimitBreached.__subclasses__())
    assert {kind for kind, _ in CASES} | {errors.BodyTooBig} == kinds
    assert {kind.limit for kind in kinds} | {limits.NESTING, limits.BODY_PUSH_BYTES} == set(limits.TABLE)
    assert len(kinds) + 2 == len(limits.TABLE)
