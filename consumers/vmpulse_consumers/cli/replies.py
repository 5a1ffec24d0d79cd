"""What the subcommands read of the API's replies: tolerant of fields and values that a newer view may add."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, field


class FaultReply(Struct):
    """What is wrong and what is allowed."""

    what: str
    allowed: str = ""


class ErrorReply(Struct):
    """An error reply."""

    error: FaultReply


class DevicesReply(Struct):
    """The device statistics of one VM, by their fields."""

    id: str
    host: str
    device_stats: dict[str, Any] = field(name="deviceStats")
    age_s: float | None = None


class Page(Struct):
    """One page of rows, not decoded. Of ``vms`` and ``hosts`` one is there."""

    total: int
    limit: int
    offset: int
    vms: list[Raw] | None = None
    hosts: list[Raw] | None = None


class ClaimReply(Struct, rename="camel"):
    """What one host says of a VM."""

    host: str
    status: str
    host_state: str = ""
    owner: bool = False


class VmReply(Struct):
    """One VM."""

    id: str
    host: str
    status: str
    freshness: str
    name: str | None = None
    age_s: float | None = None
    cpu_user: float | None = field(default=None, name="cpuUser")
    cpu_sys: float | None = field(default=None, name="cpuSys")
    mem_usage: int | None = field(default=None, name="memUsage")
    elapsed_time: float | None = field(default=None, name="elapsedTime")
    hashes: dict[str, str] = {}
    repairing: list[str] = []
    split_brain: bool = field(default=False, name="splitBrain")
    sections: dict[str, dict[str, Any]] = {}
    claims: list[ClaimReply] = []

    @property
    def cpu(self) -> float | None:
        """All CPU time, in percent of one CPU."""
        return None if self.cpu_user is None or self.cpu_sys is None else self.cpu_user + self.cpu_sys


class ForgottenReply(Struct):
    """A host that the view has forgotten, and how many VMs it listed."""

    host: str
    vms: int


class ListedVmReply(Struct):
    """A VM as one host lists it."""

    id: str
    status: str
    owner: bool = False
    name: str | None = None


class EndedReply(Struct):
    """A life that ended on a host."""

    id: str
    exit_code: str = field(default="", name="exitCode")
    exit_reason: str = field(default="", name="exitReason")
    ended_s: float | None = None


class HostStatsReply(Struct, rename="camel"):
    """A host's own statistics: CPU in percent of all CPUs, sizes in MiB."""

    cpu_user: float | None = None
    cpu_sys: float | None = None
    cpu_load: float | None = None
    cpu_count: int | None = None
    mem_total: int | None = None
    mem_used: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None

    @property
    def cpu(self) -> float | None:
        """All CPU time, in percent of all CPUs."""
        return None if self.cpu_user is None or self.cpu_sys is None else self.cpu_user + self.cpu_sys

    @property
    def mem_usage(self) -> float | None:
        """Memory in use, in percent."""
        return None if self.mem_used is None or not self.mem_total else 100 * self.mem_used / self.mem_total

    @property
    def swap_used(self) -> int | None:
        """Swap space in use."""
        return None if self.swap_total is None or self.swap_free is None else self.swap_total - self.swap_free


class HostReply(Struct):
    """One host; the lists are there when it was asked for alone."""

    host: str
    state: str
    vms: int
    active: int
    silent_s: float
    since_s: float
    seq: int
    age_s: float | None = None
    epoch: str | None = None
    fqdn: str | None = None
    host_uuid: str | None = field(default=None, name="hostUuid")
    agent_version: str | None = field(default=None, name="agentVersion")
    hypervisor_version: str | None = field(default=None, name="hypervisorVersion")
    libvirt_version: str | None = field(default=None, name="libvirtVersion")
    labels: dict[str, str] = {}
    stats: HostStatsReply = field(default_factory=HostStatsReply)
    listed_vms: list[ListedVmReply] = field(default_factory=list, name="listedVms")
    tombstones: list[EndedReply] = []
