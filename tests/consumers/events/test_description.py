"""Each event of the view as engine workers are told it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from vmpulse_consumers.events.description import describe, routing_key
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Teller
from vmpulse_consumers.view.events import (
    BrokerEvent,
    Event,
    HostEvent,
    HostTrouble,
    RelistEvent,
    Trouble,
    VmAppeared,
    VmGone,
    VmMigrated,
    VmSectionHeld,
    VmSplitBrain,
    VmStatusChanged,
)
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import limits, sections
from vmpulse_contract.fleet import CloudEvent
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, NetIface, Section
from vmpulse_contract.stream import Tombstone
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

VM = VmId(UUID(int=0xABC).bytes)
TEXT = str(UUID(bytes=VM))
ALPHA, BETA, GAMMA = HostId("alpha"), HostId("beta"), HostId("gamma")
DETAILS = GuestDetails(apps_list=("kernel-6",), net_ifaces=(NetIface(name="eth0", inet=("192.0.2.1",)),))
BODY = sections.encode(DETAILS)
END = Tombstone(VM, 7, ExitCode.ERROR, ExitReason.LOST_QEMU_CONNECTION, 5)
WEB = {"vm": TEXT, "name": "web-1", "host": "alpha"}

CASES: list[tuple[Event, str, str, dict[str, Any]]] = [
    (
        VmAppeared(VM, ALPHA, VmStatus.POWERING_UP, "web-1"),
        "vm.appeared.main.alpha." + TEXT,
        TEXT,
        {**WEB, "status": "Powering up"},
    ),
    (
        VmAppeared(VM, ALPHA, VmStatus.UP, None),
        "vm.appeared.main.alpha." + TEXT,
        TEXT,
        {"vm": TEXT, "host": "alpha", "status": "Up"},
    ),
    (
        VmStatusChanged(VM, ALPHA, VmStatus.UNKNOWN, VmStatus.UP, "web-1"),
        "vm.status.main.alpha." + TEXT,
        TEXT,
        {**WEB, "status": "Unknown", "previousStatus": "Up"},
    ),
    (
        VmStatusChanged(VM, ALPHA, VmStatus.DOWN, VmStatus.UP, "web-1", END),
        "vm.status.main.alpha." + TEXT,
        TEXT,
        {
            **WEB,
            "status": "Down",
            "previousStatus": "Up",
            "exitCode": "error",
            "exitReason": "lost_qemu_connection",
        },
    ),
    (
        VmSectionHeld(VM, ALPHA, Section.GUEST_DETAILS, 0xFF, BODY, "web-1"),
        "vm.section.main.alpha." + TEXT,
        TEXT,
        {
            **WEB,
            "section": "guestDetails",
            "hash": "00000000000000ff",
            "content": {"appsList": ["kernel-6"], "netIfaces": [{"name": "eth0", "inet": ["192.0.2.1"]}]},
        },
    ),
    (
        VmSectionHeld(VM, ALPHA, Section.CONFIG, 0xFF, None, "web-1"),
        "vm.section.main.alpha." + TEXT,
        TEXT,
        {**WEB, "section": "config", "hash": "00000000000000ff"},
    ),
    (
        VmMigrated(VM, ALPHA, BETA, "web-1"),
        "vm.migrated.main.alpha." + TEXT,
        TEXT,
        {**WEB, "previousHost": "beta"},
    ),
    (
        VmSplitBrain(VM, ALPHA, (ALPHA, BETA), begun=True),
        "vm.split_brain.main.alpha." + TEXT,
        TEXT,
        {"vm": TEXT, "host": "alpha", "hosts": ["alpha", "beta"]},
    ),
    (
        VmSplitBrain(VM, ALPHA, (), begun=False),
        "vm.split_brain_over.main.alpha." + TEXT,
        TEXT,
        {"vm": TEXT, "host": "alpha", "hosts": []},
    ),
    (VmGone(VM, ALPHA, None), "vm.gone.main.alpha." + TEXT, TEXT, {"vm": TEXT, "host": "alpha"}),
    (
        VmGone(VM, ALPHA, END),
        "vm.gone.main.alpha." + TEXT,
        TEXT,
        {"vm": TEXT, "host": "alpha", "exitCode": "error", "exitReason": "lost_qemu_connection"},
    ),
    (
        HostEvent(ALPHA, HostState.LOST, HostState.LATE),
        "host.lost.main.alpha",
        "alpha",
        {"host": "alpha", "state": "lost", "previousState": "late"},
    ),
    (BrokerEvent(back=True), "broker.back.main", "main", {}),
    (RelistEvent("it began"), "fleet.relist.main", "main", {"reason": "it began"}),
]


@pytest.mark.parametrize("event, key, subject, data", CASES)
def test_events_as_they_are_told(event: Event, key: str, subject: str, data: dict[str, Any]) -> None:
    """Type, subject, data and routing key of each kind of event; what is not known is not there."""
    teller = Teller("main", EventLog("ab12"))
    teller.tell([event])
    text = teller.log.read(0, events=1, size=1)[0].text
    told = msgspec.json.decode(text)
    assert told.pop("time")[-6:] == "+00:00"
    assert told == {
        "id": "ab12-1",
        "source": "/vmpulse/view/main",
        "type": ".".join(key.split(".")[:2]),
        "subject": subject,
        "data": data,
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    read = msgspec.json.decode(text, type=CloudEvent)
    assert routing_key("main", read) == key
    assert msgspec.json.decode(msgspec.json.encode(read.data)) == data


@pytest.mark.parametrize("state", HostState)
def test_only_states_with_a_type_are_told(state: HostState) -> None:
    """Each state of a host is told under its own name, but for the two in which nothing is known of it."""
    told = describe(HostEvent(ALPHA, state, HostState.UNKNOWN), "main")
    if state in {HostState.UNKNOWN, HostState.SYNCING}:
        assert told is None
    else:
        assert told is not None
        assert told.type == f"host.{state}"


def test_a_body_too_big_to_be_pushed_is_left_out() -> None:
    """Content beyond the limit of pushed bodies is absent; the hash says that it changed."""
    apps = tuple(f"package-{number:06}-{'x' * 200}" for number in range(400))
    body = sections.encode(GuestDetails(apps_list=apps))
    assert len(body) > limits.BODY_PUSH_BYTES.maximum
    told = describe(VmSectionHeld(VM, ALPHA, Section.GUEST_DETAILS, 5, body, None), "main")
    assert told is not None
    assert (told.data.content, told.data.hash) == (None, "0000000000000005")


def test_a_migration_concerns_both_hosts() -> None:
    """Whoever watches the host that a VM leaves is told of it as well."""
    told = describe(VmMigrated(VM, ALPHA, BETA, None), "main")
    assert told is not None
    assert told.hosts == (ALPHA, BETA)


@pytest.mark.parametrize("owner", [ALPHA, BETA, GAMMA])
def test_a_split_brain_concerns_all_who_run_the_vm_and_the_owner(owner: HostId) -> None:
    """Whoever watches one of the hosts that run the VM, or the one that is believed, is told of it once."""
    told = describe(VmSplitBrain(VM, owner, (ALPHA, BETA), begun=True), "main")
    assert told is not None
    assert (told.hosts[0], set(told.hosts), told.vm) == (owner, {ALPHA, BETA, owner}, VM)
    assert len(told.hosts) == len(set(told.hosts))


@pytest.mark.parametrize("trouble", Trouble)
def test_trouble_of_a_host_is_told_to_nobody(trouble: Trouble) -> None:
    """What only an operator can mend is logged, and is no fleet event."""
    assert describe(HostTrouble(ALPHA, trouble, "two agents speak for it"), "main") is None
