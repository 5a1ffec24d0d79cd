"""Bulk statistics and events to the port's values."""

from __future__ import annotations

import libvirt
import pytest

from tests.agent.libvirt_edge.recorded import ACTIVE_XML, DEVICES, HUNG, RUNNING
from vmpulse_agent.hypervisor import DomainLook, Exit
from vmpulse_agent.libvirt_edge import domain_xml, stats
from vmpulse_agent.libvirt_edge.bulk import Seen
from vmpulse_agent.libvirt_edge.evidence import Evidence
from vmpulse_agent.libvirt_edge.monitors import Monitors
from vmpulse_agent.libvirt_edge.stats import (
    BALLOON_OLD_S,
    Moment,
    Record,
    domain_look,
    memory_usage,
)
from vmpulse_agent.libvirt_edge.tokens import Life
from vmpulse_contract.identity import VmId
from vmpulse_contract.values import ExitCode, ExitReason, VmStatus

VM = VmId(bytes(range(16)))
LIFE = Life(7, 4711, 1_000_000_000)
NOW = Moment(12.5, 3_500_000_000, 1_800_000_000.0)


def look(given: dict[str, int], domain_id: int = 1, life: Life | None = LIFE) -> DomainLook:
    """One domain in one look, two and a half seconds after its start."""
    record = Record(VM, domain_id, "d", given)
    return domain_look(record, life, Evidence(), answered=True, moment=NOW)


def test_running_domain() -> None:
    """CPU from the counters, elapsed time from the process's start, memory unknown without a balloon driver."""
    assert look(RUNNING) == DomainLook(VM, 7, VmStatus.UP, 2500, 380000000, 170000000)


def test_inactive_domain() -> None:
    """Token 0, no CPU (libvirt gives its own there), and how it ended."""
    seen = look({**RUNNING, "state.state": 5, "state.reason": 2}, domain_id=-1, life=None)
    assert seen == DomainLook(VM, 0, VmStatus.DOWN, exit=Exit(ExitCode.NORMAL, ExitReason.ADMIN_SHUTDOWN))


def test_domain_that_is_being_started() -> None:
    """Its process is not known yet: no token that would have to change."""
    seen = look({"state.state": 3, "state.reason": 11}, life=None)
    assert (seen.token, seen.status) == (0, VmStatus.WAIT_FOR_LAUNCH)


def test_test_driver_record() -> None:
    """Bulk statistics with nothing but the state: unknown, and nobody failed to answer."""
    seen = look({"state.state": 1, "state.reason": 1}, life=Life(9))
    assert seen == DomainLook(VM, 9, VmStatus.UP)


@pytest.mark.parametrize("state", range(libvirt.VIR_DOMAIN_PMSUSPENDED + 2))
@pytest.mark.parametrize("reason", range(16))
@pytest.mark.parametrize("life", [LIFE, None])
def test_down_only_without_a_token(state: int, reason: int, life: Life | None) -> None:
    """An active domain has a process, which holds its disks: whatever its state, it is not Down."""
    seen = look({"state.state": state, "state.reason": reason}, life=life)
    assert seen.status is not VmStatus.DOWN
    assert (seen.token != 0) is (life is not None)


def test_active_and_shut_off_is_in_between() -> None:
    """Libvirt gives a domain its id before its state when it starts, and takes its process last when it ends."""
    shut_off = {"state.state": libvirt.VIR_DOMAIN_SHUTOFF, "state.reason": libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED}
    assert Record(VM, 1, "d", shut_off).starting
    assert not Record(VM, -1, "d", shut_off).starting
    assert look(shut_off, life=None).status is VmStatus.WAIT_FOR_LAUNCH
    assert look(shut_off).status is VmStatus.POWERING_DOWN


@pytest.mark.parametrize(
    "given,percent",
    [
        ({"balloon.available": 1000, "balloon.unused": 250}, 75),
        ({"balloon.available": 1000, "balloon.unused": 250, "balloon.usable": 600}, 40),
        ({"balloon.available": 1000, "balloon.unused": 5000}, 0),
        ({"balloon.available": 0, "balloon.unused": 0}, None),
        ({"balloon.available": 1000}, None),
        ({"balloon.current": 1000, "balloon.rss": 900}, None),
        ({"balloon.available": "1000", "balloon.unused": None}, None),
    ],
)
def test_memory_usage(given: dict[str, object], percent: int | None) -> None:
    """From the guest's own balloon statistics, which may say anything, or not at all."""
    assert memory_usage(given, NOW.wall_s) == percent


@pytest.mark.parametrize(
    "reported,percent",
    [
        (0, 75),
        (NOW.wall_s - BALLOON_OLD_S, 75),
        (NOW.wall_s - BALLOON_OLD_S - 1, None),
        (NOW.wall_s + 3600, 75),
    ],
)
def test_last_words_of_a_balloon_driver(reported: float, percent: int | None) -> None:
    """Libvirt repeats what a dead driver said: after two minutes it is unknown; a clock set back does no harm."""
    said = {"balloon.available": 1000, "balloon.unused": 250, "balloon.last-update": int(reported)}
    assert memory_usage(said, NOW.wall_s) == percent
    counters = stats.counters(Record(VM, 1, "d", said), LIFE, domain_xml.device_facts(ACTIVE_XML), NOW)
    assert (counters.memory is None) is (percent is None)
    if counters.memory is not None:
        assert counters.memory.reported == (int(reported) or None)


@pytest.mark.parametrize("missing", ["balloon.current", "balloon.maximum"])
def test_half_a_balloon_is_none(missing: str) -> None:
    """Without one of its two sizes nothing is told of a balloon, for an engine would reckon with the rest."""
    given = {name: value for name, value in DEVICES.items() if name != missing}
    counters = stats.counters(Record(VM, 1, "d", given), LIFE, domain_xml.device_facts(ACTIVE_XML), NOW)
    assert counters.balloon is None


def test_device_counters() -> None:
    """Counters by device, joined with the XML."""
    counters = stats.counters(Record(VM, 1, "d", DEVICES), LIFE, domain_xml.device_facts(ACTIVE_XML), NOW)
    (disk,) = counters.disks
    (card,) = counters.network
    assert (disk.name, disk.image_id, disk.read_bytes, disk.truesize) == ("vda", "disk-d0", 512, 200704)
    assert disk.apparentsize == 1048576
    assert (card.name, card.mac_addr, card.rx, card.rx_dropped) == ("vnet0", "52:54:00:c9:a7:5d", 86, 2)
    assert (card.sample_time, card.speed, card.state) == (12.5, None, None)
    assert counters.memory is None
    assert counters.balloon is not None
    assert (counters.balloon.balloon_cur, counters.balloon.balloon_max) == (16384, 32768)


def test_monitors() -> None:
    """Who gave and gives no more did not answer; who never gave is doubted only while a call is stuck."""
    monitors = Monitors()
    running, hung = Seen(Record(VM, 1, "d", RUNNING), LIFE), Seen(Record(VM, 1, "d", HUNG), LIFE)
    assert monitors.answered(hung, stuck=False)
    assert not monitors.answered(hung, stuck=True)
    assert monitors.answered(running, stuck=True)
    assert not monitors.answered(hung, stuck=False)
    # A daemon that was started anew numbers another life as it did this one.
    assert monitors.answered(hung._replace(life=LIFE._replace(token=8)), stuck=False)
    monitors.keep_only({(VM, 8)})
    assert monitors.answered(hung, stuck=False)
