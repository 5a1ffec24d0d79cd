"""libvirt's events to the port's, and what is remembered of them."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.hypervisor import BalloonChanged, Exit, LifecycleChange, LifecycleEvent, SectionsStale
from vmpulse_agent.libvirt_edge.events import OPTIONAL, RawEvent, asks_role, translate
from vmpulse_agent.libvirt_edge.evidence import CLIENTS_MOST, Client, EvidenceBook, Role
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section, WatchdogEvent
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode, WatchdogAction

VM = VmId(bytes(range(16)))
LIFECYCLE = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
STATUS = SectionsStale(VM, frozenset({Section.STATUS}))


def heard(book: EvidenceBook, kind: int, *details: Any) -> list[object]:
    """What one event means."""
    return list(translate(RawEvent(kind, VM, details), book))


@pytest.mark.parametrize(
    "kind,detail,expected",
    [
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 0, LifecycleEvent(VM, LifecycleChange.STARTED)),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0, LifecycleEvent(VM, LifecycleChange.UNDEFINED)),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 1, LifecycleEvent(VM, LifecycleChange.OTHER)),
        (
            libvirt.VIR_DOMAIN_EVENT_STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
            LifecycleEvent(VM, LifecycleChange.STOPPED, Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)),
        ),
        (
            libvirt.VIR_DOMAIN_EVENT_STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED,
            LifecycleEvent(VM, LifecycleChange.STOPPED, Exit(ExitCode.NORMAL, ExitReason.MIGRATION_SUCCEEDED)),
        ),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, 99, LifecycleEvent(VM, LifecycleChange.STOPPED)),
        (99, 99, LifecycleEvent(VM, LifecycleChange.OTHER)),
    ],
)
def test_lifecycle(kind: int, detail: int, expected: LifecycleEvent) -> None:
    """Each kind with its detail; what a newer libvirt adds is still a change."""
    assert heard(EvidenceBook(), LIFECYCLE, kind, detail) == [expected]


def test_suspend_and_define_make_sections_stale() -> None:
    """Pause code in status; the definition in config, its name in info."""
    book = EvidenceBook()
    assert heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0) == [
        LifecycleEvent(VM, LifecycleChange.SUSPENDED),
        STATUS,
    ]
    assert heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_DEFINED, 1)[1] == SectionsStale(
        VM, frozenset({Section.CONFIG, Section.INFO})
    )


def client(address: str, port: str) -> dict[str, object]:
    """The other end of a console, as libvirt gives it."""
    return {"family": 0, "node": address, "service": port}


def test_console_clients() -> None:
    """Recorded of two VNC viewers: each counts from its admission until it goes; told is the last that is there."""
    book, graphics = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS
    server, anna, bert = client("127.0.0.1", "5900"), client("192.0.2.1", "42594"), client("192.0.2.2", "42606")
    connect, initialize, disconnect = 0, 1, 2
    assert heard(book, graphics, connect, server, anna, "none", []) == []
    assert heard(book, graphics, initialize, server, anna, "none", []) == [STATUS]
    assert book.of(VM).client_ip == "192.0.2.1"
    assert heard(book, graphics, initialize, server, bert, "none", []) == [STATUS]
    assert book.of(VM).client_ip == "192.0.2.2"
    assert heard(book, graphics, disconnect, server, client("192.0.2.3", "1"), "none", []) == []
    assert heard(book, graphics, disconnect, server, bert, "none", []) == [STATUS]
    assert book.of(VM).client_ip == "192.0.2.1"
    assert heard(book, graphics, disconnect, server, anna, "none", []) == [STATUS]
    assert book.of(VM).client_ip is None


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 80)), max_size=200))
def test_clients_are_bounded(happened: list[tuple[int, int]]) -> None:
    """However many come, few are kept; whoever is told of is there; when all have gone, nobody is."""
    book, graphics = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS
    there: set[str] = set()
    for phase, number in happened:
        (there.add if phase == 1 else there.discard)(f"192.0.2.{number}")
        heard(book, graphics, phase, {}, client(f"192.0.2.{number}", "1"), "", [])
        assert len(book.of(VM).clients) <= CLIENTS_MOST
        assert book.of(VM).client_ip in there | {None}
    for number in range(81):
        heard(book, graphics, 2, {}, client(f"192.0.2.{number}", "1"), "", [])
    assert book.of(VM).client_ip is None


def test_io_error_until_resumed() -> None:
    """The reason of an I/O error that pauses; others are the guest's own business."""
    book, io_error = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON
    assert heard(book, io_error, "/d", "vda", libvirt.VIR_DOMAIN_EVENT_IO_ERROR_REPORT, "enospc") == []
    assert heard(book, io_error, "/d", "vda", libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, "enospc") == [STATUS]
    assert book.of(VM).pause_code is PauseCode.ENOSPC
    heard(book, io_error, "/d", "vda", libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, "")
    assert book.of(VM).pause_code is PauseCode.EOTHER
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    assert book.of(VM).pause_code is None


def test_clock() -> None:
    """Seconds between guest clock and UTC; what would not be told anew is not read anew."""
    book, rtc = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE
    assert heard(book, rtc, -36000) == [STATUS]
    assert book.of(VM).clock_offset == -36000
    book.about(VM).told_offset = -36000
    assert heard(book, rtc, -35996) == []
    assert heard(book, rtc, -32402) == [STATUS]


def test_watchdog() -> None:
    """When it fired and what was done; an action of a newer libvirt is still a fire."""
    book, watchdog = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG
    raw = RawEvent(watchdog, VM, (libvirt.VIR_DOMAIN_EVENT_WATCHDOG_RESET,), 1795363118.7)
    assert translate(raw, book) == [STATUS]
    assert book.of(VM).watchdog == WatchdogEvent(time=1795363118, action=WatchdogAction.RESET)
    heard(book, watchdog, 99)
    assert book.of(VM).watchdog == WatchdogEvent(time=0, action=WatchdogAction.UNKNOWN)


def test_balloon() -> None:
    """The balloon belongs to the device statistics: no section is read for it."""
    assert heard(EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, 65536) == [BalloonChanged(VM, 65536)]


AGENT = libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE
CONNECTED, DISCONNECTED = 1, 2
REBOOTED = [
    LifecycleEvent(VM, LifecycleChange.OTHER),
    SectionsStale(VM, frozenset({Section.STATUS, Section.GUEST_DETAILS})),
]


def test_reboot_until_the_agent_is_back() -> None:
    """A guest whose agent was there says by it that it is back; the agent goes before the machine is reset."""
    book = EvidenceBook()
    heard(book, AGENT, CONNECTED, 2)
    assert not book.of(VM).rebooting
    heard(book, AGENT, DISCONNECTED, 2)
    assert not book.of(VM).rebooting
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT) == REBOOTED
    assert book.of(VM).rebooting
    # Machine and BIOS announce one reboot each.
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
    assert book.of(VM).rebooting
    assert heard(book, AGENT, CONNECTED, 2) == REBOOTED
    assert not book.of(VM).rebooting


def test_reboot_without_an_agent() -> None:
    """A guest that cannot say that it is back is never told to be rebooting: nothing would end it."""
    book = EvidenceBook()
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT) == REBOOTED
    assert not book.of(VM).rebooting
    heard(book, AGENT, CONNECTED, 2)
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
    book.forget_all()
    assert not book.of(VM).rebooting


def test_reboot_until_the_balloon_driver_reports() -> None:
    """Another report than the one known since the reboot ends it, whatever the clock was set to; none does not."""
    book = EvidenceBook()
    heard(book, AGENT, CONNECTED, 2)
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
    for reported in (None, 5000, 5000, None, 0):
        book.about(VM).driver_reported(reported)
        assert book.rebooting() == [VM]
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
    book.about(VM).driver_reported(5010)
    assert book.rebooting() == [VM]
    book.about(VM).driver_reported(1400)
    assert not book.rebooting()


def test_waking_is_no_new_life() -> None:
    """A guest that slept goes on: libvirt says started, and what is known of it stays."""
    book = EvidenceBook()
    heard(book, AGENT, CONNECTED, 2)
    woken = heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    assert woken == [LifecycleEvent(VM, LifecycleChange.RESUMED), STATUS]
    assert book.of(VM).agent_came


def test_who_has_ended_the_process() -> None:
    """The same STOPPED event, after a guest's word and after a signal of the host's."""
    book = EvidenceBook()
    stopped = (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)
    by_guest = Exit(ExitCode.NORMAL, ExitReason.USER_SHUTDOWN)
    assert heard(book, LIFECYCLE, *stopped) == [LifecycleEvent(VM, LifecycleChange.STOPPED, by_guest)]
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST)
    by_host = Exit(ExitCode.ERROR, ExitReason.HOST_SHUTDOWN)
    assert heard(book, LIFECYCLE, *stopped) == [LifecycleEvent(VM, LifecycleChange.STOPPED, by_host)]


def test_failed_migrations() -> None:
    """An incoming domain that never ran, one whose post-copy broke, and one that had been let run."""
    book = EvidenceBook()
    started = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    failed = (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)
    heard(book, LIFECYCLE, *started)
    incoming = Exit(ExitCode.ERROR, ExitReason.MIGRATION_FAILED)
    assert heard(book, LIFECYCLE, *failed) == [LifecycleEvent(VM, LifecycleChange.STOPPED, incoming)]
    heard(book, LIFECYCLE, *started)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED)
    postcopy = Exit(ExitCode.ERROR, ExitReason.POSTCOPY_MIGRATION_FAILED)
    assert heard(book, LIFECYCLE, *failed) == [LifecycleEvent(VM, LifecycleChange.STOPPED, postcopy)]
    heard(book, LIFECYCLE, *started)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
    lost = Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION)
    assert heard(book, LIFECYCLE, *failed) == [LifecycleEvent(VM, LifecycleChange.STOPPED, lost)]


def test_restore_and_its_end() -> None:
    """Recorded of ``virsh restore``, once let run and once --paused."""
    restored = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED)
    for then, role in (
        ((libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT), None),
        ((libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_RESTORED), Role.NONE),
    ):
        book = EvidenceBook()
        heard(book, AGENT, DISCONNECTED, 1)
        heard(book, LIFECYCLE, *restored)
        assert book.of(VM).role is Role.RESTORING
        heard(book, LIFECYCLE, *then)
        assert book.of(VM).role is role


def test_destination_until_resumed() -> None:
    """Started by a migration: destination, until it runs."""
    book = EvidenceBook()
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    assert book.of(VM).role is Role.DESTINATION
    assert not asks_role(ITERATION, book)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
    assert book.of(VM).role is None


ITERATION = RawEvent(libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VM, (1,))
COMPLETED = RawEvent(libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VM, ({"operation": 5},))


def test_a_pass_over_memory_is_asked_about() -> None:
    """A live dump iterates as a migration does: the job is asked for, and what is known is not asked again."""
    book = EvidenceBook()
    assert translate(ITERATION, book) == []
    assert asks_role(ITERATION, book)
    assert book.of(VM).role is None
    book.about(VM).role = Role.NONE
    assert asks_role(ITERATION, book)
    assert not asks_role(COMPLETED, book)
    for role in (Role.SOURCE, Role.SAVING):
        book.about(VM).role = role
        assert not asks_role(ITERATION, book)
        assert asks_role(COMPLETED, book)


def test_an_undefined_domain_runs_on() -> None:
    """Undefining takes nothing from a life that goes on: its clients are there, and its reboot is not over."""
    book = EvidenceBook()
    heard(book, AGENT, CONNECTED, 2)
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT)
    book.about(VM).clients = (Client("192.0.2.1", "1"),)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0)
    assert (book.of(VM).client_ip, book.of(VM).rebooting) == ("192.0.2.1", True)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)
    assert (book.of(VM).client_ip, book.of(VM).rebooting) == (None, False)


def test_evidence_ends_with_the_life() -> None:
    """A new life knows nothing of the old one; a lost connection ends all evidence."""
    book = EvidenceBook()
    book.about(VM).clients = (Client("192.0.2.1", "1"),)
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert book.of(VM).client_ip is None
    book.about(VM).clients = (Client("192.0.2.1", "1"),)
    book.keep_only([VM])
    assert book.of(VM).client_ip
    book.keep_only([])
    assert book.of(VM).client_ip is None
    book.about(VM).role = Role.SOURCE
    book.forget_all()
    assert book.of(VM).role is None


@given(
    st.sampled_from([LIFECYCLE, *OPTIONAL, 999]),
    st.lists(st.integers() | st.none() | st.text(max_size=5) | st.dictionaries(st.just("node"), st.integers())),
)
def test_any_event_is_survived(kind: int, details: list[object]) -> None:
    """A libvirt with other shapes costs an event, not the stream."""
    translate(RawEvent(kind, VM, tuple(details)), EvidenceBook())
