"""The golden host's VMs as today's agent finds them when it takes the host over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tests.contract import golden_life as life
from tests.contract.golden_messages import INFO, STATUS, TOKEN_A, TOKEN_B, A, B
from vmpulse_contract.identity import HostId, VmId
from vmpulse_contract.sections import GuestDetails, Info, Section, Status
from vmpulse_simulator.domain import SimulatedDomain
from vmpulse_simulator.hypervisor import SimulatedHypervisor
from vmpulse_simulator.lots import Lots

CONFIG_A = b"<domain type='kvm'><name>web</name></domain>"
CONTENTS_A: Mapping[Section, Any] = {Section.INFO: INFO, Section.CONFIG: CONFIG_A, Section.STATUS: STATUS}
CONTENTS_B: Mapping[Section, Any] = {
    Section.INFO: life.INFO_B,
    Section.CONFIG: life.CONFIG_B,
    Section.STATUS: life.STATUS_B,
    Section.GUEST_DETAILS: life.DETAILS_B,
}
STOPPED_B: Mapping[Section, Any] = {Section.INFO: Info(vm_name="db"), Section.CONFIG: life.CONFIG_B}


class GoldenDomain(SimulatedDomain):
    """A VM of which the hypervisor says what it said to the first version's agent.

    Args:
        vm: its id.
        token: of its life; 0: it does not run.
        contents: its sections.
    """

    def __init__(self, vm: VmId, token: int, contents: Mapping[Section, Any]) -> None:
        super().__init__(vm, contents[Section.INFO].vm_name, 1, 1, Lots(7, vm.hex()))
        self._contents = contents
        if token:
            self.start(1, time.monotonic(), before_s=3600.0)
        if self.life is not None:
            self.life.token = token

    def info(self) -> Info:
        """Section ``info``."""
        found: Info = self._contents[Section.INFO]
        return found

    def config(self) -> bytes:
        """Section ``config``."""
        found: bytes = self._contents[Section.CONFIG]
        return found

    def status(self) -> Status | None:
        """Section ``status``."""
        return self._contents.get(Section.STATUS)

    def guest_details(self) -> GuestDetails | None:
        """Section ``guestDetails``."""
        return self._contents.get(Section.GUEST_DETAILS)


def golden_hypervisor(host: HostId, *, b_runs: bool) -> SimulatedHypervisor:
    """The golden host's hypervisor after its first half, in which B runs, or after its second."""
    domain_b = GoldenDomain(B, TOKEN_B, CONTENTS_B) if b_runs else GoldenDomain(B, 0, STOPPED_B)
    uuid = life.FACTS.host_uuid or ""
    return SimulatedHypervisor(host, uuid, [GoldenDomain(A, TOKEN_A, CONTENTS_A), domain_b], time.monotonic)
