"""Who is asked when: bytes of no guest, no clock, only the rules."""

from __future__ import annotations

import pickle
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vmpulse_agent.libvirt_edge.guest_pace import (
    EAGER_AGAIN_S,
    EAGER_RETRY_S,
    EAGER_S,
    HANGABLE,
    RETRY_MOST_S,
    RISKY,
    SLOW_S,
    SUSPECTS,
    WIDTH,
    GuestPace,
    Question,
    Topic,
)
from vmpulse_contract.identity import VmId

ALL = frozenset(Topic)
USUAL = ALL - {Topic.APPS}


def vm(number: int) -> VmId:
    """A VM of this number."""
    return VmId(number.to_bytes(16, "big"))


def asked(pace: GuestPace, now: float) -> list[Question]:
    """All that may be asked now."""
    questions = []
    while (question := pace.next(now)) is not None:
        questions.append(question)
    return questions


def one(pace: GuestPace, now: float) -> Question:
    """The one thing that may be asked now."""
    (question,) = asked(pace, now)
    return question


def proven(count: int, topics: frozenset[Topic] = USUAL) -> GuestPace:
    """Guests that have answered once, at 0."""
    pace = GuestPace(topics)
    for number in range(count):
        pace.opened(vm(number), 0.0)
        pace.answered(one(pace, 0.0), 0.0)
    return pace


def test_an_open_channel_is_asked_at_once() -> None:
    """Everything at once, and one call at a time."""
    pace = GuestPace(USUAL)
    assert pace.next_at() is None
    pace.opened(vm(1), 10.0)
    assert pace.next_at() == 10.0
    assert pace.pending(vm(1))
    question = one(pace, 10.0)
    assert (question.vm, question.topics) == (vm(1), USUAL)
    assert pace.next_at() is None
    pace.answered(question, 10.1)
    assert not pace.pending(vm(1))


def test_eager_then_slow() -> None:
    """Each 10 s for two minutes; then each topic at its own pace, and no sooner."""
    pace, at = GuestPace(USUAL), 0.0
    pace.opened(vm(1), at)
    while at < EAGER_S:
        assert one(pace, at).topics == USUAL
        pace.answered(Question(vm(1), USUAL, 1), at)
        due = pace.next_at()
        assert due == at + EAGER_AGAIN_S or at >= EAGER_S
        at = due or at
    asked_at: dict[Topic, list[float]] = {topic: [] for topic in USUAL}
    while at < 2000.0:
        question = one(pace, at)
        for topic in question.topics:
            asked_at[topic].append(at)
        pace.answered(question, at)
        at = pace.next_at() or 0.0
    for topic, times in asked_at.items():
        gaps = {round(after - before) for before, after in pairwise(times[1:])}
        assert gaps == {round(SLOW_S[topic])}


def test_a_closed_channel_is_never_asked() -> None:
    """Not even if it was due; opened anew it is a newcomer, and eager again."""
    pace = proven(1)
    pace.closed(vm(0))
    assert asked(pace, 1e6) == []
    assert pace.next_at() is None
    pace.opened(vm(0), 1e6)
    assert one(pace, 1e6).topics == USUAL


def test_an_answer_of_before_is_not_one_of_now() -> None:
    """A call that outlives its channel keeps its thread; its end brings the new channel's first question."""
    pace = GuestPace(USUAL)
    pace.opened(vm(1), 0.0)
    old = one(pace, 0.0)
    pace.closed(vm(1))
    pace.opened(vm(1), 1.0)
    assert asked(pace, 2.0) == []
    assert not pace.current(old)
    pace.answered(old, 3.0)
    assert one(pace, 3.0).opening != old.opening


def test_failures_are_retried_ever_more_rarely() -> None:
    """Each 5 s while it boots, then up to two minutes apart; an answer makes good."""
    pace, at, pauses = GuestPace(USUAL), 0.0, []
    pace.opened(vm(1), at)
    for _ in range(40):
        pace.failed(one(pace, at), at)
        pauses.append((pace.next_at() or 0.0) - at)
        at += pauses[-1]
    assert pauses[0] == EAGER_RETRY_S
    assert pauses[-1] == RETRY_MOST_S
    assert pauses == sorted(pauses)
    pace.answered(one(pace, at), at)
    assert pace.next_at() == at + SLOW_S[Topic.USERS]


def hang(pace: GuestPace, count: int) -> None:
    """As many newcomers that hang for ever."""
    for number in range(100, 100 + count):
        pace.opened(vm(number), 0.0)
    for _ in range(count):
        question = pace.next(0.0)
        assert question is not None
        pace.hangs(question)


def answers(pace: GuestPace, of: int, begin: float, end: float) -> list[float]:
    """When a guest is asked in that time, if all that are asked answer, each second anew."""
    times, at = [], begin
    while at < end:
        for question in asked(pace, at):
            pace.answered(question, at)
            times += [at] if question.vm == vm(of) else []
        at += 1.0
    return times


def test_guests_that_hang_from_the_start_starve_nobody() -> None:
    """A hundred that never answer get no more than five threads; those that have answered are asked as ever."""
    pace = proven(10)
    for number in range(100, 200):
        pace.opened(vm(number), 1.0)
    for _ in range(10):
        for question in asked(pace, 1.0):
            pace.hangs(question)
    assert len(pace.hanging()) == WIDTH - 1
    times = answers(pace, 9, 10.0, 110.0)
    assert max(after - before for before, after in pairwise(times)) == EAGER_AGAIN_S
    times = answers(pace, 9, 200.0, 600.0)
    assert max(after - before for before, after in pairwise(times)) == SLOW_S[Topic.USERS]


def test_four_that_hang_keep_no_new_guest_from_being_asked() -> None:
    """Nor, from then on, does it go on being asked as others are."""
    pace = GuestPace(USUAL)
    hang(pace, WIDTH - 2)
    pace.opened(vm(9), 10.0)
    assert len(answers(pace, 9, 10.0, 110.0)) == 100 / EAGER_AGAIN_S
    assert len(pace.hanging()) == WIDTH - 2


def test_one_failure_does_not_silence_a_guest() -> None:
    """While others hang, one that fails once is asked again soon, and as ever once it answers."""
    for hanging in range(WIDTH - 1):
        pace = proven(1)
        hang(pace, hanging)
        pace.failed(one(pace, 200.0), 200.0)
        assert len(answers(pace, 0, 200.0, 500.0)) == 300 / SLOW_S[Topic.USERS] - 1, hanging


def test_suspects_and_newcomers_take_turns() -> None:
    """The one place that both share while four hang goes to whoever is due first."""
    pace = proven(1)
    hang(pace, WIDTH - 2)
    pace.failed(one(pace, 200.0), 200.0)
    for number in range(50, 60):
        pace.opened(vm(number), 225.0 + number / 10)
    turns = []
    for _ in range(11):
        question = one(pace, 235.0)
        turns.append(int.from_bytes(question.vm, "big"))
        pace.failed(question, 235.0)
    assert turns == [0, *range(50, 60)]


def test_who_answers_late_is_no_better_than_who_fails() -> None:
    """Those that answer only after their deadlines, again and again, leave places to the others."""
    pace = proven(5)
    for question in asked(pace, 200.0):
        pace.hangs(question)
        pace.answered(question, 230.0)
    assert len(asked(pace, 1000.0)) == SUSPECTS


def test_a_channel_that_toggles_costs_no_memory() -> None:
    """What is kept does not grow with the openings of a channel, also while nobody new may be asked."""
    pace = GuestPace(USUAL)
    hang(pace, WIDTH - 1)
    pace.opened(vm(9), 0.0)
    before = len(pickle.dumps(pace))
    for n in range(10_000):
        pace.closed(vm(9))
        pace.opened(vm(9), float(n))
    assert len(pickle.dumps(pace)) < before + 100


def test_dead_file_servers_take_half_the_threads_at_most() -> None:
    """All guests hang on their file systems at once; their users and addresses are asked for by the other threads."""
    pace = proven(20)
    for question in asked(pace, 500.0):
        if question.topics & HANGABLE:
            pace.hangs(question)
        else:
            pace.answered(question, 500.0)
    assert len(pace.hanging()) == RISKY
    at, told = 501.0, set[VmId]()
    while at < 600.0:
        for question in asked(pace, at):
            assert not question.topics & HANGABLE
            pace.answered(question, at)
            told.add(question.vm)
        at += 1.0
    assert len(told) == 20 - RISKY


def test_suspects_leave_room_for_newcomers() -> None:
    """Guests whose agents are dead are asked two at a time, so a new guest is not kept waiting by them."""
    pace = GuestPace(USUAL)
    for number in range(50):
        pace.opened(vm(number), 0.0)
    for _ in range(50):
        question = pace.next(0.0)
        assert question is not None
        pace.failed(question, 0.0)
    assert len(asked(pace, 1000.0)) == SUSPECTS
    pace.opened(vm(99), 1000.0)
    assert one(pace, 1000.0).vm == vm(99)


def test_five_that_answered_and_then_hang() -> None:
    """One thread is left, for what nobody hangs on without ill will; the others come back with an answer."""
    pace = proven(6)
    hung = asked(pace, 500.0)
    for question in hung:
        pace.hangs(question)
    assert len(hung) == WIDTH - 1
    last = one(pace, 500.0)
    assert not last.topics & HANGABLE
    pace.answered(last, 530.0)
    again = one(pace, 2000.0)
    assert not again.topics & HANGABLE
    for question in hung:
        pace.answered(question, 2000.0)
    pace.answered(again, 2000.0)
    assert {question.vm for question in asked(pace, 2400.0) if Topic.FILE_SYSTEMS in question.topics} != set()


def test_a_package_list_is_asked_for_alone() -> None:
    """And not while the guest boots."""
    pace = GuestPace(ALL)
    pace.opened(vm(1), 0.0)
    at, alone = 0.0, []
    while at < 1000.0:
        question = one(pace, at)
        assert Topic.APPS not in question.topics or question.topics == {Topic.APPS}
        if Topic.APPS in question.topics:
            alone.append(at)
        pace.answered(question, at)
        at = max(at, pace.next_at() or 0.0)
    assert EAGER_S <= alone[0] < EAGER_S + SLOW_S[Topic.USERS]
    assert len(alone) == 2


class Pacing(RuleBasedStateMachine):
    """Any order of events: bounds are kept, nobody is asked twice at once, nobody is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = GuestPace(ALL)
        self.now = 0.0
        self.open: set[VmId] = set()
        self.calls: dict[VmId, Question] = {}
        self.hung: set[VmId] = set()

    @rule(number=st.integers(0, 12))
    def opened(self, number: int) -> None:
        """A channel opens."""
        self.pace.opened(vm(number), self.now)
        self.open.add(vm(number))

    @rule(number=st.integers(0, 12))
    def closed(self, number: int) -> None:
        """A channel closes."""
        self.pace.closed(vm(number))
        self.open.discard(vm(number))

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 30.0, 300.0]))
    def passes(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def asked(self) -> None:
        """All that is due is asked."""
        while (question := self.pace.next(self.now)) is not None:
            assert question.vm in self.open
            assert question.vm not in self.calls
            assert question.topics
            self.calls[question.vm] = question

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["answered", "failed", "postponed", "hangs"]))
    def ends(self, data: st.DataObject, how: str) -> None:
        """A call ends in one way or another, or misses its deadline."""
        question = data.draw(st.sampled_from(sorted(self.calls.values())))
        if how == "hangs":
            self.pace.hangs(question)
            self.hung.add(question.vm)
            return
        getattr(self.pace, how)(question, self.now)
        del self.calls[question.vm]
        self.hung.discard(question.vm)

    @invariant()
    def bounded(self) -> None:
        """Never more calls than threads, and hung ones are known."""
        assert len(self.calls) <= WIDTH
        assert {question.vm for question in self.pace.hanging()} == self.hung
        risky = {question.vm for question in self.calls.values() if question.topics & HANGABLE}
        assert len(risky) <= RISKY

    def teardown(self) -> None:
        """Four may hang for ever: once the others' calls end, each open guest is asked within the longest pause."""
        left = sorted(self.hung)[: WIDTH - 2]
        for call in self.calls.values():
            if call.vm not in left:
                self.pace.failed(call, self.now)
        waiting, until = self.open - set(left), self.now + 700.0
        while waiting:
            assert self.now <= until, "somebody was forgotten"
            while (question := self.pace.next(self.now)) is not None:
                waiting.discard(question.vm)
                self.pace.answered(question, self.now)
            self.now = max(self.now, self.pace.next_at() or self.now) if waiting else self.now
            if waiting and self.pace.next_at() is None:
                raise AssertionError("nothing is due for somebody")


TestPacing = Pacing.TestCase
TestPacing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
