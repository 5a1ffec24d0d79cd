"""Status, pause code and end of a domain, and the page that shows their tables.

Renew the page from the repository's root by

    python -c "from tests.agent.libvirt_edge.test_status import renew; renew()"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmpulse_agent.hypervisor import Exit
from vmpulse_agent.libvirt_edge import endings
from vmpulse_agent.libvirt_edge import status as table
from vmpulse_agent.libvirt_edge.endings import announced, remembered
from vmpulse_agent.libvirt_edge.evidence import Evidence, Role
from vmpulse_agent.libvirt_edge.status import pause_code, status
from vmpulse_contract.values import ExitCode, ExitReason, PauseCode, VmStatus

PAGE: Final = Path(__file__).parents[3] / "docs" / "status.md"
ROLES: Final = {
    None: "",
    Role.NONE: "no such job",
    Role.SOURCE: "source of a migration",
    Role.DESTINATION: "destination of a migration, not let run yet",
    Role.SAVING: "being saved",
    Role.RESTORING: "being restored",
}
LOST: Final = Exit(ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _statuses() -> str:
    rows = (
        (
            _names(rule.states),
            _names(rule.reasons),
            "a reboot goes on" if rule.rebooting else ROLES[rule.role],
            rule.status.label,
            rule.why,
        )
        for rule in table.RULES
    )
    return _table(("state", "reason", "evidence", "status", "remark"), rows)


def _pause_codes() -> str:
    rows = [(f"`{reason}`", code.value) for reason, code in table.PAUSE_CODES.items()]
    return _table(("reason", "pause code"), [*rows, ("any other", PauseCode.NOERR.value)])


def _exit(end: Exit) -> tuple[str, str, str]:
    return end.code.name, str(int(end.reason)), end.reason.name


def _endings() -> str:
    rows = ((_names(one.details), one.known, *_exit(one.exit)) for one in endings.ENDINGS)
    return _table(("detail of `STOPPED`", "known beside", "exit code", "", "exit reason"), rows)


def _remembered() -> str:
    rows = ((f"`{name}`", *_exit(end)) for name, end in endings.REMEMBERED.items())
    return _table(("remembered", "exit code", "", "exit reason"), rows)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "statuses": _statuses,
    "pause codes": _pause_codes,
    "endings": _endings,
    "remembered ends": _remembered,
}


def _parts(page: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end of {name} -->"
    before, rest = page.split(begin)
    shown, after = rest.split(end)
    return before + begin, shown, end + after


def renew() -> None:
    """Write the tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, rendered in TABLES.items():
        before, _, after = _parts(page, name)
        page = before + rendered() + after
    PAGE.write_text(page, encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_the_page_is_the_code(name: str) -> None:
    """Each table of the page is the one that decides."""
    assert _parts(PAGE.read_text(encoding="utf-8"), name)[1] == TABLES[name]()


def test_every_status_is_spoken_of() -> None:
    """All of VDSM's names stand on the page, also those that are never said."""
    page = PAGE.read_text(encoding="utf-8")
    assert [one.label for one in VmStatus if one.label not in page] == []


@pytest.mark.parametrize(
    "state,reason,role,expected",
    [
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, None, VmStatus.UP),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED, Role.RESTORING, VmStatus.UP),
        (libvirt.VIR_DOMAIN_BLOCKED, 0, None, VmStatus.UP),
        (libvirt.VIR_DOMAIN_RUNNING, 1, Role.SOURCE, VmStatus.MIGRATION_SOURCE),
        (libvirt.VIR_DOMAIN_RUNNING, 1, Role.SAVING, VmStatus.SAVING_STATE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, None, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, Role.SAVING, VmStatus.SAVING_STATE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR, None, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_DUMP, Role.NONE, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE, None, VmStatus.SAVING_STATE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, None, VmStatus.WAIT_FOR_LAUNCH),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN, None, VmStatus.POWERING_DOWN),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, None, VmStatus.WAIT_FOR_LAUNCH),
        (
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
            Role.DESTINATION,
            VmStatus.MIGRATION_DESTINATION,
        ),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, Role.SOURCE, VmStatus.MIGRATION_SOURCE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, Role.RESTORING, VmStatus.RESTORING_STATE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, Role.SAVING, VmStatus.SAVING_STATE),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, Role.NONE, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, Role.SOURCE, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 1, None, VmStatus.POWERING_DOWN),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, None, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, None, VmStatus.PAUSED),
        (libvirt.VIR_DOMAIN_NOSTATE, 0, None, VmStatus.UNKNOWN),
        (99, 99, None, VmStatus.UNKNOWN),
    ],
)
def test_status(state: int, reason: int, role: Role | None, expected: VmStatus) -> None:
    """State, reason and what events told."""
    assert status(state, reason, role) is expected


def test_a_reboot_shows_while_it_runs() -> None:
    """A reboot in progress is told of a running guest; whoever is paused or migrates meanwhile is that."""
    running, paused = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED
    assert status(running, 1, None, rebooting=True) is VmStatus.REBOOT_IN_PROGRESS
    assert status(running, 1, Role.SOURCE, rebooting=True) is VmStatus.MIGRATION_SOURCE
    assert status(paused, libvirt.VIR_DOMAIN_PAUSED_USER, None, rebooting=True) is VmStatus.PAUSED


@given(st.integers(0, 12), st.integers(-1, 20), st.none() | st.sampled_from(Role), st.booleans())
def test_only_evidence_moves_it_from_up(state: int, reason: int, role: Role | None, rebooting: bool) -> None:  # noqa: FBT001
    """A running domain is Up unless there is evidence; no state is ever Down or Powering up."""
    found = status(state, reason, role, rebooting)
    assert found not in {VmStatus.DOWN, VmStatus.POWERING_UP}
    if state == libvirt.VIR_DOMAIN_RUNNING and role in {None, Role.NONE} and not rebooting:
        assert found is VmStatus.UP


def test_every_rule_can_be_reached() -> None:
    """No row of the table is hidden by those above it."""
    reached = set()
    for rule in table.RULES:
        for state in map(table.number, rule.states):
            reasons = [table.number(f"{name}_{reason}") for name in rule.states for reason in rule.reasons] or [0]
            reached |= {rule for reason in reasons if status(state, reason, rule.role, rule.rebooting) is rule.status}
    assert reached == set(table.RULES)


def test_pause_code() -> None:
    """Present while paused, and derived from the state where no event was seen."""
    paused, running = libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_RUNNING
    io_error = libvirt.VIR_DOMAIN_PAUSED_IOERROR
    assert pause_code(running, 1, Evidence(pause_code=PauseCode.EIO)) is None
    assert pause_code(paused, libvirt.VIR_DOMAIN_PAUSED_USER, Evidence()) is PauseCode.NOERR
    assert pause_code(paused, libvirt.VIR_DOMAIN_PAUSED_USER, Evidence(pause_code=PauseCode.EIO)) is PauseCode.NOERR
    assert pause_code(paused, io_error, Evidence()) is PauseCode.EOTHER
    assert pause_code(paused, io_error, Evidence(pause_code=PauseCode.ENOSPC)) is PauseCode.ENOSPC
    assert pause_code(paused, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, Evidence()) is PauseCode.POSTCOPY


def test_remembered_end() -> None:
    """A restarted daemon does not remember: then nothing is said."""
    failed = Exit(ExitCode.ERROR, ExitReason.LIBVIRT_START_FAILED)
    assert remembered(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED) == failed
    assert remembered(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN) is None
    assert remembered(libvirt.VIR_DOMAIN_CRASHED, 0) == LOST


@pytest.mark.parametrize("name", ["SHUTDOWN", "DESTROYED", "CRASHED", "MIGRATED", "SAVED", "FROM_SNAPSHOT"])
def test_event_and_memory_say_the_same(name: str) -> None:
    """A tombstone does not depend on whether anybody heard the event, unless the event knows more."""
    said = announced(table.number(f"EVENT_STOPPED_{name}"), Evidence())
    assert said == remembered(libvirt.VIR_DOMAIN_SHUTOFF, table.number(f"SHUTOFF_{name}"))


def test_a_killed_process_is_remembered_as_crashed() -> None:
    """FAILED as an event is CRASHED as a state."""
    assert announced(libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, Evidence()) == LOST
    assert remembered(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED) == LOST
    assert announced(99, Evidence()) is None
