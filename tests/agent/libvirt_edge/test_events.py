"""libvirt's events to the port's, and what is remembered of them."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.hypervisor import Exit, LifecycleChange, LifecycleEvent, SectionsStale
from vmpulse_agent.libvirt_edge.events import OPTIONAL, RawEvent, translate
from vmpulse_agent.libvirt_edge.evidence import EvidenceBook, Role
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode

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


def test_console_client() -> None:
    """Counts from its admission; the leaving of somebody else changes nothing."""
    book, graphics = EvidenceBook(), libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS
    anna, bert = {"node": "192.0.2.1"}, {"node": "192.0.2.2"}
    assert heard(book, graphics, libvirt.VIR_DOMAIN_EVENT_GRAPHICS_CONNECT, {}, anna, "", []) == []
    assert heard(book, graphics, libvirt.VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE, {}, anna, "", []) == [STATUS]
    assert heard(book, graphics, libvirt.VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT, {}, bert, "", []) == []
    assert book.of(VM).client_ip == "192.0.2.1"
    assert heard(book, graphics, libvirt.VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT, {}, anna, "", []) == [STATUS]
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
    """Seconds between guest clock and UTC."""
    book = EvidenceBook()
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_RTC_CHANGE, -3600) == [STATUS]
    assert book.of(VM).time_offset == -3600


def test_destination_until_resumed() -> None:
    """Started by a migration: destination, until it runs."""
    book = EvidenceBook()
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    assert book.of(VM).role is Role.DESTINATION
    heard(book, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, 1)
    assert book.of(VM).role is Role.DESTINATION
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
    assert book.of(VM).role is None


def test_source_from_its_first_iteration() -> None:
    """A source runs on; its iterations tell, once, and the end of the job."""
    book, other = EvidenceBook(), [LifecycleEvent(VM, LifecycleChange.OTHER)]
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, 1) == other
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, 2) == []
    assert book.of(VM).role is Role.SOURCE
    assert heard(book, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, {"operation": 5}) == other
    assert book.of(VM).role is None


def test_evidence_ends_with_the_life() -> None:
    """A new life knows nothing of the old one; a lost connection ends all evidence."""
    book = EvidenceBook()
    book.about(VM).client_ip = "192.0.2.1"
    heard(book, LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert book.of(VM).client_ip is None
    book.about(VM).client_ip = "192.0.2.1"
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
