"""What the guest agent says, bounded and cleaned: everything here was chosen by a guest (promise A5).

The source is virDomainGetGuestInfo, flat typed parameters ("if.0.addr.1.addr"), whose counts are the guest's as well.
Libvirt itself refuses answers of more than 10 MiB and of more than 2,048 parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import libvirt

from vmpulse_agent.libvirt_edge import guest_apps
from vmpulse_agent.libvirt_edge.guest_pace import Topic
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.measures import Mended
from vmpulse_contract import limits
from vmpulse_contract.sections import NetIface
from vmpulse_contract.values import SessionState
from vmpulse_contract.verbs import DiskUsage

TYPES: Final = {
    Topic.USERS: libvirt.VIR_DOMAIN_GUEST_INFO_USERS,
    Topic.INTERFACES: libvirt.VIR_DOMAIN_GUEST_INFO_INTERFACES,
    Topic.FILE_SYSTEMS: libvirt.VIR_DOMAIN_GUEST_INFO_FILESYSTEM,
}
FILE_SYSTEMS: Final = 256
USERS: Final = 64
_SIZE_LIMIT: Final = 1 << 63
"""Larger sizes are lies, and would not fit the integers of those who read them."""

Info = Mapping[str, object]


class GuestFacts(NamedTuple):
    """What the guest says of itself. None: it did not say. ``users``: names, none where nobody is logged in."""

    interfaces: tuple[NetIface, ...] | None = None
    users: tuple[str, ...] | None = None
    usage: tuple[DiskUsage, ...] | None = None
    apps: tuple[str, ...] | None = None

    @property
    def username(self) -> str | None:
        """Who is logged in, as VDSM writes it: names joined with ", ", user@domain on Windows."""
        return clean(", ".join(self.users or ()))

    @property
    def session(self) -> SessionState | None:
        """Whether anybody is logged in. Locked and Active have no source in the guest agent."""
        if self.users is None:
            return None
        return SessionState.USER_LOGGED_ON if self.users else SessionState.LOGGED_OFF

    def updated(self, newer: GuestFacts) -> GuestFacts:
        """What is known after a newer answer, which may tell of some topics only."""
        return self._replace(**{name: said for name, said in newer._asdict().items() if said is not None})


def ask(domain: libvirt.virDomain, topics: Collection[Topic], mended: Mended | None = None) -> GuestFacts:
    """Ask the agent of one guest. It may block for as long as the guest likes.

    Raises libvirtError where it answers nothing at all.
    """
    found = _all_at_once(domain, topics, mended)
    if found is None:
        found, failure = _one_by_one(domain, topics, mended)
        if failure is not None and found == GuestFacts():
            raise failure
    if Topic.APPS in topics:
        found = found._replace(apps=guest_apps.installed(guest_apps.commands_to(domain), mended))
    return found


def _all_at_once(domain: libvirt.virDomain, topics: Collection[Topic], mended: Mended | None) -> GuestFacts | None:
    """Ask in one call. None: an agent that lacks one command, or answers it badly, makes libvirt refuse all."""
    flags = sum(TYPES[topic] for topic in topics if topic in TYPES)
    if not flags:
        return GuestFacts()
    try:
        return facts(domain.guestInfo(flags, 0), mended)
    except libvirt.libvirtError as error:
        if error.get_error_code() in guest_apps.DEAD:
            raise
        return None
    except ValueError:
        # Text that is not UTF-8, from a binding that decodes what guests say.
        return None


def _one_by_one(
    domain: libvirt.virDomain, topics: Collection[Topic], mended: Mended | None
) -> tuple[GuestFacts, libvirt.libvirtError | None]:
    found, failure = GuestFacts(), None
    for topic in sorted(topics & TYPES.keys(), key=lambda topic: topic.value):
        try:
            found = found.updated(_one(domain, topic, mended))
        except libvirt.libvirtError as error:
            failure = error
            if error.get_error_code() in guest_apps.DEAD:
                break
        except ValueError:
            if mended is not None:
                mended.add("answer")
    return found, failure


def _one(domain: libvirt.virDomain, topic: Topic, mended: Mended | None) -> GuestFacts:
    try:
        return facts(domain.guestInfo(TYPES[topic], 0), mended)
    except libvirt.libvirtError as error:
        if topic is not Topic.INTERFACES or error.get_error_code() in guest_apps.DEAD:
            raise
    # Libvirt before 7.10, and guests with more cards than guestInfo has room for.
    addresses = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0)
    return GuestFacts(interfaces=interfaces_of_addresses(addresses, mended))


def facts(info: Info, mended: Mended | None = None) -> GuestFacts:
    """Read the typed parameters of guestInfo; what had to be left out is counted in *mended*."""
    return _Reader(info, mended or Mended()).facts()


def interfaces_of_addresses(answer: object, mended: Mended | None = None) -> tuple[NetIface, ...] | None:
    """Read what interfaceAddresses gives: the source for agents whose guestInfo has no interfaces."""
    if not isinstance(answer, dict):
        return None
    mended = mended or Mended()
    names = list(answer)[: limits.INTERFACES_PER_VM.maximum]
    mended.add("entries", len(answer) - len(names))
    return tuple(_interface_of(name, answer[name], mended) for name in names if isinstance(answer[name], dict))


def _interface_of(name: object, interface: dict[str, Any], mended: Mended) -> NetIface:
    listed = interface.get("addrs") or []
    if not isinstance(listed, list):
        listed = []
        mended.add("type")
    addresses = listed[: 2 * limits.ADDRESSES_PER_INTERFACE.maximum]
    mended.add("entries", len(listed) - len(addresses))
    texts = [address.get("addr") for address in addresses if isinstance(address, dict)]
    return _interface(name, interface.get("hwaddr"), texts, mended)


def _interface(name: object, hw: object, texts: list[object], mended: Mended) -> NetIface:
    """Addresses are sorted before they are cut, so that a guest with too many shows the same ones each time."""
    inet: set[str] = set()
    inet6: set[str] = set()
    for text in texts:
        address = _address(text)
        if address is None:
            mended.add("address")
        else:
            (inet6 if ":" in address else inet).add(address)
    most = limits.ADDRESSES_PER_INTERFACE.maximum
    mended.add("entries", max(0, len(inet) - most) + max(0, len(inet6) - most))
    return NetIface(
        name=clean(name, mended),
        hw=clean(hw, mended),
        inet=tuple(sorted(inet)[:most]),
        inet6=tuple(sorted(inet6)[:most]),
    )


def _address(text: object) -> str | None:
    """An address in its normal form, without an IPv6 zone, or None if it is none."""
    if not isinstance(text, str):
        return None
    try:
        return str(ip_address(text[:100].partition("%")[0]))
    except ValueError:
        return None


class _Reader:
    """One answer, and where it is counted what had to be left out of it."""

    def __init__(self, info: Info, mended: Mended) -> None:
        self._info = info
        self._mended = mended

    def facts(self) -> GuestFacts:
        info = self._info
        return GuestFacts(
            interfaces=tuple(self._interfaces()) if "if.count" in info else None,
            users=self._users() if "user.count" in info else None,
            usage=tuple(self._file_systems()) if "fs.count" in info else None,
        )

    def _interfaces(self) -> Iterator[NetIface]:
        info = self._info
        for prefix in self._numbered("if", limits.INTERFACES_PER_VM.maximum):
            addresses = self._numbered(f"{prefix}.addr", 2 * limits.ADDRESSES_PER_INTERFACE.maximum, present=".addr")
            texts = [info.get(f"{address}.addr") for address in addresses]
            yield _interface(info.get(f"{prefix}.name"), info.get(f"{prefix}.hwaddr"), texts, self._mended)

    def _users(self) -> tuple[str, ...]:
        users = {self._user(prefix) for prefix in self._numbered("user", USERS, present=".name")}
        return tuple(sorted(user for user in users if user))

    def _user(self, prefix: str) -> str | None:
        name, domain = self._text(f"{prefix}.name"), self._text(f"{prefix}.domain")
        return f"{name}@{domain}" if name and domain else name

    def _file_systems(self) -> Iterator[DiskUsage]:
        for prefix in self._numbered("fs", FILE_SYSTEMS, present=".mountpoint"):
            path = self._text(f"{prefix}.mountpoint")
            if path is not None:
                total, used = self._size(f"{prefix}.total-bytes"), self._size(f"{prefix}.used-bytes")
                yield DiskUsage(path=path, total=total, used=used, fs=self._text(f"{prefix}.fstype"))

    def _text(self, key: str) -> str | None:
        return clean(self._info.get(key), self._mended)

    def _size(self, key: str) -> int | None:
        value = self._info.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _SIZE_LIMIT:
            return value
        self._mended.add("number")
        return None

    def _numbered(self, group: str, most: int, present: str = "") -> Iterator[str]:
        """Prefixes of a group's entries, no more than there may be; *present*: less those without this field."""
        count = self._info.get(f"{group}.count")
        if not isinstance(count, int):
            self._mended.add("type", int(count is not None))
            return
        self._mended.add("entries", max(0, count - most))
        for number in range(min(count, most)):
            prefix = f"{group}.{number}"
            if present and f"{prefix}{present}" not in self._info:
                self._mended.add("entries")
            else:
                yield prefix
