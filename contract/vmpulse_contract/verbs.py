"""The detail verbs: what an engine may ask a host, and the one shape of each answer.

A request goes to ``vmpulse.rpc`` with key ``<host>.<verb>``; its body is a Request. The reply is a map with the fields
of Reply and, by verb, those of its own class. ``as_of`` is the seq of the last stream message before the reply, so a
reader can order it among the stream's messages. Unknown ids come back in ``missing``, what did not fit 1 MiB in
``remaining``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from vmpulse_contract import limits, sections, wire
from vmpulse_contract.errors import VERB_ERRORS, MistypedMessage, TooManyIds, TooManyVms, VerbError
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import Count, Hash, Roster, Uuid, check_roster
from vmpulse_contract.values import VmStatus

Real = Annotated[float, Meta(ge=0, le=1.7976931348623157e308)]
"""A measured number: finite and not negative. NaN compares with nothing, so it would poison every sum and sort.

In columns of device statistics, where rates and latencies stand, it is whole."""
Seconds = Annotated[float, Meta(ge=0, le=1.7976931348623157e308, extra={"scale": 1000})]
"""A time in seconds; in columns of device statistics whole milliseconds."""


class Verb(StrEnum):
    """The verbs, by the seed's names."""

    LIST = "list"
    GET_ALL_RUNTIME_STATS = "getAllRuntimeStats"
    GET_STATUS = "getStatus"
    GET_CONF_INFO = "getConfInfo"
    GET_CONFIG = "getConfig"
    GET_GUEST_DETAILS = "getGuestDetails"
    GET_ALL_DEVICE_STATS = "getAllDeviceStats"
    GET_HOST_STATS = "getHostStats"
    GET_ROSTER = "getRoster"


VERB_OF_SECTION: Final = {
    Section.INFO: Verb.GET_CONF_INFO,
    Section.CONFIG: Verb.GET_CONFIG,
    Section.STATUS: Verb.GET_STATUS,
    Section.GUEST_DETAILS: Verb.GET_GUEST_DETAILS,
}
SECTION_OF_VERB: Final = {verb: section for section, verb in VERB_OF_SECTION.items()}
"""The verbs that name VMs; the others answer for all VMs of the host."""


class Request(Struct, frozen=True, kw_only=True):
    """A request. ``vms`` empty: all VMs of the host. ``deflate``: the reply may come deflated.

    Only what is unset is omitted, for a reader needs the version.
    """

    version: int = field(default=wire.VERSION)
    vms: tuple[Uuid, ...] = field(default=(), name="vmIDs")
    deflate: bool | UnsetType = UNSET


class Failure(Struct, frozen=True):
    """Why there is no answer: a code of errors.VERB_ERRORS and a sentence for people."""

    code: str
    message: str


class Reply(Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields of every reply. With ``error`` set the verb's own fields are empty."""

    version: int
    epoch: Count
    as_of: Count
    monotonic_ms: Count
    error: Failure | None = None


class ListRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One VM of ``list``."""

    status: VmStatus
    vm_name: str | None = None


class ListReply(Reply, frozen=True):
    """Reply of ``list``."""

    vms: dict[Uuid, ListRecord] = {}


class SectionHashes(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The announced hashes of a VM; absent: not known yet."""

    info: Hash | None = None
    config: Hash | None = None
    status: Hash | None = None
    guest_details: Hash | None = None


class RuntimeRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Runtime stats of one VM.

    ``cpu_user`` and ``cpu_sys`` in percent of one CPU, ``mem_usage`` in percent of the VM's memory, ``elapsed_time``
    and ``stats_age`` in seconds.
    """

    status: VmStatus
    cpu_user: Real | None = None
    cpu_sys: Real | None = None
    mem_usage: int | None = None
    elapsed_time: Real | None = None
    stats_age: Real | None = None
    hashes: SectionHashes = SectionHashes()


class RuntimeReply(Reply, frozen=True):
    """Reply of ``getAllRuntimeStats``."""

    vms: dict[Uuid, RuntimeRecord] = {}


class SectionRecord(Struct, array_like=True, frozen=True):
    """The last announced hash of a section with its body."""

    hash: Hash
    body: bytes


class SectionReply(Reply, frozen=True):
    """Reply of getConfInfo, getStatus, getGuestDetails and getConfig. A VM without the section is in no list."""

    vms: dict[Uuid, SectionRecord] = {}
    missing: tuple[Uuid, ...] = ()
    remaining: tuple[Uuid, ...] = ()


class BalloonInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Memory balloon, KiB. Sent whole or not at all (rule R51)."""

    balloon_max: int
    balloon_min: int
    balloon_cur: int
    balloon_target: int
    ballooning_enabled: bool


class MemoryStats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Guest memory: sizes in KiB; swap in KiB/s; page faults per second; mem_free = mem_unused + caches.

    Rates as in DeviceStats; their extremes end on ``_min`` and ``_max``, in the style of VDSM's names here.
    """

    mem_total: int | None = None
    mem_unused: int | None = None
    mem_free: int | None = None
    swap_in: int | None = None
    swap_in_min: int | None = None
    swap_in_max: int | None = None
    swap_out: int | None = None
    swap_out_min: int | None = None
    swap_out_max: int | None = None
    majflt: int | None = None
    majflt_min: int | None = None
    majflt_max: int | None = None
    minflt: int | None = None
    minflt_min: int | None = None
    minflt_max: int | None = None
    pageflt: int | None = None
    pageflt_min: int | None = None
    pageflt_max: int | None = None


class DiskUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mounted file system of the guest, bytes."""

    path: str
    total: int | None = None
    used: int | None = None
    fs: str | None = None


class DiskStats(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One disk: cumulative counters since the VM's start; bytes; rates in B/s, latencies in ns per operation."""

    read_ops: int | None = None
    write_ops: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    read_rate: Real | None = None
    read_rate_min: Real | None = None
    read_rate_max: Real | None = None
    write_rate: Real | None = None
    write_rate_min: Real | None = None
    write_rate_max: Real | None = None
    read_latency: Real | None = None
    read_latency_min: Real | None = None
    read_latency_max: Real | None = None
    write_latency: Real | None = None
    write_latency_min: Real | None = None
    write_latency_max: Real | None = None
    flush_latency: Real | None = None
    flush_latency_min: Real | None = None
    flush_latency_max: Real | None = None
    truesize: int | None = None
    apparentsize: int | None = None
    image_id: str | None = field(default=None, name="imageID")


class NetworkStats(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One network card: cumulative bytes and packets since the VM's start; rates in B/s.

    ``sample_time`` is the host's monotonic.
    """

    name: str
    mac_addr: str | None = None
    rx: int | None = None
    tx: int | None = None
    rx_errors: int | None = None
    tx_errors: int | None = None
    rx_dropped: int | None = None
    tx_dropped: int | None = None
    rx_rate: Real | None = None
    rx_rate_min: Real | None = None
    rx_rate_max: Real | None = None
    tx_rate: Real | None = None
    tx_rate_min: Real | None = None
    tx_rate_max: Real | None = None
    speed: int | None = None
    state: str | None = None
    sample_time: Seconds | None = None


class DeviceStats(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Device statistics of one VM; what its sources do not give is absent.

    A rate is the mean over the whole ``interval``, growth by time; its extremes are those of the spans between two
    samples of the interval. Of latencies only spans with operations count.
    """

    memory_stats: MemoryStats | None = None
    balloon_info: BalloonInfo | None = None
    disks_usage: tuple[DiskUsage, ...] | None = None
    network: dict[str, NetworkStats] | None = None
    disks: dict[str, DiskStats] | None = None
    interval: Seconds | None = None
    """Seconds between the samples that began and ended the interval. A device that came in between, or whose counters
    began anew, has rates over the rest of it."""
    stats_age: Seconds | None = None
    """Seconds since the newest sample began."""


class DeviceReply(Reply, frozen=True):
    """Reply of ``getAllDeviceStats``: the last sample of each VM, with rates since the last report."""

    vms: dict[Uuid, DeviceStats] = {}
    missing: tuple[Uuid, ...] = ()
    remaining: tuple[Uuid, ...] = ()


class HostStats(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The host itself: CPU in percent of all CPUs, load average over a minute, memory and swap in MiB, VM counts."""

    cpu_user: Real | None = None
    cpu_sys: Real | None = None
    cpu_idle: Real | None = None
    cpu_load: Real | None = None
    cpu_count: int | None = None
    mem_total: int | None = None
    mem_used: int | None = None
    mem_free: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    vm_count: int | None = None
    vm_active: int | None = None
    vm_migrating: int | None = None
    elapsed_time: Real | None = None


class HostStatsReply(Reply, frozen=True):
    """Reply of ``getHostStats``."""

    stats: HostStats = HostStats()


class RosterReply(Reply, frozen=True):
    """Reply of ``getRoster``."""

    roster: Roster | None = None


AnyReply: TypeAlias = ListReply | RuntimeReply | SectionReply | DeviceReply | HostStatsReply | RosterReply
REPLIES: Final[dict[Verb, type[AnyReply]]] = {
    Verb.LIST: ListReply,
    Verb.GET_ALL_RUNTIME_STATS: RuntimeReply,
    Verb.GET_STATUS: SectionReply,
    Verb.GET_CONF_INFO: SectionReply,
    Verb.GET_CONFIG: SectionReply,
    Verb.GET_GUEST_DETAILS: SectionReply,
    Verb.GET_ALL_DEVICE_STATS: DeviceReply,
    Verb.GET_HOST_STATS: HostStatsReply,
    Verb.GET_ROSTER: RosterReply,
}


def read_request(raw: bytes) -> Request:
    """Decode a request. Raises MessageError."""
    request = wire.read_envelope(raw, Request)
    if len(request.vms) > limits.IDS_PER_REQUEST.maximum:
        raise TooManyIds(len(request.vms), "request")
    return request


def read_reply(verb: Verb, raw: bytes) -> AnyReply:
    """Decode the reply of *verb* and check the bodies in it against their hashes.

    Raises:
        MessageError: it is not such a reply.
        VerbError: it says why there is no answer.
    """
    reply = wire.read_envelope(raw, REPLIES[verb])
    if reply.error is not None:
        raise VERB_ERRORS.get(reply.error.code, VerbError)(reply.error.message[: limits.TEXT_CHARACTERS.maximum])
    if isinstance(reply, RosterReply):
        if reply.roster is None:
            msg = "not a RosterReply: neither a roster nor an error"
            raise MistypedMessage(msg)
        check_roster(reply.roster)
    elif not isinstance(reply, HostStatsReply):
        _check_counts(reply, verb)
    if isinstance(reply, SectionReply):
        _check_records(SECTION_OF_VERB[verb], reply)
    elif isinstance(reply, ListReply | DeviceReply):
        wire.check_texts(reply.vms, verb)
    return reply


def _check_counts(reply: ListReply | RuntimeReply | SectionReply | DeviceReply, verb: Verb) -> None:
    if len(reply.vms) > limits.VMS_PER_HOST.maximum:
        raise TooManyVms(len(reply.vms), verb)
    if isinstance(reply, SectionReply | DeviceReply):
        for ids in (reply.missing, reply.remaining):
            if len(ids) > limits.IDS_PER_REQUEST.maximum:
                raise TooManyIds(len(ids), verb)


def _check_records(section: Section, reply: SectionReply) -> None:
    for record in reply.vms.values():
        sections.check_hash(section, record.body, record.hash)
        if section in sections.BODIED:
            sections.decode(section, record.body)
