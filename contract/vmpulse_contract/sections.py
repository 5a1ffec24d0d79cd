"""The four hashed parts of a VM: info, config, status, guestDetails.

A section travels as *body* bytes with the *hash* of exactly these bytes. The sender makes bytes canonical: sorted keys,
sorted lists, rounded values; so equal content hashes equally on every host and after every restart. Receivers hash the
bytes they received and never encode again. What a source cannot give is absent from the map: never a zero, never "".

The body of ``config`` is the canonical domain XML itself, in UTF-8; the others are msgpack maps with the seed's names.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import xxhash
from msgspec import Struct

from vmpulse_contract import limits, wire
from vmpulse_contract.errors import BodyTooBig, HashMismatch, TooManyAddresses, TooManyApps, TooManyInterfaces
from vmpulse_contract.values import BootDevice, DisplayType, PauseCode, SessionState, WatchdogAction

if TYPE_CHECKING:
    from collections.abc import Iterable

ABSENT: Final = 0
"""The hash that says "not known yet" (rule R49). No body hashes to it."""


class Section(IntEnum):
    """The sections, in the order in which their hashes stand in rosters and digests."""

    INFO = 0
    CONFIG = 1
    STATUS = 2
    GUEST_DETAILS = 3

    @property
    def label(self) -> str:
        """The seed's name; also the second word of the routing key."""
        return _LABELS[self]


_LABELS: Final = ("info", "config", "status", "guestDetails")
SECTION_BY_LABEL: Final = {section.label: section for section in Section}
SCHEMA: Final = {Section.INFO: 1, Section.CONFIG: 1, Section.STATUS: 1, Section.GUEST_DETAILS: 1}
"""Schema number of each section; it is hashed with the body, so a new canonical form reads as a change, once."""

BODIED: Final = (Section.INFO, Section.STATUS, Section.GUEST_DETAILS)
"""Sections whose bodies views hold and repair. The configuration is asked for when somebody wants to read it."""

_SEEDS: Final = [number.to_bytes(2, "little") for _, number in sorted(SCHEMA.items())]


def _wire_name(name: str) -> str:
    first, *rest = name.split("_")
    return "guestIPs" if name == "guest_ips" else first + "".join(map(str.capitalize, rest))


class _Section(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_wire_name):
    """A section body: every field optional, for a source may not give it."""


class Info(_Section, frozen=True):
    """Section ``info`` (verb getConfInfo): what the VM is on this host, in this life."""

    vm_name: str | None = None
    acpi_enable: bool | None = None
    display_type: DisplayType | None = None
    display_port: int | None = None
    display_secure_port: int | None = None
    display_ip: str | None = None
    pid: int | None = None
    vm_type: str | None = None
    kvm_enable: bool | None = None
    cdrom: str | None = None
    boot: BootDevice | None = None


class WatchdogEvent(_Section, frozen=True):
    """The last time that the VM's watchdog fired, in this life."""

    time: int | None = None
    """Seconds since 1970 by the host's clock; readers compare it only with that of an earlier event."""
    action: WatchdogAction | None = None


class Status(_Section, frozen=True):
    """Section ``status`` (verb getStatus): what changes now and then while the VM runs."""

    time_offset: int | None = None
    """Seconds between guest clock and UTC, so rounded that it does not flap: 5 s off at the most."""
    monitor_response: int | None = None
    """0: the VM's monitor answers; -1: it does not."""
    client_ip: str | None = None
    username: str | None = None
    session: SessionState | None = None
    guest_ips: tuple[str, ...] | None = None
    pause_code: PauseCode | None = None
    watchdog_event: WatchdogEvent | None = None


class NetIface(_Section, frozen=True):
    """One network interface as the guest sees it."""

    name: str | None = None
    hw: str | None = None
    inet: tuple[str, ...] | None = None
    inet6: tuple[str, ...] | None = None


class GuestDetails(_Section, frozen=True):
    """Section ``guestDetails`` (verb getGuestDetails): what only the guest knows."""

    apps_list: tuple[str, ...] | None = None
    net_ifaces: tuple[NetIface, ...] | None = None


SectionBody: TypeAlias = Info | Status | GuestDetails
_TYPES: Final[dict[Section, type[SectionBody]]] = {
    Section.INFO: Info,
    Section.STATUS: Status,
    Section.GUEST_DETAILS: GuestDetails,
}


def encode(content: SectionBody) -> bytes:
    """Give the canonical body of a section.

    Raises:
        LimitBreached: it holds more than travels.
        MistypedMessage: it holds what msgpack cannot (see ``wire.write``).
    """
    if isinstance(content, GuestDetails):
        content = _sorted_details(content)
    elif isinstance(content, Status) and content.guest_ips is not None:
        content = msgspec.structs.replace(content, guest_ips=tuple(sorted(set(content.guest_ips))))
    _check(content)
    body = wire.write_canonical(content)
    _check_size(body, type(content).__name__)
    return body


def _sorted_details(details: GuestDetails) -> GuestDetails:
    apps, interfaces = details.apps_list, details.net_ifaces
    return GuestDetails(
        apps_list=None if apps is None else tuple(sorted(set(apps))),
        net_ifaces=None if interfaces is None else tuple(sorted(map(_sorted_interface, interfaces), key=_rank)),
    )


def _sorted_interface(interface: NetIface) -> NetIface:
    return msgspec.structs.replace(
        interface,
        inet=None if interface.inet is None else tuple(sorted(set(interface.inet))),
        inet6=None if interface.inet6 is None else tuple(sorted(set(interface.inet6))),
    )


def _rank(interface: NetIface) -> tuple[str, bytes]:
    """Order by name; the bytes decide among equal names, so that the order read never shows."""
    return interface.name or "", wire.write_canonical(interface)


def decode(section: Section, body: bytes) -> SectionBody:
    """Read a section's body. Raises MessageError; ``config`` has no structure here and is a KeyError."""
    kind = _TYPES[section]
    _check_size(body, kind.__name__)
    content = wire.read(body, kind)
    _check(content)
    return content


def _check_size(body: bytes, where: str) -> None:
    if len(body) > limits.BODY_BYTES.maximum:
        raise BodyTooBig(len(body), where)


def _check(content: SectionBody) -> None:
    """Hold what the types cannot say, with the error that names it, for bodies that we make as for those we get."""
    if isinstance(content, GuestDetails):
        _check_counts(content)
    wire.check_texts(content, type(content).__name__)


def _check_counts(details: GuestDetails) -> None:
    apps, interfaces = details.apps_list or (), details.net_ifaces or ()
    if len(apps) > limits.APPS_PER_VM.maximum:
        raise TooManyApps(len(apps), "guestDetails.appsList")
    if len(interfaces) > limits.INTERFACES_PER_VM.maximum:
        raise TooManyInterfaces(len(interfaces), "guestDetails.netIfaces")
    for interface in interfaces:
        for addresses in (interface.inet or (), interface.inet6 or ()):
            if len(addresses) > limits.ADDRESSES_PER_INTERFACE.maximum:
                raise TooManyAddresses(len(addresses), f"guestDetails.netIfaces {interface.name!r:.40}")


def section_hash(section: Section, body: bytes) -> int:
    """xxh3-64 over schema number and body bytes exactly as sent; never ABSENT."""
    return xxhash.xxh3_64_intdigest(_SEEDS[section] + body) or 1


def check_hash(section: Section, body: bytes, expected: int) -> None:
    """Raise HashMismatch unless *body* hashes to *expected* (promise V5)."""
    actual = section_hash(section, body)
    if actual != expected:
        msg = f"{section.label} body hashes to {actual:016x}, announced as {expected:016x}"
        raise HashMismatch(msg)


def digest(vm_ids: bytes, hashes: bytes) -> int:
    """The digest of all that a host has announced.

    Args:
        vm_ids: 16 bytes for each VM, in layout order.
        hashes: four little-endian 64-bit hashes for each VM, in layout and Section order; ABSENT where not known.
    """
    return xxhash.xxh3_64_intdigest(b"\x01" + vm_ids + hashes)


def guest_ips(interfaces: Iterable[NetIface]) -> tuple[str, ...]:
    """Derive ``guestIPs`` from the guest's interfaces: its IPv4 addresses, sorted, without loopback and link-local.

    VDSM's meaning of the field (IPv4 only); everything else stands in netIfaces.
    """
    found = {str(address) for interface in interfaces for address in map(_ipv4, interface.inet or ()) if address}
    return tuple(sorted(found))


def _ipv4(text: str) -> IPv4Address | None:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return None
    return None if address.is_loopback or address.is_link_local or address.is_unspecified else address
