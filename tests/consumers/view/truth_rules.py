"""What happens on the hosts: to VMs, and to the agents."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.consumers.view.back_to_back import FAILED, MIGRATED, SimpleHost, vm_number
from tests.consumers.view.promises import Promises
from tests.consumers.view.said import DAMPING_S
from tests.consumers.view.world import NUMBERS, TICK_S
from vmpulse_contract.identity import VmId
from vmpulse_contract.values import VmStatus
from vmpulse_contract.verbs import HostStats

DAY_S = 86_400.0


class TruthRules(Promises):
    """The truth changes."""

    @rule(number=NUMBERS)
    def somebody_logs_in(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.user = self.new_word()

    @rule(number=NUMBERS)
    def an_application_changes(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.apps = (self.new_word(),)

    @rule(number=NUMBERS, announced=st.booleans())
    def a_migration_begins(self, number: int, announced: bool) -> None:  # noqa: FBT001 - a drawn value
        """The destination has it and does not run it; short ones never show that the source is one."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        domain = source.domains.get(vm)
        if domain is not None and domain.runs and not (vm in target.domains and target.domains[vm].token):
            domain.moving = VmStatus.MIGRATION_SOURCE if announced else None
            target.receive_vm(vm)

    @rule(number=NUMBERS, source_keeps_it=st.booleans())
    def a_migration_succeeds(self, number: int, source_keeps_it: bool) -> None:  # noqa: FBT001 - a drawn value
        """It runs on the destination, and the source's life of it has ended."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        if not self.is_arriving(vm, target):
            return
        target.domains[vm].moving = None
        target.domains[vm].user = source.domains[vm].user
        if source_keeps_it:
            source.stop_vm(vm, self.table.now, MIGRATED)
        else:
            source.undefine_vm(vm, self.table.now, MIGRATED)

    @rule(number=NUMBERS)
    def a_migration_fails(self, number: int) -> None:
        """It is gone from the destination, and runs on where it was."""
        vm, source = vm_number(number), self.place_of(number)
        target = self.other_than(source)
        if self.is_arriving(vm, target):
            target.undefine_vm(vm, self.table.now, FAILED)
            source.domains[vm].moving = None

    @staticmethod
    def is_arriving(vm: VmId, target: SimpleHost) -> bool:
        domain = target.domains.get(vm)
        return domain is not None and domain.moving is VmStatus.MIGRATION_DESTINATION and domain.token != 0

    @rule(number=NUMBERS)
    def power_changes(self, number: int) -> None:
        host, vm = self.place_of(number), vm_number(number)
        host.define_vm(vm)
        if host.domains[vm].token:
            host.stop_vm(vm, self.table.now)
        else:
            host.start_vm(vm)

    @rule(number=NUMBERS)
    def a_monitor_hangs_or_answers_again(self, number: int) -> None:
        if domain := self.place_of(number).domains.get(vm_number(number)):
            domain.answered = not domain.answered

    @rule(number=NUMBERS)
    def a_vm_comes_or_goes(self, number: int) -> None:
        host, vm = self.place_of(number), vm_number(number)
        if vm in host.domains:
            host.undefine_vm(vm, self.table.now)
        else:
            host.define_vm(vm)

    @rule(number=NUMBERS)
    def a_vm_is_defined_elsewhere_too(self, number: int) -> None:
        self.other_than(self.place_of(number)).define_vm(vm_number(number))

    @rule(number=NUMBERS, start_first=st.booleans(), leave=st.booleans(), told=st.booleans())
    def a_vm_moves(self, number: int, start_first: bool, leave: bool, told: bool) -> None:  # noqa: FBT001 - drawn values
        """To the other host, which takes it up before or after it ends here; told: all see the moment between."""
        host, vm = self.place_of(number), vm_number(number)
        target = self.other_than(host)
        for starts in (start_first, not start_first):
            if starts:
                target.define_vm(vm)
                target.start_vm(vm)
            elif vm in host.domains and leave:
                host.undefine_vm(vm, self.table.now)
            elif vm in host.domains:
                host.stop_vm(vm, self.table.now)
            if told:
                self.all_hosts_tick(0.3)

    @rule(number=NUMBERS)
    def two_hosts_run_one_vm(self, number: int) -> None:
        """A split brain, or what becomes one if it lasts."""
        vm, source = vm_number(number), self.place_of(number)
        other = self.other_than(source)
        for host in (source, other):
            domain = host.define_vm(vm)
            if not domain.token:
                host.start_vm(vm)
            domain.moving = None

    @rule(number=NUMBERS)
    def a_user_flaps(self, number: int) -> None:
        """Somebody logs in again and again, faster than changes are told."""
        host = self.place_of(number)
        for _ in range(3):
            self.somebody_logs_in(number)
            self.table.now += DAMPING_S / 10
            if self.lives(host):
                host.tick(self.table.now)

    @rule(number=NUMBERS, times=st.integers(1, 4))
    def looks_fail(self, number: int, times: int) -> None:
        """The hypervisor does not answer; frames go on, with older values."""
        host = self.host_of(number)
        for _ in range(times if self.lives(host) else 0):
            self.table.now += TICK_S
            host.fail_to_look(self.table.now)
            for session in host.sessions():
                session.tick(self.table.now)
            host.pump()

    @rule(number=NUMBERS)
    def statistics_of_a_host_cannot_be_read_or_can_again(self, number: int) -> None:
        held = self.host_of(number).held
        held.host = HostStats(cpu_user=1.0) if held.host is None else None

    # --- agents -------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, clean=st.booleans())
    def an_agent_stops(self, number: int, clean: bool) -> None:  # noqa: FBT001 - a drawn value
        host = self.host_of(number)
        if clean and self.lives(host):
            host.session.goodbye()
            host.pump()
        host.rival = None
        self.table.dead.add(host.id)

    @rule(number=NUMBERS, clean=st.booleans(), jump_s=st.sampled_from([None, 0.0, 3 * DAY_S, -3 * DAY_S]))
    def an_agent_restarts(self, number: int, clean: bool, jump_s: float | None) -> None:  # noqa: FBT001 - a drawn value
        """With what it kept of ended lives, over which the wall clock may have jumped, or without."""
        host = self.host_of(number)
        if jump_s is not None:
            host.keep_tombstones(self.table.now, jump_s)
        self.an_agent_stops(number, clean)
        self.table.dead.discard(host.id)
        host.begin(self.table.now, self.table.next_epoch())

    @rule(number=NUMBERS)
    def a_second_agent_takes_the_questions(self, number: int) -> None:
        host = self.host_of(number)
        if not self.lives(host):
            return
        old, rival = host.session, host.rival
        if rival is None:
            host.begin(self.table.now, self.table.next_epoch())
        else:
            host.session = rival
        host.rival = old
