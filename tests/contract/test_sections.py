"""Sections: equal content hashes equally everywhere, and only a body that fits its hash is believed."""

from __future__ import annotations

from random import Random
from typing import TypeVar

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import sections
from vmpulse_contract.errors import HashMismatch, MistypedMessage
from vmpulse_contract.sections import ABSENT, BODIED, GuestDetails, Info, NetIface, Section, Status

T = TypeVar("T")


@pytest.mark.parametrize("section", BODIED)
@given(data=st.data())
def test_round_trip(section: Section, data: st.DataObject) -> None:
    """A body reads back as what it was made from, in canonical order, and makes the same body again."""
    body = sections.encode(data.draw(wirelings.CONTENTS[section]))
    content = sections.decode(section, body)
    assert sections.encode(content) == body


@given(wirelings.infos)
def test_info_round_trip(info: Info) -> None:
    """What has no lists comes back unchanged."""
    assert sections.decode(Section.INFO, sections.encode(info)) == info


def _shuffled(random: Random, items: tuple[T, ...] | None) -> tuple[T, ...] | None:
    return None if items is None else tuple(random.sample(items, len(items)))


def _shuffled_interface(random: Random, one: NetIface) -> NetIface:
    return msgspec.structs.replace(one, inet=_shuffled(random, one.inet), inet6=_shuffled(random, one.inet6))


@given(wirelings.guest_details, st.randoms(use_true_random=False))
def test_order_of_lists_never_shows(details: GuestDetails, random: Random) -> None:
    """However a guest orders its applications, interfaces and addresses, the body is the same."""
    interfaces = details.net_ifaces
    if interfaces is not None:
        interfaces = tuple(_shuffled_interface(random, one) for one in interfaces)
    other = GuestDetails(apps_list=_shuffled(random, details.apps_list), net_ifaces=_shuffled(random, interfaces))
    assert sections.encode(other) == sections.encode(details)


def test_interfaces_without_names_are_ordered_too() -> None:
    """Interfaces that differ in their addresses alone stand in one order, however they were read."""
    one, two = NetIface(inet=("10.0.0.1",)), NetIface(inet=("10.0.0.2",))
    forth, back = GuestDetails(net_ifaces=(one, two)), GuestDetails(net_ifaces=(two, one))
    assert sections.encode(forth) == sections.encode(back)


@given(st.lists(wirelings.texts, max_size=6), st.randoms(use_true_random=False))
def test_guest_ips_are_a_set(addresses: list[str], random: Random) -> None:
    """Order and repetition of addresses never show in the status."""
    again = random.sample(addresses * 2, len(addresses) * 2)
    assert sections.encode(Status(guest_ips=tuple(addresses))) == sections.encode(Status(guest_ips=tuple(again)))


@pytest.mark.parametrize("content", [Info(), Status(), GuestDetails()])
def test_unknown_is_absent(content: sections.SectionBody) -> None:
    """What a source does not give is not in the body at all."""
    assert sections.encode(content) == b"\x80"


def test_nothing_there_is_not_unknown() -> None:
    """An empty list and a list that nobody could read are different bodies."""
    assert sections.encode(GuestDetails(apps_list=())) != sections.encode(GuestDetails())


def test_wire_names() -> None:
    """Fields travel by the seed's names."""
    fields = [
        field.encode_name for kind in (Info, Status, GuestDetails, NetIface) for field in msgspec.structs.fields(kind)
    ]
    assert fields == [
        *("vmName", "acpiEnable", "displayType", "displayPort", "displaySecurePort", "displayIp", "pid", "vmType"),
        *("kvmEnable", "cdrom", "boot"),
        *("timeOffset", "monitorResponse", "clientIp", "username", "session", "guestIPs", "pauseCode", "watchdogEvent"),
        *("appsList", "netIfaces"),
        *("name", "hw", "inet", "inet6"),
    ]


@given(st.sampled_from(Section), st.binary(max_size=80))
def test_hash_definition(section: Section, body: bytes) -> None:
    """A hash is xxh3-64 over the schema number, 16 bits little-endian, and the body; never ABSENT."""
    seed = sections.SCHEMA[section].to_bytes(2, "little")
    assert sections.section_hash(section, body) == xxhash.xxh3_64_intdigest(seed + body)
    assert sections.section_hash(section, body) != ABSENT


def test_schema_number_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new canonical form of a section gives new hashes for equal bytes."""
    before = sections.section_hash(Section.INFO, b"\x80")
    monkeypatch.setattr(sections, "_SEEDS", [(2).to_bytes(2, "little")] * len(Section))
    assert sections.section_hash(Section.INFO, b"\x80") != before


def test_absent_never_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body whose xxh3 is 0, which nobody can find for a test, hashes to 1."""
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda _: ABSENT)
    assert sections.section_hash(Section.INFO, b"x") == 1


@given(st.sampled_from(Section), st.binary(max_size=40), st.integers(0, (1 << 64) - 1))
def test_check_hash(section: Section, body: bytes, other: int) -> None:
    """A body is believed with its own hash and with no other."""
    right = sections.section_hash(section, body)
    sections.check_hash(section, body, right)
    if other != right:
        with pytest.raises(HashMismatch, match=section.label):
            sections.check_hash(section, body, other)


@given(st.lists(wirelings.vms, unique=True, max_size=4), st.data())
def test_digest_sees_every_bit(ids: list[bytes], data: st.DataObject) -> None:
    """Another id, hash or order gives another digest."""
    packed = b"".join(ids)
    hashes = data.draw(st.binary(min_size=32 * len(ids), max_size=32 * len(ids)))
    other = bytearray(packed + hashes)
    if other:
        other[data.draw(st.integers(0, len(other) - 1))] ^= data.draw(st.integers(1, 255))
        changed = sections.digest(bytes(other[: len(packed)]), bytes(other[len(packed) :]))
        assert changed != sections.digest(packed, hashes)
    assert sections.digest(packed, hashes) == xxhash.xxh3_64_intdigest(b"\x01" + packed + hashes)


@pytest.mark.parametrize(
    "inet, expected",
    [
        (None, ()),
        ((), ()),
        (("10.0.0.2", "10.0.0.1", "10.0.0.2"), ("10.0.0.1", "10.0.0.2")),
        (("127.0.0.1", "169.254.1.1", "0.0.0.0"), ()),  # noqa: S104 - an address to be dropped
        (("fe80::1", "10.0.0.256", "x", "", "010.0.0.1", " 10.0.0.1", "10.0.0.1/8"), ()),
        (("192.168.1.1", "172.16.0.1"), ("172.16.0.1", "192.168.1.1")),
    ],
)
def test_guest_ips(inet: tuple[str, ...] | None, expected: tuple[str, ...]) -> None:
    """Guest IPs are the IPv4 addresses, sorted, without loopback, link-local, unspecified and invalid ones."""
    assert sections.guest_ips([NetIface(inet=inet, inet6=("2001:db8::1",)), NetIface()]) == expected


@given(st.lists(st.lists(st.ip_addresses(v=4).map(str), max_size=3).map(tuple), max_size=3), st.randoms())
def test_guest_ips_do_not_depend_on_order(groups: list[tuple[str, ...]], random: Random) -> None:
    """The order of interfaces and addresses never shows in guestIPs."""
    interfaces = [NetIface(inet=group) for group in groups]
    expected = sections.guest_ips(interfaces)
    random.shuffle(interfaces)
    assert sections.guest_ips(interfaces) == expected


def test_config_has_no_structure_here() -> None:
    """The configuration is XML: there is nothing to decode it into."""
    with pytest.raises(KeyError):
        sections.decode(Section.CONFIG, b"<domain/>")


def test_labels_are_the_routing_words() -> None:
    """Sections are called by the seed's names, in the order of their numbers."""
    assert [section.label for section in Section] == ["info", "config", "status", "guestDetails"]
    assert [sections.SECTION_BY_LABEL[section.label] for section in Section] == list(Section)


@pytest.mark.parametrize(
    "content",
    [{"displayType": 5}, {"displayPort": "5900"}, {"acpiEnable": "yes"}],
)
def test_wrong_types_are_refused(content: dict[str, object]) -> None:
    """A field of another type makes the body mistyped."""
    with pytest.raises(MistypedMessage):
        sections.decode(Section.INFO, msgspec.msgpack.encode(content))
