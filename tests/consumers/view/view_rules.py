"""The view restarts from what its store has written, hosts are forgotten, and split brains last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.consumers.view.back_to_back import vm_number
from tests.consumers.view.question_rules import QuestionRules
from tests.consumers.view.situations import held_bodies
from tests.consumers.view.world import NUMBERS, TICK_S
from vmpulse_consumers.view import HostState, View
from vmpulse_consumers.view.claims import rank
from vmpulse_consumers.view.host import WIDTH, Host
from vmpulse_consumers.view.memory import OWNED, SPLIT, Kept, SectionMemory
from vmpulse_consumers.view.restoring import restoring
from vmpulse_consumers.view.rows import Freshness, vm_row
from vmpulse_consumers.view.splits import SPLIT_GRACE_S
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import BODIED
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import SECTION_OF_VERB

if TYPE_CHECKING:
    from vmpulse_consumers.view import Vm


class ViewRules(QuestionRules):
    """What becomes of the view and its memory."""

    # --- the store ----------------------------------------------------------------------------------------------

    @rule(count=st.integers(0, 3), fails=st.sampled_from([False, False, True]))
    def the_store_writes(self, count: int, fails: bool) -> None:  # noqa: FBT001 - a drawn value
        """Some of what has changed; on a failure the view is given back what was not written."""
        view = self.table.view
        self.take_batches()
        for batch in self.unwritten[:count]:
            self.shelf.put(batch)
        del self.unwritten[:count]
        if fails:
            for batch in self.unwritten:
                view.memory.again(batch)
            self.unwritten = []

    def take_batches(self) -> None:
        view = self.table.view
        while view.memory:
            self.unwritten.append(view.memory.drain(view.hosts, view.vms, view.runtime))

    @rule(clean=st.booleans(), written=st.integers(0, 3), away_s=st.sampled_from([0.0, 5.0, 40.0]))
    def the_view_restarts(self, clean: bool, written: int, away_s: float) -> None:  # noqa: FBT001 - a drawn value
        """V6: cleanly, with all that it knew; or killed, with what was written up to some moment."""
        old = self.table.view
        if clean:
            self.take_batches()
        for batch in self.unwritten if clean else self.unwritten[:written]:
            self.shelf.put(batch)
        self.unwritten = []
        self.all_hosts_tick(away_s)
        for host in self.table.hosts.values():
            host.queue.clear()
        self.place_view()
        kept = self.shelf.kept()
        list(restoring(self.table.view, kept, self.table.now))
        self.remembered = {host.id for host in self.known_hosts() if host.state is HostState.SYNCING}
        self.split = set(self.table.view.split)
        self.two = {vm: float("-inf") for vm in self.split}
        self.what_was_kept_is_there(kept)
        if clean:
            self.all_that_was_known_is_there(old)

    def what_was_kept_is_there(self, kept: Kept) -> None:
        """V6, V9: each VM where it was, as it was and stale, or Unknown; each body with its hash; nobody confirmed."""
        view, now = self.table.view, self.table.now
        for record in kept.hosts:
            host = view.hosts[HostId(record.host)]
            assert (host.vms, host.tokens) == (record.roster.vm_ids(), record.roster.start_tokens())
            for vm, status, mark in zip(host.vms, record.statuses, record.marks, strict=True):
                said = vm_row(view, now, view.vms[vm])
                assert (said.age_s, said.freshness is Freshness.FRESH) == (None, False)
                if view.vms[vm].owner is host:
                    assert said.status in {VmStatus(status).label, VmStatus.UNKNOWN.label}
                if mark & OWNED:
                    assert self.goes_on_owning(view.vms[vm], host)
                assert vm not in view.split or mark & SPLIT or len(view.vms[vm].claims) > 2
        for section in kept.sections:
            self.assert_held(section)
        assert all(VmId(left.vm) in view.vms for left in kept.transits)

    @staticmethod
    def goes_on_owning(vm: Vm, host: Host) -> bool:
        """Whether a VM is where it was, unless another claim is stronger."""
        owner = vm.owner
        return (
            owner is host
            or owner is None
            or rank(owner.claim_state(vm.id), owner) > rank(host.claim_state(vm.id), host)
        )

    def assert_held(self, section: SectionMemory) -> None:
        host = self.table.view.hosts.get(section.host)
        row = None if host is None else host.index.get(section.vm)
        if host is not None and row is not None:
            at = row * WIDTH + section.section
            # Of what was announced anew and not fetched, nobody can tell whether it is of an earlier life.
            assert host.held[at] == (section.hash if host.announced[at] == section.hash else 0)

    def all_that_was_known_is_there(self, old: View) -> None:
        """V6: after a clean stop nothing is forgotten, be it a VM, its place, a body or a retired epoch."""
        view = self.table.view
        assert view.vms.keys() == old.vms.keys()
        assert view.transits.keys() <= old.transits.keys()
        assert view.split.keys() == old.split.keys()
        for before in old.hosts.values():
            host = view.hosts[before.id]
            stays = before.state in {HostState.LOST, HostState.STOPPED}
            assert host.state is (before.state if stays else HostState.SYNCING)
            assert {before.epoch, *list(before.retired)[1:]} - {0} <= set(host.retired)
            assert (host.vms, host.tokens, host.announced) == (before.vms, before.tokens, before.announced)
            for at, hold in enumerate(zip(before.held, held_bodies(before), strict=True)):
                current = before.held[at] == before.announced[at]
                assert (host.held[at], held_bodies(host)[at]) == (hold if current else (0, None))
            for vm in before.vms:
                if old.vms[vm].owner is before:
                    assert self.goes_on_owning(view.vms[vm], host)
                said = view.runtime.status[host.block.start + host.index[vm]]
                assert said == old.runtime.status[before.block.start + before.index[vm]]

    @rule(number=NUMBERS, moved=st.sampled_from([True, True, False]), away_s=st.sampled_from([0.0, 5.0]))
    def the_view_restarts_while_all_is_well(self, number: int, moved: bool, away_s: float) -> None:  # noqa: FBT001 - a drawn value
        """Nothing that was held is asked for again, if it has not changed; moved: a VM has changed its host before."""
        self.all_is_well_for_a_while(TICK_S)
        if moved:
            self.a_vm_moves(number, start_first=False, leave=False, told=False)
            self.all_is_well_for_a_while(TICK_S)
            self.power_changes(number)
            self.all_is_well_for_a_while(TICK_S)
        self.the_view_restarts(clean=True, written=0, away_s=away_s)
        held = {
            (host.id, vm, section): host.held[row * WIDTH + section]
            for host in self.known_hosts()
            for vm, row in host.index.items()
            for section in BODIED
        }
        lives = {
            (host.id, vm): token for host in self.known_hosts() for vm, token in zip(host.vms, host.tokens, strict=True)
        }
        self.canary()
        self.the_view_asks()
        while self.asked:
            request = self.asked.pop(0)
            section = SECTION_OF_VERB.get(request.verb)
            host = self.table.view.hosts[request.host]
            for vm in () if section is None else request.vms:
                assert section is not None
                row = host.index[vm]
                unchanged = lives.get((host.id, vm)) == host.tokens[row]
                assert not (unchanged and host.announced[row * WIDTH + section] == held[host.id, vm, section])
            self.answer_one(request)
            self.the_view_asks()

    # --- people -------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS)
    def a_host_is_forgotten(self, number: int) -> None:
        """Somebody says of a host that is lost or stopped that it is no more; if it speaks, it is met anew."""
        host_id = self.host_of(number).id
        host = self.table.view.hosts.get(host_id)
        if host is None or host.state not in {HostState.LOST, HostState.STOPPED}:
            return
        self.table.view.forget(host_id, self.table.now)
        assert host_id not in self.table.view.hosts
        assert all(host not in vm.claims for vm in self.table.view.vms.values())
        pending = [*self.asked, *(reply.request for reply in self.replies), *self.forgotten]
        self.disowned |= {request.number for request in pending if request.host == host_id}
        self.seen.pop(host_id, None)
        self.spoke_at.pop(host_id, None)
        self.shown = self.shown.__class__(int, {key: at for key, at in self.shown.items() if key[0] != host_id})
        self.sampled = self.sampled.__class__(int, {key: at for key, at in self.sampled.items() if key[0] != host_id})
        self.table.confirmed = {key for key in self.table.confirmed if key[0] != host_id}

    @rule(number=NUMBERS, forgotten=st.booleans(), defined=st.booleans())
    def a_host_dies_for_long(self, number: int, forgotten: bool, defined: bool) -> None:  # noqa: FBT001 - drawn values
        """It is lost, and perhaps forgotten; perhaps one of its VMs is defined elsewhere meanwhile."""
        host = self.host_of(number)
        self.an_agent_stops(number, clean=False)
        for _ in range(5):
            self.all_is_well_for_a_while(4.0)
        if defined:
            for vm in host.domains:
                self.other_than(host).define_vm(vm)
            self.all_is_well_for_a_while(TICK_S)
        if forgotten:
            self.a_host_is_forgotten(number)

    # --- split brains -------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, silent=st.booleans(), restarts=st.booleans())
    def two_hosts_go_on_running_one_vm(self, number: int, silent: bool, restarts: bool) -> None:  # noqa: FBT001 - drawn
        """If both are heard all the time it is a split brain after the grace.

        It stays one if one falls silent, and over a restart of the view.
        """
        self.two_hosts_run_one_vm(number)
        whole = self.is_whole()
        # Whoever was silent before is met first, which takes up to two ticks of what follows.
        for _ in range(int(SPLIT_GRACE_S / 6) + 5 if whole else 2):
            self.all_is_well_for_a_while(6.0)
            # Written as it goes, so that what the restart below knows is what was marked for itself.
            self.the_store_writes(count=3, fails=False)
        if whole and all(host.state is HostState.LIVE for host in self.known_hosts()):
            assert vm_number(number) in self.table.view.split
        if silent:
            self.nobody_is_heard(16.0, canary=True)
            self.nobody_is_heard(16.0, canary=True)
        if restarts:
            self.the_view_restarts(clean=True, written=0, away_s=5.0)
