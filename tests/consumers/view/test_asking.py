"""Questions are paced for each host and in all, and one host's pace is not another's."""

from __future__ import annotations

from tests.consumers.view.situations import HOST, OTHER, live_table
from vmpulse_consumers.view.asking import ASKED_BURST, HELD_BACK_S
from vmpulse_consumers.view.host import REQUESTS_BURST


def test_a_host_that_is_held_back_takes_nothing_of_the_pace_of_others() -> None:
    """With one question left for all, the host that may be asked is, though another waits before it."""
    table = live_table(hosts=2)
    view, first = table.view, table.view.hosts[HOST]
    assert first.asked.take(REQUESTS_BURST, table.now)
    assert view.asking._allowed.take(ASKED_BURST - 1, table.now)
    view.asking.relist(first)
    view.asking.relist(view.hosts[OTHER])
    assert [request.host for request in view.drain_requests(table.now)] == [OTHER]
    assert view.counts.held_back == 1


def test_a_host_that_was_held_back_is_asked_later() -> None:
    """Its wish is not forgotten, and its allowance has filled by then."""
    table = live_table()
    view, host = table.view, table.view.hosts[HOST]
    assert host.asked.take(REQUESTS_BURST, table.now)
    view.asking.relist(host)
    assert view.drain_requests(table.now) == []
    view.tick(table.now + HELD_BACK_S)
    assert [request.host for request in view.drain_requests(table.now + HELD_BACK_S)] == [HOST]
