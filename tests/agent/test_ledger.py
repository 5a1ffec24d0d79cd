"""The ledger: runtime values are what the counters say, and unknown where they say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.hypervisor import DomainLook
from vmpulse_agent.ledger import CPU_WINDOW_S, Ledger, Row, age_units
from vmpulse_contract import columns, sections
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.values import VmStatus

VM = VmId(b"A" * 16)
SECOND = 1_000_000_000


def _look(time_ns: int | None = None, system_ns: int | None = None, *, answered: bool = True) -> DomainLook:
    return DomainLook(VM, 1, VmStatus.UP, 5000, time_ns, system_ns, 40, answered)


def _row(*looks: tuple[float, DomainLook]) -> Row:
    row = Row(looks[0][1], looks[0][0])
    for at, look in looks:
        row.observe(look, at)
    return row


def test_cpu_is_unknown_at_first() -> None:
    """One look gives counters and no share: unknown, not 0."""
    row = _row((10.0, _look(5 * SECOND, SECOND)))
    assert (row.cpu_user, row.cpu_sys) == (None, None)


@given(
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 61),
    st.integers(0, 64 * SECOND),
    st.integers(0, 64 * SECOND),
    st.sampled_from([1.0, 1.5, 3.0, 10.0]),
)
def test_cpu_formula(time_ns: int, system_ns: int, user: int, system: int, span: float) -> None:
    """The growth of cpu.system is cpuSys, and cpuUser the rest of the growth of cpu.time, in tenths of a percent."""
    later = _look(time_ns + user + system, system_ns + system)
    row = _row((10.0, _look(time_ns, system_ns)), (10.0 + span, later))
    assert row.cpu_sys == pytest.approx(system / SECOND / span * 1000, abs=0.51)
    assert row.cpu_user == pytest.approx(user / SECOND / span * 1000, abs=0.51)


def test_cpu_of_64_vcpus() -> None:
    """A VM with 64 busy vCPUs is at 6,400 %, and its number fits 16 bits."""
    row = _row((0.0, _look(0, 0)), (3.0, _look(192 * SECOND, 0)))
    assert row.cpu_user == 64_000
    assert row.cpu_sys == 0


counters = st.none() | st.integers(0, 1 << 62)


@given(st.lists(st.tuples(st.floats(0.01, 5), counters, counters, st.booleans()), min_size=1, max_size=8))
def test_cpu_is_never_negative(steps: list[tuple[float, int | None, int | None, bool]]) -> None:
    """Whatever the counters do, a share is unknown or 0 or more, and together they are no more than the growth."""
    at, looks = 0.0, []
    for step, time_ns, system_ns, answered in steps:
        at += step
        looks.append((at, _look(time_ns, system_ns, answered=answered)))
        row = _row(*looks)
        assert row.cpu_user is None or row.cpu_user >= 0
        assert row.cpu_sys is None or row.cpu_sys >= 0


def test_cpu_window() -> None:
    """Looks closer than the window give no share of their own: the last one stands, and the span runs on."""
    row = _row((0.0, _look(0, 0)), (2.0, _look(2 * SECOND, 0)))
    row.observe(_look(9 * SECOND, 0), 2.0 + CPU_WINDOW_S / 2)
    assert row.cpu_user == 1000
    row.observe(_look(4 * SECOND, 0), 2.0 + 2 * CPU_WINDOW_S)
    assert row.cpu_user == 1000


def test_counters_that_vanish() -> None:
    """A counter that is not given makes its share unknown, and the share starts anew when it comes back."""
    row = _row((0.0, _look(0, 0)), (2.0, _look(2 * SECOND, None)))
    assert (row.cpu_user, row.cpu_sys) == (None, None)
    row.observe(_look(None, None), 4.0)
    row.observe(_look(4 * SECOND, 0), 6.0)
    assert (row.cpu_user, row.cpu_sys) == (None, None)
    row.observe(_look(6 * SECOND, 0), 8.0)
    assert (row.cpu_user, row.cpu_sys) == (1000, 0)


def test_a_hung_monitor_keeps_values() -> None:
    """A look without an answer changes status and elapsed time and leaves values and their age alone."""
    row = _row((0.0, _look(0, 0)), (2.0, _look(2 * SECOND, 0)))
    row.observe(DomainLook(VM, 1, VmStatus.PAUSED, 9000, None, None, None, answered=False), 5.0)
    assert (row.status, row.elapsed_ms) == (VmStatus.PAUSED, 9000)
    assert (row.cpu_user, row.mem_usage, row.sampled_at) == (1000, 40, 2.0)


def test_a_new_life_forgets() -> None:
    """A new start token forgets what was said of the old life, and keeps the configuration."""
    row = _row((0.0, _look(0, 0)), (2.0, _look(2 * SECOND, 0)))
    for section in Section:
        row.hold(section, b"x")
        row.announce(section)
    row.reincarnate(2)
    assert (row.cpu_user, row.cpu_sys, row.mem_usage, row.elapsed_ms) == (None, None, None, None)
    assert [row.announced[section] == ABSENT for section in Section] == [section in BODIED for section in Section]
    assert row.current == row.announced


def test_config_bodies_are_not_kept() -> None:
    """The configuration is held by its hash alone."""
    row = _row((0.0, _look()))
    assert row.hold(Section.CONFIG, b"<domain/>")
    row.announce(Section.CONFIG)
    assert row.announced[Section.CONFIG] == sections.section_hash(Section.CONFIG, b"<domain/>")
    assert row.bodies[Section.CONFIG] == b""


def test_announcing_gives_new_and_previous() -> None:
    """An announcement names the new hash and the one before it, and the first one ABSENT."""
    row = _row((0.0, _look()))
    row.hold(Section.INFO, b"a")
    first = row.announce(Section.INFO)
    row.hold(Section.INFO, b"b")
    assert first == (sections.section_hash(Section.INFO, b"a"), ABSENT)
    assert row.announce(Section.INFO) == (sections.section_hash(Section.INFO, b"b"), first[0])


def _ledger(*rows: Row) -> Ledger:
    ledger = Ledger()
    ledger.rows = {row.vm: row for row in rows}
    ledger.relayout()
    return ledger


def test_layout_order_and_count() -> None:
    """The layout is in the order of ids, and counts up each time."""
    rows = [Row(DomainLook(VmId(bytes([number]) * 16), 1, VmStatus.UP), 0.0) for number in (3, 1, 2)]
    ledger = _ledger(*rows)
    assert [row.vm[0] for row in ledger.order] == [1, 2, 3]
    assert ledger.layout == 1
    ledger.relayout()
    assert ledger.layout == 2


def test_digest_follows_announcements() -> None:
    """The digest is over announced hashes: reading something does not change it, announcing does."""
    row = _row((0.0, _look()))
    ledger = _ledger(row)
    before = ledger.digest()
    row.hold(Section.INFO, b"x")
    assert ledger.digest() == before
    assert list(ledger.unannounced()) == [(row, Section.INFO)]
    ledger.announce_all()
    assert ledger.digest() == sections.digest(VM, ledger.announced_hashes()) != before
    assert list(ledger.unannounced()) == []


def test_unknown_is_never_zero() -> None:
    """What was never read travels as unknown in every column but the age."""
    row = Row(DomainLook(VM, 1, VmStatus.UNKNOWN), 0.0)
    status, cpu_user, cpu_sys, mem_usage, age = _ledger(row).runtime_columns(0.05)
    assert (status, cpu_user, cpu_sys, mem_usage, age) == (None, None, None, None, 1)


def test_ages_per_vm() -> None:
    """Ages are one value where VMs were sampled together, and one a VM where not."""
    fresh, stale = Row(DomainLook(VM, 1, VmStatus.UP), 9.0), Row(DomainLook(VmId(b"B" * 16), 1, VmStatus.UP), 2.0)
    assert list(_ledger(fresh).runtime_columns(10.0))[-1] == 10
    ages = list(_ledger(fresh, stale).runtime_columns(10.0))[-1]
    assert columns.unpack(ages, 2) == [10, 80]


@given(st.floats(0, 1e6))
def test_an_age_is_never_too_young(seconds: float) -> None:
    """Ages are rounded up to their unit, by no more than one."""
    assert seconds * 10 <= age_units(seconds) <= seconds * 10 + 1


def test_an_age_is_never_negative() -> None:
    """A look that began after now, by the caller's clock, is of age 0."""
    assert age_units(-5.0) == 0
