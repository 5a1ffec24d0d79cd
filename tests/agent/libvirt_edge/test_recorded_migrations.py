"""What a host says during migrations as libvirt really announces them."""

from __future__ import annotations

import pytest

from tests.agent.libvirt_edge.recorded_migrations import (
    ALL,
    BROKEN,
    DESTINATION,
    MOVED,
    SOURCE,
    STAYED,
    Recording,
    Told,
    replay,
)
from vmpulse_contract.values import ExitReason, VmStatus


def said(recording: Recording, host: str) -> list[VmStatus | None]:
    """The statuses that a host went through."""
    statuses = [told.status for told in replay(recording) if told.host == host]
    return [now for before, now in zip([object(), *statuses], statuses, strict=False) if now is not before]


def last(recording: Recording, host: str) -> Told:
    """What a host said last."""
    return [told for told in replay(recording) if told.host == host][-1]


@pytest.mark.parametrize("name", ALL)
def test_a_source_is_never_taken_for_a_destination(name: str) -> None:
    """It is a source from its first iteration to its end, also while it is paused for the last part."""
    assert VmStatus.MIGRATION_DESTINATION not in said(ALL[name], SOURCE)
    assert said(ALL[name], SOURCE)[:2] == [VmStatus.UP, VmStatus.MIGRATION_SOURCE]


@pytest.mark.parametrize("name", ALL)
def test_a_source_whose_job_cannot_be_asked_is_no_destination(name: str) -> None:
    """That it is paused for its migration says what it is."""
    told = [told.status for told in replay(ALL[name], answered=False) if told.host == SOURCE]
    assert VmStatus.MIGRATION_DESTINATION not in told


@pytest.mark.parametrize("name", ALL)
def test_an_incoming_domain_waits_and_then_is_a_destination(name: str) -> None:
    """Its process is set up before libvirt announces it: it waits for launch."""
    assert said(ALL[name], DESTINATION)[:2] == [VmStatus.WAIT_FOR_LAUNCH, VmStatus.MIGRATION_DESTINATION]


@pytest.mark.parametrize("name", MOVED)
def test_what_has_moved_is_up_there_and_has_left_here(name: str) -> None:
    """The source's end says that the migration succeeded."""
    assert last(MOVED[name], DESTINATION).status is VmStatus.UP
    end = last(MOVED[name], SOURCE).exit
    assert end is not None
    assert end.reason is ExitReason.MIGRATION_SUCCEEDED


@pytest.mark.parametrize("name", STAYED)
def test_a_failed_arrival_says_so(name: str) -> None:
    """However it ended, what was never let run has ended as a failed migration."""
    end = last(STAYED[name], DESTINATION).exit
    assert end is not None
    assert end.reason is ExitReason.MIGRATION_FAILED


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_post_copy_is_paused_here_and_runs_there(name: str) -> None:
    """And its end there is that of a post-copy migration, whoever ended it."""
    assert said(BROKEN[name], SOURCE)[-1] is VmStatus.PAUSED
    assert said(BROKEN[name], DESTINATION)[-2:] == [VmStatus.UP, None]
    end = last(BROKEN[name], DESTINATION).exit
    assert end is not None
    assert end.reason is ExitReason.POSTCOPY_MIGRATION_FAILED
