"""What no agent does, as it shows in a broker's statistics."""

from __future__ import annotations

import pytest

from vmpulse_consumers.broker.conduct import AMPLE, UNACKNOWLEDGED, Channel, Conduct, Connection, Misconduct
from vmpulse_consumers.view.budget import BYTES_BURST, BYTES_S, MESSAGES_BURST, MESSAGES_S

BURST, SECOND = int(AMPLE * BYTES_BURST), int(AMPLE * BYTES_S)


def conduct() -> Conduct:
    """One that has looked before anybody was there."""
    made = Conduct("/", "admin")
    assert made.look([], [], 0.0) == []
    return made


def sent(size: int, name: str = "a", user: str = "h001") -> list[Connection]:
    """A connection that has sent so many bytes since it began."""
    return [Connection(user, "/", name, size)]


def closed(found: list[Misconduct]) -> list[tuple[str, str]]:
    """Whose connections are to be closed."""
    return [(one.host, one.connection) for one in found]


def test_what_hosts_hold_back_counts() -> None:
    """In all channels of a connection; nothing of engine users, the administrator, or another virtual host."""
    channels = [
        Channel("h001", "/", "a", uncommitted=2),
        Channel("h001", "/", "a", uncommitted=3, number=2),
        Channel("h001", "/", "b"),
        Channel("h001", "/other", "c", uncommitted=1),
        Channel("engine.view", "/", "d", uncommitted=1),
        Channel("admin", "/", "e", uncommitted=1),
        Channel("h002", "/", "f", uncommitted=1),
    ]
    assert conduct().look([], channels, 1.0) == [
        Misconduct("h001", "a", "5 messages in a transaction that it had not committed"),
        Misconduct("h002", "f", "1 messages in a transaction that it had not committed"),
    ]


def test_what_hosts_do_not_acknowledge_counts_beyond_what_an_agent_takes() -> None:
    """In all channels of a connection together, whose number is theirs to choose."""
    half = UNACKNOWLEDGED // 2
    channels = [Channel("h001", "/", "a", unacknowledged=half, number=number) for number in (1, 2)]
    assert conduct().look([], channels, 1.0) == []
    channels.append(Channel("h001", "/", "a", unacknowledged=1, number=3))
    assert closed(conduct().look([], channels, 1.0)) == [("h001", "a")]


def test_twice_a_views_budget_at_once_is_let_be_and_more_is_not() -> None:
    """By bytes of all its connections, or by messages of all its channels."""
    assert conduct().look(sent(BURST), [], 0.0) == []
    assert closed(conduct().look(sent(BURST + 1), [], 0.0)) == [("h001", "a")]
    both = [*sent(BURST), *sent(1, "b")]
    assert closed(conduct().look(both, [], 0.0)) == [("h001", "a"), ("h001", "b")]
    published = int(AMPLE * MESSAGES_BURST)
    assert conduct().look([], [Channel("h001", "/", "a", published=published)], 0.0) == []
    assert closed(conduct().look([], [Channel("h001", "/", "a", published=published + 1)], 0.0)) == [("h001", "a")]


def test_who_does_not_read_at_two_looks_in_a_row_is_closed() -> None:
    """Once may be a moment; another host's and another connection's moments are their own."""
    judge = conduct()
    first, other = Connection("h001", "/", "a", 1, unread=9), Connection("h002", "/", "b", 1, unread=9)
    assert judge.look([first], [], 1.0) == []
    assert judge.look([first._replace(unread=0), other], [], 6.0) == []
    assert judge.look([first], [], 11.0) == []
    found = [Misconduct("h001", "a", "9 bytes that came back and that it does not read")]
    assert judge.look([first, other], [], 16.0) == found


def test_only_growth_counts_and_so_much_a_second_is_let_be() -> None:
    """A connection that stays has a counter that grows for months; one that is new has said all of it just now."""
    judge = conduct()
    total = BURST
    assert judge.look(sent(total), [], 0.0) == []
    for now in range(5, 600, 5):
        total += 5 * SECOND
        assert judge.look(sent(total), [], float(now)) == []
    total += 5 * SECOND + 1
    assert closed(judge.look(sent(total), [], 600.0)) == [("h001", "a")]
    assert closed(judge.look([*sent(total), *sent(BURST, "new")], [], 601.0)) == [("h001", "new")]


def test_messages_a_second_are_let_be_too() -> None:
    """Twice what a view applies in the long run."""
    judge, total = conduct(), int(AMPLE * MESSAGES_BURST)
    assert judge.look([], [Channel("h001", "/", "a", published=total)], 0.0) == []
    total += int(AMPLE * MESSAGES_S) * 5
    assert judge.look([], [Channel("h001", "/", "a", published=total)], 5.0) == []
    assert judge.look([], [Channel("h001", "/", "a", published=total + 1)], 5.0) != []


def test_what_was_said_before_the_first_look_is_of_no_account() -> None:
    """A guard that is started beside a fleet of long standing closes nobody."""
    judge = Conduct("/", "admin")
    assert judge.look(sent(1 << 50), [Channel("h001", "/", "a", published=1 << 40)], 0.0) == []
    assert judge.look(sent((1 << 50) + 1), [Channel("h001", "/", "a", published=1 << 40)], 5.0) == []


@pytest.mark.parametrize("user, vhost", [("engine.view", "/"), ("admin", "/"), ("h001", "/other")])
def test_others_may_say_what_they_like(user: str, vhost: str) -> None:
    """Engine users, the administrator, and whoever has a virtual host of his own."""
    found = conduct().look([Connection(user, vhost, "a", BURST * 2)], [Channel(user, vhost, "a", uncommitted=9)], 0.0)
    assert found == []


def test_of_one_connection_one_thing_is_said() -> None:
    """Whatever else it did: it is closed once."""
    channels = [Channel("h001", "/", "a", uncommitted=1, unacknowledged=100, published=1)]
    assert len(conduct().look(sent(BURST * 2), channels, 0.0)) == 1


def test_hosts_that_have_gone_are_forgotten() -> None:
    """Accounts are those of hosts that are connected."""
    judge = conduct()
    for number in range(100):
        judge.look(sent(1, "a", f"h{number:03}"), [], float(number))
    assert len(judge._accounts) == 1
