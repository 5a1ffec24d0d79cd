"""What subscribers count as lost, and which waits are the view's."""

from __future__ import annotations

from benches.reads.prober import Answer, told
from benches.reads.report import GOALS, missed
from benches.reads.subscribers import Followed, Subscriber, followed, followed_up_to

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def events(*numbers: int) -> bytes:
    """Blocks as the view sends them."""
    return b"".join(b"id: ab12-%d\nevent: vm.status\ndata: {}\n\n" % number for number in numbers)


def subscriber(*pieces: bytes) -> Subscriber:
    """One that began after event 7 and was sent these."""
    found = Subscriber()
    for piece in (HEAD, b"retry: 2000\nid: ab12-7\n\n", *pieces):
        found.data_received(piece)
    return found


def lost(*all_of_them: Subscriber) -> int:
    """What they lost, added up."""
    return followed(all_of_them, 1.0).lost


def test_nothing_is_lost_where_numbers_follow_each_other() -> None:
    """Pieces may end anywhere, and a comment with a younger token is no event."""
    text = events(8, 9) + b":\nid: ab12-9\n\n" + events(10)
    whole = subscriber(text)
    pieces = subscriber(*(text[at : at + 5] for at in range(0, len(text), 5)))
    assert (whole.last, pieces.last, lost(whole, pieces)) == (10, 10, 0)


def test_gaps_and_what_never_came_are_lost() -> None:
    """A gap is lost, and so is what others had to whom nothing came any more; repeats are nothing."""
    first = subscriber(events(8, 9, 10, 10))
    assert lost(first, subscriber(events(8, 10))) == 1
    assert lost(first, subscriber(events(8))) == 2
    assert lost(first, subscriber()) == 3


def test_who_is_refused_loses_all() -> None:
    """Of one that was not let in everything counts as lost, and it is told beside."""
    refused = Subscriber()
    refused.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}")
    refused.connection_lost(None)
    found = followed([subscriber(events(8, 9)), refused], 1.0)
    expected = Followed(subscribers=2, refused=1, cut=0, events=2, lost=2, writes_per_s=3.0)
    assert found == expected


def test_who_is_cut_is_told_of() -> None:
    """A connection that was ended by the view is one that was cut."""
    cut = subscriber(events(8))
    cut.connection_lost(None)
    assert followed([cut], 1.0).cut == 1


def test_what_is_on_its_way_at_the_end_is_not_lost() -> None:
    """Events that some have had already since everybody was told to end do not count."""
    assert followed_up_to([subscriber(events(8, 9)), subscriber(events(8))], 8, 1.0).lost == 0


def test_waits_for_a_cpu_are_not_the_loops() -> None:
    """What two processes waited for a CPU is taken off, and is in the other figure."""
    found = told([Answer(0.030, 0.025), Answer(0.002, 0.0), Answer(0.001, 0.002)])
    assert (found.asked, found.loop.max, found.answer.max) == (3, 5.0, 30.0)


def test_goals() -> None:
    """What is beyond its goal is missed, and what is on it is not."""
    assert missed(dict(GOALS)) == []
    assert missed({**GOALS, "sse_lost": 1, "vm_ms": 2.1}) == ["vm_ms", "sse_lost"]
