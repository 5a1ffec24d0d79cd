"""What chaos calls wrong, on timelines by hand: a view that could know better is wrong, any other is not."""

from __future__ import annotations

from typing import Any

import pytest

from benches.chaos.fates import Fates, Life, Listed
from benches.chaos.judging import BACK_S, DOUBLE_OWNER, EARLY_S, SLACK_S, WRONG_DOWN, WRONG_LOST, Judge
from vmpulse_consumers.view.host import LOST_S
from vmpulse_simulator.truth import Seen

VM, OTHER = "vm", "other"
A, B = "host-a", "host-b"
ON_A, ON_B = Life(A, 1, 10.0), Life(B, 2, 50.0)


def row(vm: str, host: str, status: str = "Up", age_s: float | None = 0.5) -> dict[str, Any]:
    """A row of the API."""
    return {"id": vm, "host": host, "status": status} | ({} if age_s is None else {"age_s": age_s})


class Case:
    """A truth, and a judge of what is said about it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.unattended: set[str] = set()
        self.fates = Fates()
        self.judge = Judge(self.fates)
        self.true((VM, A, ON_A))

    def true(self, *listed: tuple[str, str, Life | None]) -> None:
        """Let this be all that the hosts have now."""
        self.fates.note((Listed(*each) for each in listed), self.unattended, self.now)

    def said(self, at: float, *rows: dict[str, Any]) -> list[str]:
        """The rules that a walk breaks."""
        return [wrong.rule for wrong in self.judge.vms([Seen(at, each) for each in rows])]

    def hosts(self, at: float, state: str, host: str = A) -> list[str]:
        """The rules that a host's row breaks."""
        return [wrong.rule for wrong in self.judge.hosts([{"host": host, "state": state, "silent_s": 16.0}], at)]


# --- down -----------------------------------------------------------------------------------------------------------


def test_who_was_told_of_a_run_must_not_say_down() -> None:
    """Once a frame of the run was applied, Down is wrong, and so is not to list the VM."""
    case = Case()
    assert case.said(20, row(VM, A)) == []
    assert case.said(21, row(VM, A, "Down")) == [WRONG_DOWN]
    assert case.said(22) == [WRONG_DOWN]


def test_who_does_not_know_may_say_unknown() -> None:
    """A host that is silent has Unknown VMs, which is never wrong."""
    case = Case()
    case.said(20, row(VM, A))
    assert case.said(60, row(VM, A, "Unknown", 40.0)) == []


def test_who_was_not_told_yet_may_say_what_was() -> None:
    """However long the VM has been running: the view is cut off, and its rows say so by their age."""
    case = Case()
    assert case.said(40, row(VM, A, "Down", 40 - ON_A.began)) == []
    assert case.said(41, row(VM, A, "Down", 41 - ON_A.began)) == []


def test_a_frame_of_the_same_moment_is_no_evidence() -> None:
    """Ages are rounded, so a frame must be younger than the life by some slack."""
    case = Case()
    case.said(20, row(VM, A, "Down", 20 - ON_A.began - SLACK_S / 2))
    assert case.said(21, row(VM, A, "Down", 21 - ON_A.began)) == []


def test_another_vm_of_the_host_is_evidence_too() -> None:
    """A frame tells of all VMs of its host."""
    case = Case()
    case.true((VM, A, ON_A), (OTHER, A, None))
    case.said(20, row(VM, A, "Down", 15.0), row(OTHER, A, "Down"))
    assert case.said(21, row(VM, A, "Down", 15.0), row(OTHER, A, "Down")) == [WRONG_DOWN]


def test_a_walk_is_not_judged_by_what_came_after_its_first_page() -> None:
    """The evidence of a walk counts from the next one on."""
    case = Case()
    assert case.said(20, row(VM, A, "Down", 15.0), row(VM + "z", A)) == [DOUBLE_OWNER]  # the other was never there


def test_down_is_right_when_the_run_is_over() -> None:
    """A VM that was stopped is Down, also if it has begun another run that the view was not told of."""
    case = Case()
    case.said(20, row(VM, A))
    case.true((VM, A, None))
    assert case.said(30, row(VM, A, "Down")) == []
    case.true((VM, A, Life(A, 3, 31.0)))
    assert case.said(32, row(VM, A, "Down", 2.0)) == []
    case.said(40, row(VM, A))
    assert case.said(41, row(VM, A, "Down")) == [WRONG_DOWN]


def test_a_stop_and_start_between_two_notes_is_another_run() -> None:
    """Another start token without a migration in between: the VM was stopped meanwhile, and the view may have heard."""
    case = Case()
    case.said(20, row(VM, A))
    case.true((VM, A, Life(A, 3, 25.0)))
    assert case.said(26, row(VM, A, "Down", 1.5)) == []


def test_a_run_goes_on_over_a_migration() -> None:
    """Whoever was told of the run at its source must not say Down, wherever the VM is now."""
    case = Case()
    case.said(20, row(VM, A))
    case.true((VM, A, ON_A), (VM, B, ON_B))
    case.true((VM, A, None), (VM, B, ON_B))
    assert case.said(51, row(VM, A, "Migration Source", None)) == []
    assert case.said(52, row(VM, A, "Down")) == [WRONG_DOWN]


@pytest.mark.parametrize("killed_later", [False, True])
def test_an_end_that_no_agent_saw_looks_like_any_end(killed_later: bool) -> None:  # noqa: FBT001 - a parameter
    """The source was without its agent, or lost it before that had kept anything; the destination is still evidence."""
    case = Case()
    case.said(20, row(VM, A))
    case.true((VM, A, ON_A), (VM, B, ON_B))
    case.unattended, case.now = set() if killed_later else {A}, 50.0
    case.true((VM, A, None), (VM, B, ON_B))
    if killed_later:
        assert case.said(51, row(VM, A, "Down")) == [WRONG_DOWN]
        case.fates.unseen({A}, since=49.0)
    assert case.said(52, row(VM, A, "Down")) == []
    assert case.said(53) == []
    case.said(54, row(VM, B))
    assert case.said(55) == [WRONG_DOWN]


def test_an_end_that_was_seen_long_ago_stays_seen() -> None:
    """What an agent has kept it tells of, also when it is killed later."""
    case = Case()
    case.said(20, row(VM, A))
    case.true((VM, A, ON_A), (VM, B, ON_B))
    case.now = 50.0
    case.true((VM, A, None), (VM, B, ON_B))
    case.fates.unseen({A}, since=51.0)
    assert case.said(52, row(VM, A, "Down")) == [WRONG_DOWN]


def test_another_view_knows_nothing_at_first() -> None:
    """A view that was started again has been told of nothing yet."""
    case = Case()
    case.said(20, row(VM, A))
    case.judge.view_ended()
    assert case.said(21) == []
    assert case.said(22, row(VM, A, "Down", None)) == []


# --- owner ----------------------------------------------------------------------------------------------------------


def test_two_rows_and_strange_hosts_are_wrong() -> None:
    """A VM has one row, on a host that has it or has had it."""
    case = Case()
    case.true((VM, A, None), (VM, B, ON_B))
    case.true((VM, B, ON_B))
    assert case.said(60, row(VM, B)) == []
    assert case.said(61, row(VM, A, "Migration Source", None)) == []
    assert case.said(62, row(VM, A), row(VM, B)) == [DOUBLE_OWNER]
    assert case.said(63, row(VM, "host-c")) == [DOUBLE_OWNER]


@pytest.mark.parametrize("owners, broken", [((), []), ((A,), []), ((A, B), [DOUBLE_OWNER])])
def test_two_owners_are_wrong(owners: tuple[str, ...], broken: list[str]) -> None:
    """Of all claims on a VM at most one is the owner's."""
    claims = [{"host": host, "owner": host in owners} for host in (A, B)]
    assert [wrong.rule for wrong in Case().judge.claims(VM, {"claims": claims})] == broken


# --- lost -----------------------------------------------------------------------------------------------------------


def test_a_well_host_is_never_lost() -> None:
    """Whatever happens to others, a host that was not broken itself must not be lost; it may be late."""
    case = Case()
    case.judge.broken([B], 100.0)
    assert case.hosts(130, "late") == []
    assert case.hosts(130, "lost") == [WRONG_LOST]
    assert case.hosts(130, "lost", B) == []


def test_a_broken_host_is_lost_after_its_silence_and_until_it_is_back() -> None:
    """It is lost neither before the silence can have lasted long enough, nor long after it was healed."""
    case = Case()
    case.judge.broken([A], 100.0)
    assert case.hosts(100 + LOST_S - EARLY_S - 0.1, "lost") == [WRONG_LOST]
    assert case.hosts(100 + LOST_S, "lost") == []
    case.judge.healed(120.0)
    assert case.hosts(120 + BACK_S, "lost") == []
    assert case.hosts(120 + BACK_S + 0.1, "lost") == [WRONG_LOST]


def test_each_fault_counts_by_itself() -> None:
    """A host that was broken again may be lost again."""
    case = Case()
    for began in (100.0, 200.0):
        case.judge.broken([A], began)
        case.judge.healed(began + 20)
    assert case.hosts(180, "lost") == [WRONG_LOST]
    assert case.hosts(220, "lost") == []


def test_what_is_wrong_is_said_with_the_truth() -> None:
    """The words name who, what was said and what was true."""
    case = Case()
    case.said(20, row(VM, A))
    (wrong,) = case.judge.vms([Seen(21, row(VM, A, "Down"))])
    assert str(wrong) == (
        "wrong_down: vm: said Down on host-a, age 0.5 s; in truth active on host-a since 10.0 s (told as of 19.5 s)"
    )
    case.judge.broken([A], 100.0)
    (lost,) = case.judge.hosts([{"host": A, "state": "lost", "silent_s": 2.0}], 103.0)
    assert str(lost) == "wrong_lost: host-a: said lost, silent for 2.0 s; in truth broken from 100.0 s to now"
