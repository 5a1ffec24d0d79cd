"""What guests say: read, bounded, cleaned, whatever they say."""

from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.agent.libvirt_edge.recorded import GUEST_INFO
from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts, facts, interfaces_of_addresses
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_contract import limits, sections
from vmpulse_contract.sections import GuestDetails, NetIface, Status
from vmpulse_contract.verbs import DiskUsage

HOSTILE_COUNT = st.integers(-5, 1 << 63) | st.text(max_size=3) | st.none()
HOSTILE_VALUE = st.text() | st.integers() | st.none() | st.binary() | st.sampled_from(["192.0.2.1", "fe80::1%eth0"])
HOSTILE_INFO = st.dictionaries(
    st.sampled_from(
        [
            *(f"{group}.count" for group in ("if", "user", "fs", "if.0.addr", "if.1.addr")),
            *(f"if.{n}.{field}" for n in (0, 1, 255) for field in ("name", "hwaddr", "addr.0.addr", "addr.1.addr")),
            *(f"user.{n}.{field}" for n in (0, 1) for field in ("name", "domain")),
            *(f"fs.{n}.{field}" for n in (0, 1) for field in ("mountpoint", "fstype", "total-bytes", "used-bytes")),
        ]
    ),
    HOSTILE_COUNT | HOSTILE_VALUE,
)


def test_a_polite_guest() -> None:
    """Interfaces, users, file systems."""
    said = facts(GUEST_INFO)
    assert said.username == "Anna@EXAMPLE, root"
    assert said.usage == (DiskUsage(path="/", total=1000, used=400, fs="ext4"),)
    assert said.interfaces == (
        NetIface(name="lo", inet=("127.0.0.1",), inet6=()),
        NetIface(name="eth0", hw="52:54:00:c9:a7:5d", inet=("192.0.2.5",), inet6=("fe80::1",)),
    )
    assert sections.guest_ips(said.interfaces) == ("192.0.2.5",)


def test_silence_is_absence() -> None:
    """No answer is not an empty answer."""
    assert facts({}) == GuestFacts()
    assert facts({"if.count": 0, "user.count": 0, "fs.count": 0}) == GuestFacts(interfaces=(), usage=())


def test_the_other_source() -> None:
    """What interfaceAddresses gives, for agents that know no more."""
    answer = {"eth0": {"hwaddr": "a", "addrs": [{"addr": "192.0.2.9", "prefix": 24, "type": 0}]}, "x": None}
    assert interfaces_of_addresses(answer) == (NetIface(name="eth0", hw="a", inet=("192.0.2.9",), inet6=()),)
    assert interfaces_of_addresses(None) is None
    assert interfaces_of_addresses({"lo": {"addrs": None, "hwaddr": None}}) == (NetIface(name="lo", inet=(), inet6=()),)


def test_a_talkative_guest() -> None:
    """Counts beyond all bounds cost no more than the bounds, and what is left travels."""
    many: dict[str, object] = {"if.count": 1 << 40, "user.count": 1 << 40, "fs.count": 1 << 40}
    for n in range(300):
        many |= {f"if.{n}.name": "e" * 999, f"if.{n}.addr.count": 1 << 40, f"user.{n}.name": "u" * 999}
        many |= {f"if.{n}.addr.{a}.addr": f"10.0.{n % 256}.{a}" for a in range(100)}
    said = facts(many)
    assert said.interfaces is not None
    assert len(said.interfaces) == limits.INTERFACES_PER_VM.maximum
    assert len(said.interfaces[0].inet or ()) == limits.ADDRESSES_PER_INTERFACE.maximum
    assert len(said.username or "") <= limits.TEXT_CHARACTERS.maximum
    assert sections.encode(GuestDetails(net_ifaces=said.interfaces))


@given(HOSTILE_INFO)
def test_any_guest(info: dict[str, Any]) -> None:
    """Whatever the parameters hold, the sections made of them can be sent."""
    said = facts(info)
    assert sections.encode(GuestDetails(net_ifaces=said.interfaces))
    ips = None if said.interfaces is None else sections.guest_ips(said.interfaces)
    assert sections.encode(Status(username=said.username, guest_ips=ips))


@given(st.text(st.characters(exclude_categories=())))
def test_text_is_clean(text: str) -> None:
    """No control, no format character, no surrogate, no line break; bounded; and clean text is a fixed point."""
    cleaned = clean(text)
    if cleaned is not None:
        assert 0 < len(cleaned) <= limits.TEXT_CHARACTERS.maximum
        assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        assert cleaned.encode()
        assert clean(cleaned) == cleaned


def test_honest_text_is_left_alone() -> None:
    """Names of people and places stay what they are."""
    for text in ("José", "名前", "naïve file", "eth0", "/mnt/data (old)"):
        assert clean(text) == text
    assert clean("\u202eevil\x1b[2J\udcff ") == "evil[2J"
    assert clean("\n\t ") is clean(7) is clean(None) is None
