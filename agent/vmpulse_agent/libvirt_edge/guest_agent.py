"""What the guest agent says, bounded and cleaned: everything here was chosen by a guest (promise A5).

The source is virDomainGetGuestInfo, flat typed parameters ("if.0.addr.1.addr"), whose counts are the guest's as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import libvirt

from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_contract import limits
from vmpulse_contract.sections import NetIface
from vmpulse_contract.verbs import DiskUsage

TYPES: Final = (
    libvirt.VIR_DOMAIN_GUEST_INFO_USERS
    | libvirt.VIR_DOMAIN_GUEST_INFO_INTERFACES
    | libvirt.VIR_DOMAIN_GUEST_INFO_FILESYSTEM
)
FILE_SYSTEMS: Final = 256
USERS: Final = 64
_SIZE_LIMIT: Final = 1 << 63
"""Larger sizes are lies, and would not fit the integers of those who read them."""

Info = Mapping[str, object]


class GuestFacts(NamedTuple):
    """What the guest says of itself. None: it did not say."""

    interfaces: tuple[NetIface, ...] | None = None
    username: str | None = None
    usage: tuple[DiskUsage, ...] | None = None


def ask(domain: libvirt.virDomain) -> GuestFacts:
    """Ask the agent of one guest. It may block for as long as the guest likes. Raises libvirtError, ValueError."""
    try:
        answer = domain.guestInfo(TYPES, 0)
    except libvirt.libvirtError:
        # An agent that lacks one of the commands makes libvirt refuse all; "everything" gives what there is.
        answer = domain.guestInfo(0, 0)
    found = facts(answer)
    if found.interfaces is None:
        addresses = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0)
        found = found._replace(interfaces=interfaces_of_addresses(addresses))
    return found


def facts(info: Info) -> GuestFacts:
    """Read the typed parameters of guestInfo."""
    return GuestFacts(
        interfaces=tuple(_interfaces(info)) if "if.count" in info else None,
        username=_username(info),
        usage=tuple(_file_systems(info)) if "fs.count" in info else None,
    )


def interfaces_of_addresses(answer: object) -> tuple[NetIface, ...] | None:
    """Read what interfaceAddresses gives: the source for agents whose guestInfo has no interfaces."""
    if not isinstance(answer, dict):
        return None
    names = list(answer)[: limits.INTERFACES_PER_VM.maximum]
    return tuple(_interface_of(name, answer[name]) for name in names if isinstance(answer[name], dict))


def _interface_of(name: object, interface: dict[str, Any]) -> NetIface:
    listed = interface.get("addrs") or []
    texts = [address.get("addr") for address in listed[: 2 * limits.ADDRESSES_PER_INTERFACE.maximum]]
    return _interface(name, interface.get("hwaddr"), texts)


def _interfaces(info: Info) -> Iterator[NetIface]:
    for prefix in _numbered(info, "if", limits.INTERFACES_PER_VM.maximum):
        addresses = _numbered(info, f"{prefix}.addr", 2 * limits.ADDRESSES_PER_INTERFACE.maximum)
        texts = [info.get(f"{address}.addr") for address in addresses]
        yield _interface(info.get(f"{prefix}.name"), info.get(f"{prefix}.hwaddr"), texts)


def _interface(name: object, hw: object, texts: list[object]) -> NetIface:
    """Addresses are sorted before they are cut, so that a guest with too many shows the same ones each time."""
    inet: set[str] = set()
    inet6: set[str] = set()
    for text in texts:
        address = _address(text)
        if address is not None:
            (inet6 if ":" in address else inet).add(address)
    most = limits.ADDRESSES_PER_INTERFACE.maximum
    return NetIface(name=clean(name), hw=clean(hw), inet=tuple(sorted(inet)[:most]), inet6=tuple(sorted(inet6)[:most]))


def _address(text: object) -> str | None:
    """An address in its normal form, without an IPv6 zone, or None if it is none."""
    try:
        return str(ip_address(str(text)[:100].partition("%")[0]))
    except ValueError:
        return None


def _username(info: Info) -> str | None:
    """Who is logged in, as VDSM writes it: names joined with ", ", user@domain on Windows."""
    users = {_user(info, prefix) for prefix in _numbered(info, "user", USERS)}
    return clean(", ".join(sorted(user for user in users if user)))


def _user(info: Info, prefix: str) -> str | None:
    name, domain = clean(info.get(f"{prefix}.name")), clean(info.get(f"{prefix}.domain"))
    return f"{name}@{domain}" if name and domain else name


def _file_systems(info: Info) -> Iterator[DiskUsage]:
    for prefix in _numbered(info, "fs", FILE_SYSTEMS):
        path = clean(info.get(f"{prefix}.mountpoint"))
        if path is not None:
            total, used = _size(info.get(f"{prefix}.total-bytes")), _size(info.get(f"{prefix}.used-bytes"))
            yield DiskUsage(path=path, total=total, used=used, fs=clean(info.get(f"{prefix}.fstype")))


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _SIZE_LIMIT else None


def _numbered(info: Info, group: str, most: int) -> Iterator[str]:
    count = info.get(f"{group}.count")
    for number in range(min(count, most) if isinstance(count, int) else 0):
        yield f"{group}.{number}"
