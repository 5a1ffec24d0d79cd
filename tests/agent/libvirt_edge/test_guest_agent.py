"""What guests say: read, bounded, cleaned, whatever they say."""

from __future__ import annotations

import base64
import unicodedata
from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.libvirt_edge.recorded import GUEST_INFO
from vmpulse_agent.libvirt_edge import guest_apps
from vmpulse_agent.libvirt_edge.guest_agent import FILE_SYSTEMS, USERS, GuestFacts, facts, interfaces_of_addresses
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.measures import Mended
from vmpulse_contract import limits, sections
from vmpulse_contract.sections import GuestDetails, NetIface, Status
from vmpulse_contract.values import SessionState
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
    assert facts({"if.count": 0, "user.count": 0, "fs.count": 0}) == GuestFacts((), (), ())


def test_session_follows_from_the_users() -> None:
    """Somebody, nobody, and no answer are three things."""
    assert facts({"user.count": 1, "user.0.name": "anna"}).session is SessionState.USER_LOGGED_ON
    assert facts({"user.count": 0}).session is SessionState.LOGGED_OFF
    assert facts({"user.count": 0}).username is None
    assert facts({"if.count": 0}).session is None


def test_newer_answers_leave_the_rest_as_it_was() -> None:
    """An answer on some topics says nothing of the others; an empty list is an answer."""
    known = facts(GUEST_INFO)
    newer = known.updated(facts({"user.count": 0}))
    assert (newer.users, newer.interfaces, newer.usage) == ((), known.interfaces, known.usage)


def test_what_is_left_out_is_counted() -> None:
    """By kind: characters, length, entries, addresses, numbers, types."""
    mended = Mended()
    facts(
        {
            "if.count": 1,
            "if.0.name": "a\u202eb",
            "if.0.addr.count": 3,
            "if.0.addr.0.addr": "no address",
            "if.0.addr.1.addr": "192.0.2.1",
            "user.count": 1_000_000,
            "user.0.name": "u" * 999,
            "fs.count": 1,
            "fs.0.mountpoint": "/",
            "fs.0.total-bytes": -1,
            "fs.0.fstype": 7,
        },
        mended,
    )
    # Of a million users one is there: 63 others are looked for in vain, the rest is not looked for at all.
    assert mended.by_kind == {
        "characters": 1,
        "length": 1,
        "entries": 1 + (USERS - 1) + (1_000_000 - USERS),
        "address": 1,
        "number": 1,
        "type": 1,
    }
    mended = Mended()
    facts(GUEST_INFO, mended)
    assert not mended.by_kind


def test_a_million_entries_cost_what_the_bounds_allow() -> None:
    """And what is left is the same whatever order the guest gives it in."""
    million: dict[str, object] = {f"eth{n}": None for n in range(1_000_000)}
    million["eth0"] = {
        "hwaddr": "a",
        "addrs": [{"addr": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"} for n in range(9999)],
    }
    mended = Mended()
    (interface,) = interfaces_of_addresses(million, mended) or ()
    assert len(interface.inet or ()) == limits.ADDRESSES_PER_INTERFACE.maximum
    assert mended.by_kind["entries"] > 1_000_000 - 2 * limits.INTERFACES_PER_VM.maximum
    many = {"fs.count": 1_000_000} | {f"fs.{n}.mountpoint": f"/{n}" for n in range(5000)}
    assert len(facts(many).usage or ()) == FILE_SYSTEMS


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
    assert sections.encode(Status(username=said.username, session=said.session, guest_ips=ips))


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
    for text in (
        "José",
        "名前",
        "naïve file",
        "eth0",
        "/mnt/data (old)",
        "Grüße",
        "שלום",
        "مرحبا",
        "👍🏽",
        "❤️",
        "e\u0301",
    ):
        assert clean(text) == text
    assert clean("\u202eevil\x1b[2J\udcff ") == "evil[2J"
    for (
        mark
    ) in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\u200c\u200d\u00ad\ufeff":
        assert clean(f"a{mark}b") == "ab"
    assert clean("\n\t ") is clean(7) is clean(None) is None


class Agent:
    """A guest agent that runs one program with one answer, and is asked twice before it has ended."""

    def __init__(self, program: str, state: dict[str, Any]) -> None:
        self.program = program
        self.state = state
        self.asked = 0

    def command(self, name: str, arguments: dict[str, object]) -> object:
        """Answer one command."""
        if name == "guest-exec":
            if arguments["path"] != self.program:
                raise ValueError(arguments["path"])
            return {"pid": 7}
        assert arguments == {"pid": 7}
        self.asked += 1
        return self.state if self.asked % 3 == 0 else {"exited": False}

    def installed(self, mended: Mended | None = None) -> tuple[str, ...] | None:
        """What is read of it; time passes by sleeping alone."""
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        return guest_apps.installed(self.command, mended, lambda: now[0], sleep)


def printed(text: bytes, code: int = 0) -> dict[str, Any]:
    """The state of a program that has ended."""
    return {"exited": True, "exitcode": code, "out-data": base64.b64encode(text).decode()}


def test_installed_packages() -> None:
    """Those that are installed, sorted, from whichever package manager there is."""
    said = printed(b"ii  zsh-5.9\nrc  removed-1\nii  bash-5.2\nii  bash-5.2\n")
    assert Agent("/usr/bin/dpkg-query", said).installed() == ("bash-5.2", "zsh-5.9")
    assert Agent("/usr/bin/rpm", printed(b"ii kernel-5.14.0-1.x86_64\n")).installed() == ("kernel-5.14.0-1.x86_64",)


@pytest.mark.parametrize(
    "state",
    [
        {"exited": False},
        {"exited": True, "exitcode": 1, "out-data": ""},
        {"exited": True, "exitcode": 0},
        {"exited": True, "exitcode": 0, "out-data": 7},
        {"exited": True, "exitcode": 0, "out-data": "x"},
        [],
    ],
)
def test_no_list_is_absent_and_not_empty(state: Any) -> None:
    """A program that fails, goes on for ever or prints nothing readable gives no list; none is made up."""
    assert Agent("/usr/bin/rpm", state).installed() is None
    assert Agent("/usr/bin/pacman", state).installed() is None


def test_a_package_list_is_bounded() -> None:
    """Ten megabytes of packages become as many as travel, the same ones each time, and it is counted."""
    text = b"".join(b"ii  package-%07d\n" % n for n in range(500_000))
    mended = Mended()
    found = Agent("/usr/bin/dpkg-query", printed(text)).installed(mended)
    assert found is not None
    assert len(found) == limits.APPS_PER_VM.maximum
    assert mended.by_kind["length"] == 1
    assert sections.encode(GuestDetails(apps_list=found))


@pytest.mark.parametrize("code", sorted(guest_apps.DEAD))
def test_an_agent_that_dies_has_not_answered(code: int) -> None:
    """Unlike a refusal, of which there is no more to say than that there is no list."""

    def command(_name: str, _arguments: dict[str, object]) -> object:
        raise failure

    failure = libvirt_error(code)
    with pytest.raises(libvirt.libvirtError):
        guest_apps.installed(command)
    failure = libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR)
    assert guest_apps.installed(command) is None


def libvirt_error(code: int) -> libvirt.libvirtError:
    """One of libvirt's errors, as the binding makes it."""
    error = libvirt.libvirtError("no")
    error.err = (code, 0, "no", 2, None, None, None, -1, -1)
    return error


@given(st.binary(max_size=2000))
def test_any_package_list(output: bytes) -> None:
    """Whatever is printed, what is told of it can be sent."""
    found = Agent("/usr/bin/rpm", printed(b"ii " + output)).installed()
    assert sections.encode(GuestDetails(apps_list=found))
