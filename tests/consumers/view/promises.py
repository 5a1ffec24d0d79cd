"""The promises of the view, and two of the agent, as invariants of the state machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis.stateful import invariant

from tests.consumers.view.situations import held_bodies
from tests.consumers.view.world import TICK_S, Seen, World
from vmpulse_consumers.view import BrokerEvent, Host, HostEvent, HostState
from vmpulse_consumers.view.claims import RUNS
from vmpulse_consumers.view.host import LOST_S, SLACK_S, WIDTH
from vmpulse_consumers.view.rows import VmRow, vm_row
from vmpulse_consumers.view.runtime import UNKNOWN_8, UNKNOWN_32
from vmpulse_consumers.view.splits import SPLIT_GRACE_S
from vmpulse_consumers.view.view import FORGOTTEN_S, GRACE_S
from vmpulse_contract import sections
from vmpulse_contract.devices import DeviceRecord
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import BODIED, Section
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from vmpulse_contract.identity import HostId

HEARD = {HostState.LIVE, HostState.LATE}
ROUNDING_S = 0.002
"""Agent clocks travel in whole milliseconds, and rows round to them."""


class Promises(World):
    """What holds at every step, whatever happens."""

    # --- time, watched ------------------------------------------------------------------------------------------

    def watched(self) -> None:
        """Called whenever the view was given something.

        So that a VM which one epoch drops and a rival's late reply lists again has not lost its values.
        """
        self.silence_counts_only_where_messages_would_come_through()
        self.nothing_goes_back()
        self.two_that_run_a_vm_for_long_are_a_split_brain()

    def canary(self) -> None:
        """Our canary, if the broker takes it."""
        if not self.table.broker.up:
            return
        now = self.table.now
        self.nothing_goes_back()
        self.table.view.canary(now)
        self.proved_at = now
        if self.unheard:
            self.unheard, self.graced_from = False, now
        self.silence_counts_only_where_messages_would_come_through()

    def view_ticks(self) -> None:
        """Time alone ends no transit and no claim (V3), and a split brain is told once its grace is over."""
        view, now = self.table.view, self.table.now
        before = {vm.id: (vm.owner, vm.transit) for vm in view.vms.values()}
        view.tick(now)
        self.what_is_remembered_stands_until_silence_is_proved()
        self.silence_counts_only_where_messages_would_come_through()
        assert before == {vm.id: (vm.owner, vm.transit) for vm in view.vms.values()}
        self.two_that_run_a_vm_for_long_are_a_split_brain()
        late = {vm for vm, since in self.doubted.items() if now - since > SPLIT_GRACE_S}
        assert all(vm in view.split for vm in late if len(self.running_on(vm, heard=True)) > 1)

    def what_is_remembered_stands_until_silence_is_proved(self) -> None:
        """V6, V9: for 15 s that canaries have proved, not counting the grace; what is hidden once stays so."""
        if self.table.view.broker_ok and self.proved_at - self.graced_from >= LOST_S:
            self.remembered.clear()
        for host in self.known_hosts():
            if host.state is HostState.SYNCING and not host.confirmed:
                assert host.heard(self.table.now) is (host.id in self.remembered)
            else:
                self.remembered.discard(host.id)

    def step(self) -> None:
        self.table.now += TICK_S
        self.canary()
        self.view_ticks()
        self.silence_counts_only_where_messages_would_come_through()
        self.table.step(0.0)
        self.nothing_goes_back()

    # --- promises -----------------------------------------------------------------------------------------------

    def known_hosts(self) -> list[Host]:
        return list(self.table.view.hosts.values())

    @invariant()
    def nothing_goes_back(self) -> None:
        """V2: within an epoch what is applied only rises, and never beyond what the stream has brought."""
        for host in self.known_hosts():
            assert host.seq <= self.table.delivered[host.id, host.epoch]
            assert not host.epoch or (host.id, host.epoch) in self.table.confirmed
            before = self.seen.get(host.id)
            running = {
                vm: token
                for vm, token, status in zip(host.vms, host.tokens, self.statuses(host), strict=True)
                if token and status != UNKNOWN_8
            }
            self.seen[host.id] = Seen(host.epoch, host.seq, host.roster_as_of, running)
            if before is None:
                continue
            if host.epoch == before.epoch:
                assert host.seq >= before.seq
                assert host.roster_as_of >= before.roster_as_of
                if host.seq > before.seq:
                    self.spoke_at[host.id] = self.table.now
            elif before.epoch:
                assert before.epoch in host.retired
            assert host.epoch not in host.retired
            for token, status in zip(host.tokens, self.statuses(host), strict=True):
                assert status == UNKNOWN_8 or (status == VmStatus.DOWN) == (token == 0), "a status of another life"
            for vm in before.running.keys() & host.index.keys():
                assert before.running[vm] != host.tokens[host.index[vm]] or vm in running, "a value was lost"

    def statuses(self, host: Host) -> list[int]:
        return [int(code) for code in self.table.view.runtime.status[host.block.start :][: len(host.vms)]]

    @invariant()
    def hashes_come_in_the_order_they_were_announced(self) -> None:
        """V2: the announced hashes that the view holds are a subsequence of what the epoch has announced."""
        for host in self.known_hosts():
            if not host.confirmed:
                continue  # what is remembered was held to it when the view began
            said = self.table.hosts[host.id].said.hashes
            for row, vm in enumerate(host.vms):
                for section in Section:
                    history, key = said[host.epoch, vm, section], (host.id, host.epoch, vm, section)
                    value = host.announced[row * WIDTH + section]
                    assert value in history[self.shown[key] :], "an older hash was put over a newer one"
                    self.shown[key] = history.index(value, self.shown[key])

    @invariant()
    def only_rosters_say_who_is_there(self) -> None:
        """V3, V6: the VMs held of a host are those of a roster of its epoch, and all of them are in the view."""
        view = self.table.view
        for host in self.known_hosts():
            if host.confirmed:
                said = self.table.hosts[host.id].said.rosters[host.epoch, host.roster_as_of]
                assert frozenset(host.vms) in said
            assert host.block.size == len(host.vms)
            assert all(vm in view.vms for vm in host.vms)

    @invariant()
    def each_vm_has_one_owner_among_its_claims(self) -> None:
        """V4: each host that lists a VM claims it, one of them owns it, and none but an active one if there is any."""
        for vm in self.table.view.vms.values():
            assert Counter(vm.claims) == Counter(host for host in self.known_hosts() if vm.id in host.index)
            assert (vm.owner is None) == (vm.transit is not None) == (vm.id in self.table.view.transits)
            if vm.owner is None:
                # Whoever has listed it as active meanwhile has sent no frame since.
                assert all(host.frame_seq <= host.roster_as_of for host in vm.claims if vm.active_on(host))
                continue
            assert vm.owner in vm.claims
            assert vm.active_on(vm.owner) or not any(map(vm.active_on, vm.claims))
        owners = Counter(vm.owner for vm in self.table.view.vms.values())
        assert all(host.owned == owners[host] for host in self.known_hosts())

    @invariant()
    def a_held_hash_has_its_body(self) -> None:
        """V5: a held hash is stored with its body or not at all; the bytes held of a host are those of its bodies."""
        for host in self.known_hosts():
            assert host.held_bytes == sum(len(body) for body in held_bodies(host) if body is not None)
            for row in range(len(host.vms)):
                for section in BODIED:
                    held, body = host.held[row * WIDTH + section], host.body(row, section)
                    assert (held == 0) == (body is None)
                    assert body is None or sections.section_hash(section, body) == held

    @invariant()
    def a_life_is_not_described_by_the_one_before(self) -> None:
        """The pid in the info held is of no older life than is listed; a newer one's roster may have been lost."""
        for row, host in self.rows():
            if row.sections is not None and row.sections.info is not None and row.sections.info.pid is not None:
                assert row.sections.info.pid >= host.tokens[host.index[VmId(bytes.fromhex(row.id.replace("-", "")))]]

    def rows(self) -> list[tuple[VmRow, Host]]:
        view = self.table.view
        return [
            (vm_row(view, self.table.now, vm, with_sections=True), vm.owner)
            for vm in view.vms.values()
            if vm.owner is not None
        ]

    @invariant()
    def no_running_vm_is_said_to_be_down(self) -> None:
        """V4: Down is said of a VM only where its owner lists it as Down, whatever has arrived of a new life."""
        for row, host in self.rows():
            token = host.tokens[host.index[VmId(bytes.fromhex(row.id.replace("-", "")))]]
            assert row.status != VmStatus.DOWN.label or token == 0

    @invariant()
    def who_is_not_heard_is_unknown(self) -> None:
        """V6: the VMs of a host that is lost, long stopped or long unconfirmed are Unknown, never Down."""
        for row, host in self.rows():
            silent = host.state is HostState.LOST or (
                host.state not in HEARD and self.table.now - max(host.confirmed_at, self.last_word_of(host)) >= LOST_S
            )
            if silent:
                assert (row.status, row.freshness) == (VmStatus.UNKNOWN.label, "unknown")

    def last_word_of(self, host: Host) -> float:
        """When it was heard last; what is remembered of it counts as long as it may be shown."""
        if host.id in self.remembered and not host.confirmed:
            return self.table.now
        return self.spoke_at.get(host.id, float("-inf"))

    @invariant()
    def no_age_is_too_young(self) -> None:
        """V7: the age said of a VM is never below the true age of what is shown of it, which is what was sent."""
        view = self.table.view
        for host in self.known_hosts():
            frame = self.table.hosts[host.id].said.frames.get((host.epoch, host.frame_seq), {})
            for row, vm in enumerate(host.vms):
                if view.vms[vm].owner is not host or host.frame_ms is None:
                    continue
                at, said = host.block.start + row, vm_row(view, self.table.now, view.vms[vm])
                if view.runtime.stats_age[at] == UNKNOWN_32:
                    assert said.age_s is None
                    continue
                assert said.mem_usage == frame[vm].mem_usage
                assert said.age_s is None or said.age_s >= self.table.now - frame[vm].sampled_at - ROUNDING_S

    @invariant()
    def device_statistics_are_what_was_said(self) -> None:
        """V2, V7: what is held of a life's devices was said of it in this epoch, goes on, and is never too young."""
        for host in self.known_hosts():
            for vm, token in zip(host.vms, host.tokens, strict=True):
                held = host.devices.of(vm, token)
                if held is None:
                    continue
                stats = held.stats
                assert DeviceRecord(token, stats) in self.table.hosts[host.id].said.devices[host.epoch, vm]
                sampled = (stats.disks or {})["vda"].read_bytes or 0
                assert sampled >= self.sampled[host.id, host.epoch, vm]
                self.sampled[host.id, host.epoch, vm] = sampled
                age = host.age(held.monotonic_ms, self.table.now)
                assert age is None or age >= self.table.now - sampled / 1000 - ROUNDING_S

    @invariant()
    def silence_counts_only_where_messages_would_come_through(self) -> None:
        """V9: a host is late or lost only by a silence that canaries have proved, not counting the grace."""
        events = self.table.view.drain_events()
        for event in events:
            self.subscriber.take(event)
        for event in events:
            if isinstance(event, BrokerEvent) and event.back:
                self.graced_from = self.table.now + GRACE_S
            if not isinstance(event, HostEvent):
                continue
            if event.state in HEARD and event.was not in HEARD:
                # What it said before its silence proves nothing of the time since: the grace begins anew.
                returned = self.table.view.hosts.get(event.host)
                listed = set() if returned is None else returned.index.keys()
                self.doubted = {vm: self.table.now if vm in listed else at for vm, at in self.doubted.items()}
            silent = self.proved_at - max(self.spoke_at.get(event.host, float("-inf")), self.graced_from)
            if event.state is HostState.LOST:
                assert silent > LOST_S
            elif event.state is HostState.LATE:
                assert silent > 2 * TICK_S + SLACK_S

    @invariant()
    def a_subscriber_knows_what_the_view_says(self) -> None:
        """V8: the events, in order, add up to what a reader of the view finds."""
        self.silence_counts_only_where_messages_would_come_through()
        self.subscriber.assert_knows(self.table.view, self.table.now)

    @invariant()
    def each_host_is_asked_one_thing_at_a_time(self) -> None:
        """What the view believes to be under way is under way, once for each host, and nothing else is."""
        view, pending = self.table.view, [*self.asked, *(reply.request for reply in self.replies), *self.forgotten]
        held = [host.in_flight for host in view.hosts.values() if host.in_flight is not None]
        assert view.asking.in_flight == len(held)
        assert all(request in pending for request in held)
        recent = [
            request
            for request in pending
            if self.table.now - request.sent_at <= FORGOTTEN_S and request.number not in self.disowned
        ]
        assert all(request in held for request in recent)

    def running_on(self, vm: VmId, *, heard: bool) -> list[HostId]:
        """The hosts that say, by a frame of the roster held, that they run a VM."""
        view = self.table.view
        return [
            host.id
            for host in self.known_hosts()
            if (row := host.index.get(vm)) is not None
            and host.tokens[row]
            and int(view.runtime.status[host.block.start + row]) in RUNS
            and (host.state in HEARD or not heard)
        ]

    @invariant()
    def two_that_run_a_vm_for_long_are_a_split_brain(self) -> None:
        """Only such are, after the grace, and one that falls silent ends none: only what the two say does."""
        view, now = self.table.view, self.table.now
        running = {vm: self.running_on(vm, heard=False) for vm in view.vms}
        heard = {vm for vm, hosts in running.items() if len(hosts) > 1 and len(self.running_on(vm, heard=True)) > 1}
        two = {vm for vm, hosts in running.items() if len(hosts) > 1}
        self.two = {vm: self.two.get(vm, now) for vm in two}
        self.doubted = {vm: since for vm, since in self.doubted.items() if vm in two}
        for vm in heard:
            self.doubted.setdefault(vm, now)
        split = set(view.split)
        # One message may bring a host back and take it away again: then it was heard, if only for that moment.
        assert all(now - self.two[vm] > SPLIT_GRACE_S for vm in split)
        assert self.split & two <= split
        self.split = split

    @invariant()
    def agents_keep_to_what_they_saw(self) -> None:
        """A2, A4: what the last look showed is listed, and no section is told twice within its damping."""
        for host in self.table.hosts.values():
            assert not host.said.hurried
            if self.lives(host):
                assert all(host.looked[session.epoch] <= session.ledger.rows.keys() for session in host.sessions())
