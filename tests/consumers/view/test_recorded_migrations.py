"""Migrations as libvirt really announces them, through two agents' sessions into the view."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.libvirt_edge.recorded_migrations import ALL, MOVED, SOURCE, STAYED, VM, Told, replay
from tests.consumers.view.back_to_back import SimpleHost, Table
from tests.consumers.view.situations import HOST, OTHER, live_table
from vmpulse_agent.endings import UNEXPLAINED
from vmpulse_agent.hypervisor import Exit
from vmpulse_consumers.view.events import VmGone, VmMigrated, VmStatusChanged
from vmpulse_contract.values import VmStatus

NEVER = {VmStatus.DOWN.label, VmStatus.UNKNOWN.label}


class Stage:
    """Two hosts that play a recording, and the view that hears them; VM 1 is the one that moves."""

    def __init__(self) -> None:
        self.table: Table = live_table(hosts=2)
        self.table.view.drain_events()
        self.began = self.table.now

    def play(self, told: Told) -> None:
        """One step on one host: its agent looks and says what has changed."""
        table, host = self.table, self.table.hosts[HOST if told.host == SOURCE else OTHER]
        table.now = max(table.now, self.began + told.at_ms / 1000)
        self._bring_up(host, told)
        host.look(table.now)
        for session in host.sessions():
            session.wake(table.now)
            session.tick(table.now)
        host.pump()

    def _bring_up(self, host: SimpleHost, told: Told) -> None:
        domain, end = host.domains.get(VM), told.exit or UNEXPLAINED
        if told.status is None:
            if domain is not None:
                host.undefine_vm(VM, self.table.now, Exit(*end))
            return
        if told.status is VmStatus.DOWN:
            if domain is not None and domain.token:
                host.stop_vm(VM, self.table.now, Exit(*end))
            return
        if domain is None or not domain.token:
            host.receive_vm(VM)
        host.domains[VM].moving = None if told.status is VmStatus.UP else told.status

    def hear(self, host: str) -> None:
        """The view hears one host's messages, or asks what it has to."""
        queue = self.table.hosts[HOST if host == SOURCE else OTHER].queue
        while queue:
            self.table.receive(queue.popleft())
            self.check()
        self.table.answer()
        self.check()

    def check(self) -> None:
        """The VM has at most one owner, is somewhere, and is neither Down nor Unknown."""
        row = self.table.row(1)
        assert row.status not in NEVER
        assert sum(claim.owner for claim in row.claims) == (0 if VM in self.table.view.transits else 1)

    def end(self) -> tuple[str, str]:
        """All is heard and time goes on: where the VM is then, and what it does."""
        for host in (SOURCE, "destination"):
            self.hear(host)
        self.table.step()
        self.check()
        row = self.table.row(1)
        return row.host, row.status


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(late=st.lists(st.sampled_from(["", SOURCE, "destination", "both"]), min_size=20, max_size=20))
def test_a_recorded_migration_has_one_owner_whatever_is_heard_late(name: str, late: list[str]) -> None:
    """Messages of either host may be heard some steps late: the VM is never Down, and ends where it runs."""
    stage = Stage()
    for told, withheld in zip(replay(ALL[name]), late, strict=False):
        stage.play(told)
        for host in (SOURCE, "destination"):
            if withheld not in {host, "both"}:
                stage.hear(host)
    where = (OTHER, "Up") if name in MOVED else (HOST, "Paused")
    if name in STAYED:
        assert stage.end()[0] == HOST
    else:
        assert stage.end() == where
    _assert_told(stage, moved=name in MOVED)


def _assert_told(stage: Stage, *, moved: bool) -> None:
    """Subscribers were told no Down, and of one move if it has moved."""
    told = [event for event in stage.table.view.drain_events() if getattr(event, "vm", None) == VM]
    assert not any(isinstance(event, VmGone) for event in told)
    assert not any(isinstance(event, VmStatusChanged) and event.status.label in NEVER for event in told)
    assert not moved or [event.host for event in told if isinstance(event, VmMigrated)] in ([OTHER], [])
