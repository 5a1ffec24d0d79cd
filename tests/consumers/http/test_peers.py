"""Who is counted as one: an address, or of IPv6 the network that a customer is given."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from vmpulse_consumers.http.peers import peer_of


@given(st.ip_addresses())
def test_every_address_is_somebodys(address: IPv4Address | IPv6Address) -> None:
    """Two addresses of IPv6 are one peer exactly if their first 64 bits are the same; all of IPv4 are their own."""
    peer = peer_of(str(address))
    if isinstance(address, IPv4Address):
        assert peer == (None if address.is_loopback else str(address))
    elif address.ipv4_mapped is None and not address.is_loopback:
        first = int(address) >> 64 << 64
        assert {peer_of(str(IPv6Address(first + rest))) for rest in (2, 2**64 - 1)} == {peer}
        assert peer_of(str(IPv6Address((first ^ 1 << 127) + 2))) != peer
