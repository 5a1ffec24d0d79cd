"""Deliberate bugs of the protocol: each breaks one rule of the view or of the agent's session, for as long as it lasts.

They are context managers over the classes of the cores. That each is caught by the state machine is test_mutants.py's
affair: a rule whose breach nobody notices is tested by nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import msgspec

from vmpulse_agent.change_schedule import ChangeSchedule
from vmpulse_agent.hypervisor import Look
from vmpulse_agent.ledger import Ledger
from vmpulse_agent.session import Session
from vmpulse_consumers.view import View, claims, memory, restoring, rows, splits
from vmpulse_consumers.view.claims import Standing, is_heard
from vmpulse_consumers.view.host import WIDTH, Host
from vmpulse_consumers.view.ownership import TRANSIT_S
from vmpulse_consumers.view.placement import Placement
from vmpulse_consumers.view.states import HostInput, HostState
from vmpulse_consumers.view.telling import Telling
from vmpulse_contract import roster_change
from vmpulse_contract.sections import BODIED
from vmpulse_contract.values import VmStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

MUTANTS: Final[list[Callable[[], AbstractContextManager[None]]]] = []


def mutant(function: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Make a context manager of it, and list it."""
    made = contextmanager(function)
    MUTANTS.append(made)
    return made


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Put what *make* makes of a method, or of any other attribute, in its place."""
    with patch.object(owner, name, make(getattr(owner, name))):
        yield


# --- words that are too old ---------------------------------------------------------------------------------------


@mutant
def a_section_reply_ignores_its_as_of() -> Iterator[None]:
    """Whatever comes last wins."""

    def make(right: Any) -> Any:
        def announce(host: Host, vm: Any, section: Any, value: int, as_of: int) -> bool:
            row = host.index.get(vm)
            if row is not None:
                host.section_as_of[row * WIDTH + section] = 0
            return bool(right(host, vm, section, value, max(as_of, host.roster_as_of)))

        return announce

    with replaced(Host, "announce", make):
        yield


@mutant
def a_roster_reply_ignores_its_as_of() -> Iterator[None]:
    """An answer that is older than the roster held replaces it."""

    def make(right: Any) -> Any:
        def relisted(view: View, host: Host, reply: Any, request: Any, now: float) -> None:
            if reply.epoch == host.epoch:
                reply = msgspec.structs.replace(reply, as_of=max(reply.as_of, host.roster_as_of))
            right(view, host, reply, request, now)

        return relisted

    with replaced(View, "_relisted", make):
        yield


@mutant
def a_reply_advances_seq() -> Iterator[None]:
    """Messages that the reply has overtaken are then taken for repeats."""

    def make(right: Any) -> Any:
        def relisted(view: View, host: Host, reply: Any, request: Any, now: float) -> None:
            right(view, host, reply, request, now)
            host.seq = max(host.seq, reply.as_of)

        return relisted

    with replaced(View, "_relisted", make):
        yield


@mutant
def repeats_are_applied() -> Iterator[None]:
    """A message that is given again counts again."""

    def admit(host: Host, seq: int) -> int:
        host.seq = seq
        return 0

    with patch.object(Host, "admit", admit):
        yield


# --- who is the live agent ----------------------------------------------------------------------------------------


@mutant
def a_retired_epoch_is_believed() -> Iterator[None]:
    """What an earlier agent has left in the queue is applied."""

    def make(right: Any) -> Any:
        def admit(view: View, host_id: Any, epoch: int, seq: int, now: float) -> Host | None:
            host = view.hosts.get(host_id)
            epoch = host.epoch if host is not None and epoch in host.retired and host.epoch else epoch
            admitted: Host | None = right(view, host_id, epoch, seq, now)
            return admitted

        return admit

    with replaced(View, "_admit", make):
        yield


@mutant
def the_stream_confirms_an_epoch() -> Iterator[None]:
    """Whoever speaks is taken for the live agent, without a question."""

    def make(right: Any) -> Any:
        def stranger(view: View, host: Host, epoch: int, seq: int, now: float) -> None:
            right(view, host, epoch, seq, now)
            host.adopt(epoch, now)

        return stranger

    with replaced(View, "_stranger", make):
        yield


@mutant
def a_remembered_epoch_counts_as_confirmed() -> Iterator[None]:
    """After its restart the view goes on as if no agent could have been restarted meanwhile."""

    def make(right: Any) -> Any:
        def host_of(view: View, record: Any, now: float) -> Host:
            host: Host = right(view, record, now)
            host.epoch = record.epoch
            return host

        return host_of

    with replaced(restoring, "_host", make):
        yield


# --- what frames are held to --------------------------------------------------------------------------------------


@mutant
def the_layout_is_not_checked() -> Iterator[None]:
    """A frame is read by a roster that is not its own."""

    def make(right: Any) -> Any:
        def frame(view: View, host_id: Any, said: Any, now: float) -> None:
            host = view.hosts.get(host_id)
            right(view, host_id, msgspec.structs.replace(said, layout=host.layout) if host else said, now)

        return frame

    with replaced(View, "_frame", make):
        yield


@mutant
def the_digest_is_not_compared() -> Iterator[None]:
    """A lost change is never noticed."""

    def make(right: Any) -> Any:
        def frame(view: View, host_id: Any, said: Any, now: float) -> None:
            host = view.hosts.get(host_id)
            right(view, host_id, msgspec.structs.replace(said, digest=host.own_digest()) if host else said, now)

        return frame

    with replaced(View, "_frame", make):
        yield


@mutant
def ages_count_from_the_reply() -> Iterator[None]:
    """The way of an answer makes every age too young."""

    def make(right: Any) -> Any:
        return lambda host, monotonic_ms, _sent_at, now: right(host, monotonic_ms, now, now)

    with replaced(Host, "measure", make):
        yield


@mutant
def a_difference_is_applied_whatever_its_base() -> Iterator[None]:
    """Who has missed a difference takes the next one all the same."""

    def make(right: Any) -> Any:
        def roster_change(view: View, host_id: Any, said: Any, now: float) -> None:
            held = view.hosts[host_id].layout if host_id in view.hosts else said.change.base
            based = msgspec.structs.replace(said.change, base=held)
            right(view, host_id, msgspec.structs.replace(said, change=based), now)

        return roster_change

    with replaced(View, "_roster_change", make):
        yield


@mutant
def the_ends_in_a_difference_are_not_taken() -> Iterator[None]:
    """A VM that has migrated away counts as stopped, until a whole roster comes."""

    def make(right: Any) -> Any:
        return lambda base, change: right(base, msgspec.structs.replace(change, tombstones=()))

    with replaced(roster_change, "applied", make):
        yield


# --- bodies -------------------------------------------------------------------------------------------------------


@mutant
def a_hash_is_held_without_its_body() -> Iterator[None]:
    """What was announced counts as held."""

    def make(right: Any) -> Any:
        def replace_roster(host: Host, *args: Any) -> None:
            right(host, *args)
            for row in range(len(host.vms)):
                for section in BODIED:
                    at = row * len(host.announced) // len(host.vms) + section
                    host.held[at] = host.held[at] or host.announced[at]

        return replace_roster

    with replaced(Host, "replace_roster", make):
        yield


@mutant
def bodies_outlive_their_life() -> Iterator[None]:
    """A VM that was started anew keeps what was held of the life before."""

    def make(right: Any) -> Any:
        def carry(host: Host, vm: Any, old: Any) -> None:
            tokens = old.tokens[:]
            tokens[old.rows[vm]] = host.tokens[host.index[vm]]
            right(host, vm, old._replace(tokens=tokens))

        return carry

    with replaced(Host, "_carry", make):
        yield


# --- whose word is believed ---------------------------------------------------------------------------------------


@mutant
def a_down_claim_takes_over_from_a_lost_host() -> Iterator[None]:
    """Silence is taken for an end."""
    with patch.dict(claims.SUCCESSION, {(Standing.RUNNING_SILENT, Standing.DOWN): True}):
        yield


@mutant
def a_clock_of_ours_ends_a_transit() -> Iterator[None]:
    """Who was seen nowhere for half a minute is given up."""

    def make(right: Any) -> Any:
        def tell_transits(placement: Placement, now: float) -> None:
            for vm in list(placement.transits.values()):
                if vm.transit is not None and now - vm.transit.since > TRANSIT_S:
                    placement._give_up(vm, vm.transit.host, now)
            right(placement, now)

        return tell_transits

    with replaced(Placement, "tell_transits", make):
        yield


@mutant
def a_migrated_vm_counts_as_stopped() -> Iterator[None]:
    """The reason of a tombstone is not read."""
    with patch.object(Placement, "_over", staticmethod(lambda *_: None)):
        yield


@mutant
def a_split_brain_has_no_grace() -> Iterator[None]:
    """Each migration is one."""
    with patch.object(splits, "SPLIT_GRACE_S", 0.0):
        yield


@mutant
def silence_ends_a_split_brain() -> Iterator[None]:
    """Who is not heard is taken not to run it."""

    def make(right: Any) -> Any:
        return lambda self, vm, host: is_heard(host) and right(self, vm, host)

    def judged(right: Any) -> Any:
        def tick(self: Any, now: float) -> None:
            for vm in list(self.split.values()):
                self.judge(vm, now)
            right(self, now)

        return tick

    with replaced(splits.Splits, "_runs", make), replaced(splits.Splits, "tick", judged):
        yield


# --- silence ------------------------------------------------------------------------------------------------------


@mutant
def lost_means_down() -> Iterator[None]:
    """What is not heard is said to be dead."""

    def make(right: Any) -> Any:
        return lambda view, host, row, now: (
            VmStatus.DOWN if host.state is HostState.LOST else right(view, host, row, now)
        )

    with replaced(rows, "status_of", make):
        yield


@mutant
def silence_counts_beyond_the_canary() -> Iterator[None]:
    """Trouble of the broker is held against hosts."""

    def make(right: Any) -> Any:
        return lambda view, host, _proven, now: right(view, host, now, now)

    with replaced(View, "_judge_silence", make):
        yield


@mutant
def there_is_no_grace_after_trouble() -> Iterator[None]:
    """Hosts that need a while to come back are late or lost at once."""
    with patch("vmpulse_consumers.view.view.GRACE_S", 0.0):
        yield


# --- memory and events --------------------------------------------------------------------------------------------


@mutant
def a_remembered_owner_is_forgotten() -> Iterator[None]:
    """After the view's restart whoever comes first owns a VM."""

    def make(right: Any) -> Any:
        return lambda view, host, marks, owned: right(view, host, bytes(mark & ~memory.OWNED for mark in marks), owned)

    with replaced(restoring, "_claim", make):
        yield


@mutant
def a_split_brain_is_forgotten() -> Iterator[None]:
    """After the view's restart two that run a VM are doubted anew."""
    with patch.object(splits.Splits, "remember", lambda *_: None):
        yield


@mutant
def a_split_brain_is_not_kept() -> Iterator[None]:
    """The store is never told of it."""

    def make(right: Any) -> Any:
        def become(self: splits.Splits, vm: Any, given: Any, now: float) -> None:
            self._memory, kept = memory.Memory(), self._memory
            try:
                right(self, vm, given, now)
            finally:
                self._memory = kept

        return become

    with replaced(splits.Splits, "_become", make):
        yield


@mutant
def a_new_body_is_not_kept() -> Iterator[None]:
    """The store is never told of it, and it is fetched again after each restart."""
    with patch.object(memory.Memory, "section", lambda *_: None):
        yield


@mutant
def a_change_of_owner_is_not_told() -> Iterator[None]:
    """Subscribers look for the VM where it was."""

    def make(right: Any) -> Any:
        def told(self: Telling, vm: Any, now: float) -> None:
            moved = vm.told_host is not None and vm.owner is not None and vm.owner is not vm.told_host
            if moved and vm.told_status is self._status(vm, now):
                vm.told_host = vm.owner
            right(self, vm, now)

        return told

    with replaced(Telling, "vm", make):
        yield


@mutant
def a_goodbye_is_not_heard() -> Iterator[None]:
    """Who has stopped goes on being asked, and is lost in the end."""

    def make(right: Any) -> Any:
        def step(view: View, host: Host, given: HostInput, now: float) -> None:
            right(view, host, HostInput.HEARD if given is HostInput.GOODBYE else given, now)

        return step

    with replaced(View, "_step", make):
        yield


# --- the agent ----------------------------------------------------------------------------------------------------


@mutant
def the_agent_forgets_damping() -> Iterator[None]:
    """Each change is told at once."""

    def changed(schedule: ChangeSchedule, key: Any, now: float) -> bool:
        schedule._due_at[key] = now
        return False

    with patch.object(ChangeSchedule, "changed", changed):
        yield


@mutant
def the_agent_counts_an_old_digest() -> Iterator[None]:
    """A change that was told is missing from the next frame's digest, and from the roster."""
    with patch.object(Ledger, "touched", lambda _: None):
        yield


@mutant
def a_failed_look_has_seen_nothing() -> Iterator[None]:
    """That nobody could look is taken for an empty host."""
    with patch.object(Session, "look_failed", lambda session, now: session.looked(Look(now, []), now)):
        yield
