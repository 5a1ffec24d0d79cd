"""How long it is told what a guest has said."""

from __future__ import annotations

from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
from vmpulse_agent.libvirt_edge.guest_memory import TOLD_PERIODS, GuestMemory
from vmpulse_agent.libvirt_edge.guest_pace import RETRY_MOST_S, SLOW_S, Topic
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import NetIface
from vmpulse_contract.verbs import DiskUsage

VM, OTHER = VmId(bytes(16)), VmId(bytes([1] * 16))
USERS, INTERFACES, USAGE = ("anna",), (NetIface(name="eth0"),), (DiskUsage(path="/"),)
ALL = GuestFacts(interfaces=INTERFACES, users=USERS, usage=USAGE, apps=("a-1",))
USERS_S = TOLD_PERIODS * SLOW_S[Topic.USERS]
INTERFACES_S = TOLD_PERIODS * SLOW_S[Topic.INTERFACES]
USAGE_S = TOLD_PERIODS * SLOW_S[Topic.FILE_SYSTEMS]
APPS_S = TOLD_PERIODS * SLOW_S[Topic.APPS]


def test_each_answer_is_told_for_ten_of_its_periods() -> None:
    """Not a moment longer; the sections change by all but how full file systems are."""
    memory = GuestMemory()
    assert memory.facts(VM) is None
    assert memory.heard(VM, ALL, 0.0)
    assert memory.lapse(USERS_S - 0.1) == []
    assert memory.facts(VM) == ALL
    assert memory.lapse(USERS_S) == [VM]
    assert memory.facts(VM) == ALL._replace(users=None)
    assert memory.lapse(INTERFACES_S) == [VM]
    assert memory.lapse(USAGE_S) == []
    assert memory.facts(VM) == GuestFacts(apps=("a-1",))
    assert memory.lapse(APPS_S) == [VM]
    assert memory.facts(VM) == GuestFacts()
    assert memory.lapse(10 * APPS_S) == []


def test_the_shortest_time_outlives_some_failures() -> None:
    """Two attempts at the longest pause, so that one lost question takes no value away."""
    assert USERS_S >= 2 * RETRY_MOST_S


def test_an_answer_renews_what_it_tells_of() -> None:
    """And nothing else: a guest that answers, but no more on one topic, does not say."""
    memory = GuestMemory()
    memory.heard(VM, ALL, 0.0)
    assert not memory.heard(VM, GuestFacts(users=USERS), INTERFACES_S - 1.0)
    assert memory.lapse(INTERFACES_S) == [VM]
    assert memory.facts(VM) == ALL._replace(interfaces=None)
    assert memory.heard(VM, GuestFacts(interfaces=INTERFACES), INTERFACES_S)
    assert memory.facts(VM) == ALL


def test_what_changes_the_sections() -> None:
    """The first answer, whatever it is, and others than before; not how full file systems are."""
    memory = GuestMemory()
    assert memory.heard(VM, GuestFacts(), 0.0)
    assert not memory.heard(VM, GuestFacts(usage=USAGE), 1.0)
    assert memory.heard(VM, GuestFacts(users=()), 2.0)
    assert not memory.heard(VM, GuestFacts(users=()), 3.0)


def test_time_in_which_nobody_is_to_blame_does_not_count() -> None:
    """Of one guest, or of all; what has been let go of does not come back by that."""
    memory = GuestMemory()
    for vm in (VM, OTHER):
        memory.heard(vm, ALL, 0.0)
    memory.excuse(VM, USERS_S)
    assert memory.lapse(USERS_S) == [OTHER]
    memory.excuse_all(INTERFACES_S)
    assert memory.lapse(INTERFACES_S) == []
    assert memory.facts(VM) == ALL
    assert memory.facts(OTHER) == ALL._replace(users=None)


def test_what_is_forgotten() -> None:
    """Guests whose channel has closed, and those that are gone."""
    memory = GuestMemory()
    for vm in (VM, OTHER):
        memory.heard(vm, ALL, 0.0)
    memory.forget(VM)
    assert memory.facts(VM) is None
    memory.keep_only({VM})
    assert memory.facts(OTHER) is None
    memory.excuse(OTHER, 1.0)
    assert memory.lapse(APPS_S) == []


def test_who_cannot_be_asked_is_excused() -> None:
    """While calls of others hang, what nobody is asked for is told on, but of those others."""
    memory = GuestMemory()
    for vm in (VM, OTHER):
        memory.heard(vm, ALL, 0.0)
    memory.excuse_topics({Topic.FILE_SYSTEMS}, 1.0, but=[OTHER])
    memory.lapse(USAGE_S)
    assert [memory.facts(vm) for vm in (VM, OTHER)] == [
        GuestFacts(usage=USAGE, apps=("a-1",)),
        GuestFacts(apps=("a-1",)),
    ]
