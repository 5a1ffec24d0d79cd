"""Who an address stands for, where what one may ask or hold is counted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

CUSTOMER: Final = (1 << 64) - 1 << 64
"""The bits of an IPv6 address that tell customers apart: each has 2^64 addresses at least, and may use them all."""


def peer_of(address: str) -> str | None:
    """Give the name under which an address is counted; None for this machine, on which others could do worse."""
    try:
        found = _plain(ip_address(address))
    except ValueError:
        return address
    if found.is_loopback:
        return None
    if isinstance(found, IPv4Address):
        return str(found)
    return f"{IPv6Address(int(found) & CUSTOMER)}/64"


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a socket for both kinds shows as one of IPv6; else all of them were one customer."""
    return getattr(address, "ipv4_mapped", None) or address
