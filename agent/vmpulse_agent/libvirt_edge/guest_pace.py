"""Which guest is asked for what, and when: the pace of guest agent calls. No I/O, no clock: times are the caller's.

Rules of this file.
- Only guests whose channel is open are asked; one call at a time each.
- Eager at first: for two minutes after the channel has opened, all topics each 5 s until one question was answered,
  then each 10 s: addresses come late in a boot. Then slowly, each topic at its own pace.
- A call that misses its deadline *hangs*: it goes on and keeps its thread, for libvirt has no timeout for it that would
  not be kept in the domain. Its guest is not asked again before it has ended.
- A guest whose last call failed, or hung until it ended, is a *suspect*, asked ever more rarely until it answers in
  time. One that has neither answered nor failed yet is a *newcomer*.
- Of the threads in which nothing hangs two are left to those who have answered, and one to newcomers and suspects,
  whose turn is by when they are due; where only two are left, one each, and the very last is for those who have
  answered. So four that hang for ever keep nobody from being asked. Suspects take no more than two at a time, less the
  calls that hang, yet always one.
- No more than three calls at once, those that hang for whatever reason included, ask for what a guest can hang on
  without ill will: file systems (a dead NFS server) and package lists. So that alone never takes more than three.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vmpulse_contract.identity import VmId

WIDTH: Final = 6
"""Calls at once, each in a thread and on a connection of its own; of libvirtd's 20 workers looks may hold 12."""
PROVEN_ONLY: Final = 2
"""Of the threads in which nothing hangs: those left to guests that have answered."""
SUSPECTS: Final = 2
"""Calls to suspects at once, those that hang included; one may be made all the same."""
RISKY: Final = 3
"""Calls at once that ask for what can be hung on, those that hang included."""
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
    """When each topic is to be asked for."""
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

    def closed(self, vm: VmId) -> None:
        """A guest's channel has closed, or its life has ended. A call that goes on keeps its thread until it ends."""
        self._guests.pop(vm, None)

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget guests that are gone without a word."""
        for vm in [vm for vm in self._guests if vm not in present]:
            del self._guests[vm]

    def answered(self, question: Question, now: float) -> None:
        """A call has ended with an answer, be it that the guest knows nothing of a topic."""
        call = self._calls.pop(question.vm, None)
        guest = self._asked(question)
        if guest is None:
            return
        late = call is not None and call.hangs
        guest.standing, guest.failures, guest.judged = Standing.SUSPECT if late else Standing.PROVEN, 0, True
        eager = now - guest.opened_at < EAGER_S
        for topic in question.topics:
            pause = EAGER_AGAIN_S if eager and topic is not Topic.APPS else SLOW_S[topic]
            guest.due[topic] = now + pause

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
        _put_off(guest, now + pause)

    def postponed(self, question: Question, now: float) -> None:
        """A call could not be made, or not at this time; the guest is not to blame."""
        self._calls.pop(question.vm, None)
        guest = self._asked(question)
        if guest is not None:
            guest.judged = True
            _put_off(guest, now + POSTPONED_S)

    def hangs(self, question: Question) -> None:
        """A call has missed its deadline and goes on."""
        call = self._calls.get(question.vm)
        if call is not None and call.question == question:
            call.hangs = True
        guest = self._asked(question)
        if guest is not None:
            guest.standing, guest.judged = Standing.SUSPECT, True

    # --- outputs ------------------------------------------------------------------------------------------------

    def next(self, now: float) -> Question | None:
        """The call to make now, which counts as begun; None: none may be made."""
        first = self._first()
        if first is None or first[0] > now:
            return None
        vm = first[2]
        guest = self._guests[vm]
        question = Question(vm, self._due_topics(guest, now), guest.opening)
        self._calls[vm] = _Call(question, guest.standing)
        return question

    def next_at(self) -> float | None:
        """When to ask ``next`` again, if nothing ends before; None: only an input brings anything."""
        first = self._first()
        return None if first is None or first[0] == inf else first[0]

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

    def barred(self) -> frozenset[Topic]:
        """Topics that nobody is asked for, as too many calls hang or may hang on them."""
        return self._topics - self._allowed()

    def hanging(self) -> list[Question]:
        """Calls that have missed their deadline and have not ended."""
        return [call.question for call in self._calls.values() if call.hangs]

    # --- within -------------------------------------------------------------------------------------------------

    def _first(self) -> tuple[float, int, VmId] | None:
        """Who is to be asked next of those that may be, and when."""
        room, topics, calls = tuple(self._with_room()), self._allowed(), self._calls
        first: tuple[float, int, VmId] | None = None
        if not room:
            return None
        for vm, guest in self._guests.items():
            if guest.standing in room and vm not in calls:
                due = guest.due
                at = min([due[topic] for topic in topics], default=inf)
                if first is None or (at, guest.opening) < first:
                    first = (at, guest.opening, vm)
        return first

    def _with_room(self) -> Iterator[Standing]:
        """Standings of which one more guest may be asked."""
        live = Counter(call.standing for call in self._calls.values() if not call.hangs)
        hanging = len(self._calls) - live.total()
        threads = WIDTH - hanging
        if live.total() >= threads:
            return
        if live[Standing.PROVEN] < max(threads - 1, 1):
            yield Standing.PROVEN
        if live[Standing.NEWCOMER] + live[Standing.SUSPECT] < max(threads - PROVEN_ONLY, min(threads - 1, 1)):
            yield Standing.NEWCOMER
            if live[Standing.SUSPECT] < max(SUSPECTS - hanging, 1):
                yield Standing.SUSPECT

    def _asked(self, question: Question) -> _Guest | None:
        """The guest, unless its channel has opened anew while a call of before went on."""
        guest = self._guests.get(question.vm)
        return guest if guest is not None and guest.opening == question.opening else None

    def _due_topics(self, guest: _Guest, now: float) -> frozenset[Topic]:
        due = {topic for topic in self._allowed() if guest.due[topic] <= now + TOGETHER_S}
        # A package list takes long, and must not keep the rest waiting.
        return frozenset(due - {Topic.APPS} or due)

    def _allowed(self) -> frozenset[Topic]:
        """What may be asked for now."""
        risky = sum(1 for call in self._calls.values() if call.hangs or call.question.topics & HANGABLE)
        return self._topics if risky < RISKY else self._topics - HANGABLE


def _put_off(guest: _Guest, until: float) -> None:
    """Ask nothing before *until*."""
    for topic, at in guest.due.items():
        guest.due[topic] = max(until, at)
