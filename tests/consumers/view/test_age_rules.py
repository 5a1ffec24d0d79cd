"""How old a value is said to be: never too young."""

from __future__ import annotations

import pytest

from tests.consumers.view.back_to_back import Table, vm_number
from tests.consumers.view.situations import (
    HOST,
    in_view,
    live_table,
)
from vmpulse_consumers.view.asking import IN_FLIGHT
from vmpulse_consumers.view.host import DRIFT, REMEASURE_S, REMEASURE_SLOW_S, Host
from vmpulse_consumers.view.rows import Freshness
from vmpulse_consumers.view.runtime import Block
from vmpulse_contract.verbs import Verb


def a_host() -> Host:
    """A host with a frame made at the agent's 10 s, which is our 1010 s."""
    host = Host(HOST, Block(0, 0, 1), 1000.0)
    host.frame_ms = 10_000
    return host


def test_an_offset_counts_from_the_question() -> None:
    """A round trip of 2 s makes ages up to 2 s too old and never too young (promise V7)."""
    host = a_host()
    host.measure(9_000, sent_at=1008.0, now=1010.0)
    assert host.frame_age(1011.0) == pytest.approx(2.0 + DRIFT * 1.0)


def test_the_age_of_a_drifting_clock_grows_by_the_margin() -> None:
    """Without a new measure the age grows by what two clocks may drift apart, so it is never too young."""
    host = a_host()
    host.measure(10_000, sent_at=1010.0, now=1010.0)
    host.frame_ms = 1_010_000
    assert host.frame_age(2010.0) == pytest.approx(DRIFT * 1000)


def test_a_good_measure_loses_its_worth_by_the_margin() -> None:
    """A worse measure does not replace a better one until the drift since then may have made up the difference."""
    host = a_host()
    host.measure(10_000, sent_at=1010.0, now=1010.0)
    host.measure(20_000, sent_at=1019.0, now=1020.0)
    assert host.offset == pytest.approx(1000.0 - DRIFT * 10)
    host.measure(10_010_000, sent_at=11_009.9, now=11_010.0)
    assert host.offset == pytest.approx(999.9)


def test_a_frame_from_the_future_has_no_age() -> None:
    """Our own clock stood still: nothing is fresh by an offset that is void, and the clock is measured anew."""
    table = live_table()
    host = in_view(table)
    host.frame_ms = (host.frame_ms or 0) + 60_000
    assert host.frame_age(table.now) is None
    assert (table.row(1).age_s, table.row(1).freshness) == (None, Freshness.STALE)
    host.frame_ms -= 60_000
    host.frame_ms += 300
    assert host.frame_age(table.now) is not None


def test_a_clock_that_stood_still_is_measured_anew() -> None:
    """A frame that seems to come from the future voids the offset and asks for a roster, which brings a new one."""
    table = live_table()
    for _ in range(3):
        table.host.tick(table.now + 600)
    table.deliver()
    assert in_view(table).offset is None
    (request,) = table.view.drain_requests(table.now)
    table.reply(request, table.host.answer(request, table.now + 600))
    assert table.row(1).freshness is Freshness.FRESH


def overdue() -> Table:
    """Hosts whose clock was measured so long ago that the next frame has it measured anew."""
    table = live_table()
    measured = in_view(table).offset_at
    while table.now + 3 <= measured + REMEASURE_S:
        table.step()
    table.now = measured + REMEASURE_S + 0.1
    table.host.tick(table.now)
    table.deliver()
    return table


def test_the_clock_is_measured_again_every_five_minutes() -> None:
    """The first frame after that asks for the host's statistics, and the time in the answer is what is used of it."""
    table = overdue()
    relists = table.view.counts.relists
    (request,) = table.view.drain_requests(table.now)
    assert (request.verb, request.vms) == (Verb.GET_HOST_STATS, ())
    before = in_view(table).host_stats
    table.reply(request, table.host.answer(request, table.now))
    assert (in_view(table).offset_at, in_view(table).host_stats) == (table.now, before)
    assert in_view(table).remeasure_at == table.now + REMEASURE_S
    table.step()
    assert (table.view.counts.relists, table.view.counts.clocks) == (relists, 1)


def test_frames_on_the_way_of_an_answer_do_not_ask_again() -> None:
    """Until the clock is measured each frame finds it overdue, and it is measured once."""
    table = overdue()
    (request,) = table.view.drain_requests(table.now)
    for _ in range(2):
        table.now += 0.3
        table.host.tick(table.now)
        table.deliver()
    table.reply(request, table.host.answer(request, table.now))
    assert table.view.drain_requests(table.now) == []


def test_the_clock_of_another_agent_start_is_not_taken() -> None:
    """An answer of an epoch that is not the confirmed one measures nothing; the roster then says who lives."""
    table = overdue()
    (request,) = table.view.drain_requests(table.now)
    offset = in_view(table).offset
    table.host.begin(table.now, table.next_epoch())
    table.host.queue.clear()
    table.reply(request, table.host.answer(request, table.now))
    assert in_view(table).offset == offset
    assert [request.verb for request in table.view.drain_requests(table.now)] == [Verb.GET_ROSTER]


def test_a_host_that_cannot_tell_its_statistics_has_its_clock_measured_by_its_roster() -> None:
    """An error in place of statistics has no time in it; the roster, asked for after a pause, has."""
    table = overdue()
    table.host.held.host = None
    (request,) = table.view.drain_requests(table.now)
    table.reply(request, table.host.answer(request, table.now))
    assert table.view.drain_requests(table.now) == []
    table.step()
    assert table.view.counts.clocks == 1
    assert in_view(table).offset_at > request.sent_at
    assert in_view(table).remeasure_at == in_view(table).offset_at + REMEASURE_S


def test_a_slow_measure_of_the_clock_is_soon_made_again() -> None:
    """An answer that took seconds makes every age as much too old, but not for five minutes."""
    table = Table()
    table.deliver()
    (request,) = table.view.drain_requests(table.now)
    table.now += 5
    table.view.canary(table.now)
    table.reply(request, table.host.answer(request, table.now))
    table.answer()
    table.step()
    age = table.row(1).age_s
    assert age is not None
    assert age >= 5
    for _ in range(int(REMEASURE_SLOW_S / 3) + 2):
        table.step()
    age = table.row(1).age_s
    assert age is not None
    assert age < 0.2
    assert in_view(table).remeasure_at > table.now + REMEASURE_S / 2


def test_no_clock_is_measured_anew_while_many_hosts_wait_to_be_asked() -> None:
    """It would be as slow as the last time, and whoever waits would wait longer; afterwards it is."""
    table = Table(hosts=3 * IN_FLIGHT, vms=1)
    table.deliver()
    while table.view.counts.relists < len(table.hosts):
        requests = table.view.drain_requests(table.now)
        table.now += 2
        for request in requests:
            table.reply(request, table.hosts[request.host].answer(request, table.now))
    waiting = table.view.asking.waiting
    assert waiting > IN_FLIGHT
    for _ in range(5):
        table.now += 3
        for host in table.hosts.values():
            host.tick(table.now)
        table.deliver()
    assert table.view.asking.waiting == waiting
    table.answer()
    assert table.view.counts.clocks == 0
    table.step()
    assert table.view.counts.clocks > 0


def test_a_hung_monitor_makes_its_own_vm_old_and_no_other() -> None:
    """The age of a VM is the frame's and its own: without an answer it grows though frames come (promise V7)."""
    table = live_table()
    hung = table.now
    table.host.domains[vm_number(2)].answered = False
    for _ in range(4):
        table.step()
    table.now += 1.5
    age = table.row(2).age_s
    assert age is not None
    assert table.now - hung <= age <= table.now - hung + 0.2
    assert table.row(2).freshness is Freshness.STALE
    assert table.row(1).age_s == pytest.approx(1.5, abs=0.2)
    assert table.row(1).freshness is Freshness.FRESH
