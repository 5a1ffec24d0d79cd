"""Which guest is asked for what, and when: the pace of guest agent calls. No I/O, no clock: times are the caller's.

Rules of this file.
- Only guests whose channel is open are asked; one call at a time each.
- Eager at first: for two minutes after the channel has opened, all topics each 5 s until one question was answered,
  then each 10 s: addresses come late in a boot. Then slowly, each topic at its own pace.
- A call that misses its deadline goes on and keeps its thread, for libvirt has no timeout for it that would not be kept
  in the domain. Its guest is a *suspect* and is asked again only when the call has ended, ever more rarely.
- So that guests which hang starve nobody: suspects have at most two of the six threads; together with *newcomers*, who
  have not answered yet either, four. At least two are left to those who have answered. While half of all threads hang,
  nobody is asked what a guest can hang on without ill will: file systems (a dead NFS server) and package lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from vmpulse_contract.identity import VmId

WIDTH: Final = 6
"""Calls at once, each in a thread and on a connection of its own; of libvirtd's 20 workers looks may hold 11."""
SUSPECTS: Final = 2
UNPROVEN: Final = 4
"""Of these: calls to suspects, and to suspects and newcomers together."""
EAGER_S: Final = 120.0
EAGER_RETRY_S: Final = 5.0
EAGER_AGAIN_S: Final = 10.0
RETRY_S: Final = 30.0
RETRY_MOST_S: Final = 120.0
POSTPONED_S: Final = 5.0
TOGETHER_S: Final = 2.0
"""Topics that are due so soon after each other are asked for together."""


class Topic(Enum):
    """What is asked of a guest."""

    USERS = auto()
    INTERFACES = auto()
    FILE_SYSTEMS = auto()
    APPS = auto()


SLOW_S: Final = {Topic.USERS: 30.0, Topic.INTERFACES: 60.0, Topic.FILE_SYSTEMS: 300.0, Topic.APPS: 600.0}
"""Seconds between two questions on a topic, once a guest is no longer new."""
HANGABLE: Final = frozenset({Topic.FILE_SYSTEMS, Topic.APPS})
"""Topics that a guest can hang on without ill will."""


class Standing(Enum):
    """What is to be expected of a guest."""

    NEWCOMER = auto()
    PROVEN = auto()
    SUSPECT = auto()


class Question(NamedTuple):
    """One call to make now. ``opening`` tells the channel's openings apart; it goes back with the answer."""

    vm: VmId
    topics: frozenset[Topic]
    opening: int


@dataclass(slots=True)
class _Guest:
    opening: int
    opened_at: float
    due: dict[Topic, float]
    standing: Standing = Standing.NEWCOMER
    failures: int = 0
    judged: bool = False
    """Whether it has answered, failed or missed a deadline since its channel opened."""


@dataclass(slots=True)
class _Call:
    question: Question
    standing: Standing
    hangs: bool = field(default=False)


class GuestPace:
    """The pace of all guests of a host.

    Args:
        topics: what guests are asked for.
    """

    def __init__(self, topics: Collection[Topic]) -> None:
        self._topics = frozenset(topics)
        self._guests: dict[VmId, _Guest] = {}
        self._calls: dict[VmId, _Call] = {}
        self._queues: dict[Standing, list[tuple[float, int, VmId]]] = {standing: [] for standing in Standing}
        self._openings = 0

    # --- inputs -------------------------------------------------------------------------------------------------

    def opened(self, vm: VmId, now: float) -> None:
        """A guest's channel is open; nothing happens if that is known."""
        if vm in self._guests:
            return
        self._openings += 1
        guest = _Guest(self._openings, now, dict.fromkeys(self._topics, now))
        # Its package list can wait until it has booted.
        if Topic.APPS in guest.due:
            guest.due[Topic.APPS] = now + EAGER_S
        self._guests[vm] = guest
        self._queue(vm)

    def closed(self, vm: VmId) -> None:
        """A guest's channel has closed, or its life has ended. A call that goes on keeps its thread until it ends."""
        self._guests.pop(vm, None)

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget guests that are gone without a word."""
        for vm in [vm for vm in self._guests if vm not in present]:
            del self._guests[vm]

    def answered(self, question: Question, now: float) -> None:
        """A call has ended with an answer, be it that the guest knows nothing of a topic."""
        self._calls.pop(question.vm, None)
        guest = self._asked(question)
        if guest is None:
            return
        guest.standing, guest.failures, guest.judged = Standing.PROVEN, 0, True
        eager = now - guest.opened_at < EAGER_S
        for topic in question.topics:
            pause = EAGER_AGAIN_S if eager and topic is not Topic.APPS else SLOW_S[topic]
            guest.due[topic] = now + pause
        self._queue(question.vm)

    def failed(self, question: Question, now: float) -> None:
        """A call has ended without an answer."""
        self._calls.pop(question.vm, None)
        guest = self._asked(question)
        if guest is None:
            return
        guest.standing, guest.judged = Standing.SUSPECT, True
        guest.failures += 1
        eager = now - guest.opened_at < EAGER_S
        pause = EAGER_RETRY_S if eager else min(RETRY_S * 2.0 ** min(guest.failures - 1, 8), RETRY_MOST_S)
        self._put_off(question, guest, now + pause)

    def postponed(self, question: Question, now: float) -> None:
        """A call could not be made, or not at this time; the guest is not to blame."""
        self._calls.pop(question.vm, None)
        guest = self._asked(question)
        if guest is not None:
            guest.judged = True
            self._put_off(question, guest, now + POSTPONED_S)

    def hangs(self, question: Question) -> None:
        """A call has missed its deadline and goes on."""
        call = self._calls.get(question.vm)
        if call is not None and call.question == question:
            call.hangs, call.standing = True, Standing.SUSPECT
        guest = self._asked(question)
        if guest is not None:
            guest.standing, guest.judged = Standing.SUSPECT, True

    # --- outputs ------------------------------------------------------------------------------------------------

    def next(self, now: float) -> Question | None:
        """The call to make now, which counts as begun; None: none may be made."""
        best: tuple[float, int, VmId] | None = None
        for standing in self._with_room():
            head = self._head(standing)
            if head is not None and head[0] <= now and (best is None or head < best):
                best = head
        if best is None:
            return None
        vm = best[2]
        guest = self._guests[vm]
        heappop(self._queues[guest.standing])
        question = Question(vm, self._due_topics(guest, now), guest.opening)
        self._calls[vm] = _Call(question, guest.standing)
        return question

    def next_at(self) -> float | None:
        """When to ask ``next`` again, if nothing ends before; None: only an input brings anything."""
        heads = (self._head(standing) for standing in self._with_room())
        earliest = min((head[0] for head in heads if head is not None), default=inf)
        return None if earliest == inf else earliest

    def open(self, vm: VmId) -> bool:
        """Whether the guest's channel is open, as far as we were told."""
        return vm in self._guests

    def current(self, question: Question) -> bool:
        """Whether the channel that the question went through is still open."""
        guest = self._guests.get(question.vm)
        return guest is not None and guest.opening == question.opening

    def unjudged(self) -> bool:
        """Whether there is a guest that has neither answered nor failed yet."""
        return any(not guest.judged for guest in self._guests.values())

    def pending(self, vm: VmId) -> bool:
        """Whether this guest has neither answered nor failed yet."""
        guest = self._guests.get(vm)
        return guest is not None and not guest.judged

    def hanging(self) -> list[Question]:
        """Calls that have missed their deadline and have not ended."""
        return [call.question for call in self._calls.values() if call.hangs]

    # --- within -------------------------------------------------------------------------------------------------

    def _with_room(self) -> Iterator[Standing]:
        """Standings of which one more guest may be asked."""
        if len(self._calls) >= WIDTH:
            return
        yield Standing.PROVEN
        unproven = self._count(lambda call: call.standing is not Standing.PROVEN)
        if unproven < UNPROVEN:
            yield Standing.NEWCOMER
            if self._count(lambda call: call.standing is Standing.SUSPECT) < SUSPECTS:
                yield Standing.SUSPECT

    def _count(self, such: Callable[[_Call], bool]) -> int:
        return sum(map(such, self._calls.values()))

    def _asked(self, question: Question) -> _Guest | None:
        guest = self._guests.get(question.vm)
        if guest is None:
            return None
        if guest.opening != question.opening:
            # Its channel has opened anew while a call of before went on: now it may be asked.
            self._queue(question.vm)
            return None
        return guest

    def _put_off(self, question: Question, guest: _Guest, until: float) -> None:
        """Ask nothing before *until*."""
        for topic, at in guest.due.items():
            guest.due[topic] = max(until, at)
        self._queue(question.vm)

    def _queue(self, vm: VmId) -> None:
        guest = self._guests[vm]
        if vm not in self._calls:
            heappush(self._queues[guest.standing], (self._when(guest), guest.opening, vm))

    def _head(self, standing: Standing) -> tuple[float, int, VmId] | None:
        """The first of a queue that still holds: guests change their standing, close, or are being asked."""
        queue = self._queues[standing]
        while queue:
            at, opening, vm = queue[0]
            guest = self._guests.get(vm)
            if guest is not None and guest.opening == opening and guest.standing is standing and vm not in self._calls:
                when = self._when(guest)
                if when == at:
                    return queue[0]
                # What was due may not be asked now, or may be asked again.
                heappop(queue)
                heappush(queue, (when, opening, vm))
            else:
                heappop(queue)
        return None

    def _when(self, guest: _Guest) -> float:
        return min((at for topic, at in guest.due.items() if self._allowed(topic)), default=inf)

    def _due_topics(self, guest: _Guest, now: float) -> frozenset[Topic]:
        due = {topic for topic, at in guest.due.items() if at <= now + TOGETHER_S and self._allowed(topic)}
        # A package list takes long, and must not keep the rest waiting.
        return frozenset(due - {Topic.APPS} or due)

    def _allowed(self, topic: Topic) -> bool:
        return topic not in HANGABLE or self._count(lambda call: call.hangs) < WIDTH // 2
