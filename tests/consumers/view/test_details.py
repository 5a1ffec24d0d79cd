"""Packed guestDetails: bodies come back as they were, and those of one image take a part of their room."""

from __future__ import annotations

from hashlib import shake_128

from hypothesis import given
from hypothesis import strategies as st

from tests.consumers.view.back_to_back import vm_number
from tests.consumers.view.situations import in_view, live_table
from vmpulse_consumers.view.details import SAID_BYTES, Details
from vmpulse_contract import limits, sections
from vmpulse_contract.sections import GuestDetails, NetIface, Section

WORDS = st.sampled_from([b"", b"kernel-6.1.0", b"openssh-server-9.2p1", bytes(300), bytes(range(256)) * 5])
BODIES = st.lists(st.lists(WORDS | st.binary(max_size=400)).map(b"".join), max_size=12)


def noise(number: int, length: int) -> bytes:
    """Bytes that resemble no others: those of another number or another length."""
    return shake_128(b"%d %d" % (number, length)).digest(length)


def of_an_image(number: int, packages: int, length: int) -> bytes:
    """The details of a guest of which only name and address are its own."""
    apps = tuple(f"package-{noise(package, length).hex()}" for package in range(packages))
    address = f"10.0.{number // 256}.{number % 256}"
    return sections.encode(GuestDetails(apps_list=apps, net_ifaces=(NetIface(name="eth0", inet=(address,)),)))


def room(details: Details, bodies: list[bytes]) -> int:
    """The bytes that bodies take, with what is remembered to unpack them."""
    return sum(len(details.pack(body)) for body in bodies) + len(details._said)


@given(bodies=BODIES)
def test_bodies_come_back_as_they_were(bodies: list[bytes]) -> None:
    """Whatever is packed before and after it, each body unpacks to the same bytes."""
    details = Details()
    kept = [details.pack(body) for body in bodies]
    assert [details.unpack(packed) for packed in kept] == bodies


def test_guests_of_one_image_take_a_tenth_of_their_room() -> None:
    """Forty guests with the same packages and addresses of their own take a tenth of their bodies, few as many."""
    for packages, length in ((35, 6), (800, 10)):
        bodies = [of_an_image(number, packages, length) for number in range(40)]
        assert room(Details(), bodies) < sum(map(len, bodies)) / 10


def test_two_images_on_a_host_are_told_apart() -> None:
    """By turns guests of two images take little more than those of one."""
    bodies = [of_an_image(number, 35, 6 + number % 2) for number in range(40)]
    assert room(Details(), bodies) < sum(map(len, bodies)) / 8


def test_bodies_that_nothing_resembles_take_little_more_than_they_are() -> None:
    """Of 4,096 random bodies no more is remembered than zlib can use, and the whole is 3 % larger at most."""
    details = Details()
    bodies = [noise(number, 700) for number in range(limits.VMS_PER_HOST.maximum)]
    assert room(details, bodies) < 1.03 * sum(map(len, bodies))
    assert len(details._said) <= SAID_BYTES


def test_the_largest_body_comes_back() -> None:
    """A body as large as bodies may be is packed and unpacked as any other."""
    body, details = noise(1, limits.BODY_BYTES.maximum), Details()
    assert details.unpack(details.pack(body)) == body


def test_with_the_last_body_goes_what_was_remembered() -> None:
    """A host none of whose VMs has details any more remembers nothing of them."""
    table = live_table()
    assert in_view(table).details._said
    for number in (1, 2, 3):
        table.host.undefine_vm(vm_number(number), table.now)
    table.step()
    table.step()
    assert not any(in_view(table).bodies[Section.GUEST_DETAILS :: len(Section)])
    assert not in_view(table).details._said
