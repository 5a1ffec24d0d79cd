"""Fleets: the same for the same seed, and as uneven as they should be."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from tests.simulator.stand import Clock, small_fleet
from vmpulse_agent.errors import HypervisorError
from vmpulse_contract.identity import VmId
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus
from vmpulse_simulator.fleet import Fleet


def described(fleet: Fleet) -> list[object]:
    """Everything about a fleet that the seed decides."""
    return [
        (
            hypervisor.host,
            hypervisor.uuid,
            vm,
            domain.name,
            domain.vcpus,
            domain.config(),
            domain.info(),
            domain.status(),
        )
        for hypervisor in fleet.hypervisors
        for vm, domain in hypervisor.domains.items()
    ]


def test_seed_decides_the_fleet() -> None:
    """Equal seeds give equal fleets, other seeds other VMs."""
    assert described(small_fleet(Clock())) == described(small_fleet(Clock()))
    other = small_fleet(Clock(), seed=2)
    assert not {vm for each in small_fleet(Clock()).hypervisors for vm in each.domains} & {
        vm for each in other.hypervisors for vm in each.domains
    }


def test_fleet_has_some_of_everything() -> None:
    """Wide and narrow VMs, running, paused and stopped ones, with and without an agent in the guest."""
    domains = [domain for each in small_fleet(Clock(), 10, 40).hypervisors for domain in each.domains.values()]
    assert len({domain.vm for domain in domains}) == 400
    assert {1, 2, 64} <= {domain.vcpus for domain in domains}
    assert {1, 0} == {domain.guest.agent for domain in domains}
    states = Counter(domain.life.status if domain.life else VmStatus.DOWN for domain in domains)
    assert states[VmStatus.UP] > 350
    assert states[VmStatus.DOWN]
    assert states[VmStatus.PAUSED]


def test_even_the_smallest_fleet_has_a_widest_vm() -> None:
    """The first VM has 64 CPUs, all busy."""
    (domain,) = small_fleet(Clock(), 1, 1).hypervisors[0].domains.values()
    assert domain.life is not None
    assert domain.life.load.user + domain.life.load.system == 64_000


def test_many_guests_share_their_applications() -> None:
    """A fleet has a few images: bodies are shared by many VMs."""
    fleet = small_fleet(Clock(), 5, 40)
    lists = [domain.guest_details() for each in fleet.hypervisors for domain in each.domains.values()]
    assert len({details.apps_list for details in lists if details}) < 20


def test_configuration_is_plausible_xml() -> None:
    """The configuration parses, names the VM and is as big as real ones."""
    for domain in small_fleet(Clock()).hypervisors[0].domains.values():
        xml = domain.config()
        root = ET.fromstring(xml)  # noqa: S314 - our own
        assert root.findtext("name") == domain.name
        assert root.findtext("vcpu") == str(domain.vcpus)
        assert 3_000 < len(xml) < 10_000


async def test_unknown_domain_cannot_be_read() -> None:
    """Reading a domain that is not there is an error, not an empty reading."""
    hypervisor = small_fleet(Clock()).hypervisors[0]
    with pytest.raises(HypervisorError):
        await hypervisor.read(VmId(bytes(16)), frozenset({Section.INFO}))


async def test_devices_and_host_statistics_are_whole() -> None:
    """Each running domain has counters, and the host's shares add up."""
    hypervisor = small_fleet(Clock()).hypervisors[0]
    sample, stats = await hypervisor.device_sample(), await hypervisor.host_stats()
    assert len(sample.domains) == stats.vm_active
    assert all(counters.disks and counters.network and counters.balloon for counters in sample.domains.values())
    assert (stats.cpu_user or 0) + (stats.cpu_sys or 0) + (stats.cpu_idle or 0) == pytest.approx(100, abs=0.2)
