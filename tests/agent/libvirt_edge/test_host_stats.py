"""The host's statistics from recorded files of /proc."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.agent.libvirt_edge.recorded import MEMINFO
from vmpulse_agent.libvirt_edge.host_stats import ProcTexts, cpu_ticks, host_stats, memory_mib, read
from vmpulse_contract.verbs import HostStats

BEFORE = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 50 0 25 400 25 0 0 0 0 0\ncpu1 50 0 25 400 25 0 0 0 0 0\nctxt 1\n"
AFTER = "cpu  130 10 60 1000 50 5 5 0 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0 0 0\nctxt 2\n"


def test_shares_over_the_time_between() -> None:
    """Percent of all CPUs, absent the first time."""
    first, ticks = host_stats(ProcTexts(BEFORE, "0.31 0.2 0.1 1/99 5\n", MEMINFO, "2547.77 9\n"), None)
    assert (first.cpu_user, first.cpu_count, first.cpu_load, first.elapsed_time) == (None, 2, 0.31, 2547.77)
    assert (first.mem_total, first.mem_used, first.mem_free) == (24105, 1644, 22461)
    assert (first.swap_total, first.swap_free, first.vm_count) == (2048, 1024, None)
    second, _ = host_stats(ProcTexts(AFTER, "", "", ""), ticks)
    assert (second.cpu_user, second.cpu_sys, second.cpu_idle) == (15.38, 7.69, 76.92)
    assert second.mem_total is None


def test_no_time_no_share() -> None:
    """Two readings of the same moment."""
    texts = ProcTexts(BEFORE, "", "", "")
    assert host_stats(texts, cpu_ticks(BEFORE))[0].cpu_idle is None


def test_this_machine() -> None:
    """The real files have the recorded shape."""
    found, ticks = host_stats(read(), None)
    assert ticks is not None
    assert found.mem_total
    assert found.cpu_count


@given(st.text(), st.text())
def test_any_text_is_survived(stat: str, other: str) -> None:
    """What cannot be read is absent."""
    found, _ = host_stats(ProcTexts("cpu" + stat, other, other, other), None)
    assert isinstance(found, HostStats)
    assert isinstance(memory_mib("MemTotal:" + other), dict)
