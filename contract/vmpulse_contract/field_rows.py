"""What stands behind each field that travels: unit, source, and when it is absent, group by group.

A table beside the types and not annotations within them: three sentences a field would bury the Structs, and readers
of the types need none of them. Each group belongs to one Struct and names its fields by their Python names; ``fields``
adds what the Struct says by itself, and a test holds both to the same fields.

Sources name libvirt's calls as its Python binding does, statistics and typed parameters as libvirt does
(``block.<n>.rd.bytes``), and guest-agent commands as the guest agent does. Bulk statistics (``getAllDomainStats``) are
asked of one domain by ``domainListGetStats`` where only one is wanted; the names are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from vmpulse_contract import sections, stream, verbs


class Row(NamedTuple):
    """What no type says of a field. ``absent``: when it is; ``allowed``: where the type does not say enough."""

    unit: str
    source: str
    absent: str
    allowed: str = ""


class Group(NamedTuple):
    """The fields of one Struct, by Python name. ``carried``: what brings them to readers."""

    name: str
    kind: type[Struct]
    carried: str
    rows: Mapping[str, Row]


_BULK: Final = "`getAllDomainStats`"
_XML: Final = "`XMLDesc(0)`"
_INFO: Final = "`guestInfo`"
_NEVER: Final = "never"
_NONE: Final = "none"
_DOWN: Final = "the VM is inactive"
_DRIVER: Final = "the guest has no balloon driver, it has not reported, or its last report is over 120 s old"
_AGENT: Final = "the guest agent is not asked (setting), not connected, or does not say"
_GONE: Final = "the driver does not count it"
_SPAN: Final = "there are no two samples of this life, or no two since the device came or its counter fell"
_REPORTS: Final = f"{_DRIVER}, or it has not reported within the interval, or only once since its counter fell"


def _rate(name: str, unit: str, source: str, absent: str = _SPAN) -> dict[str, Row]:
    """Give the rows of a rate and of its extremes."""
    return {
        name: Row(unit, f"growth of {source}", absent),
        f"{name}_min": Row(unit, "the same, of the span between two samples in which it was least", "as the mean"),
        f"{name}_max": Row(unit, "the same, of the span between two samples in which it was most", "as the mean"),
    }


def _per_second(name: str, stat: str, absent: str = _SPAN) -> dict[str, Row]:
    return _rate(name, "B/s", f"{_BULK} `{stat}` by time", absent)


def _per_operation(name: str, kind: str) -> dict[str, Row]:
    source = f"{_BULK} `block.<n>.{kind}.times` by that of `block.<n>.{kind}.reqs`; 0: no operation"
    return _rate(name, "ns per operation", source)


def _memory_rate(name: str, unit: str, stat: str) -> dict[str, Row]:
    return _rate(name, unit, f"{_BULK} {stat} by that of `balloon.last-update`", _REPORTS)


LIST: Final = {
    "status": Row("", "as `status` of runtime", _NEVER),
    "vm_name": Row(
        "", "as `vmName` of info, as announced", "info is not known yet, or the names would not fit a reply"
    ),
}

RUNTIME: Final = {
    "status": Row("", f"{_BULK} `state.state`, `state.reason`, with what events and `jobStats` tell", _NEVER),
    "cpu_user": Row(
        "% of one CPU",
        f"{_BULK} growth of `cpu.time` less that of `cpu.system`",
        f"{_DOWN}, it was looked at once, or a counter fell",
        "0 or more; resolution 0.1",
    ),
    "cpu_sys": Row(
        "% of one CPU",
        f"{_BULK} growth of `cpu.system`",
        f"{_DOWN}, it was looked at once, or a counter fell",
        "0 or more; resolution 0.1",
    ),
    "mem_usage": Row(
        "% of the guest's memory",
        f"{_BULK} `balloon.usable` (else `balloon.unused`) and `balloon.available`",
        f"{_DOWN}, or {_DRIVER}",
        "0 to 100",
    ),
    "elapsed_time": Row(
        "s",
        "now less the start of the QEMU process: `/proc/<pid>/stat`, pid from libvirt's pid file",
        f"{_DOWN}, or its process is not to be seen (remote or test URI, pid file not readable)",
    ),
    "stats_age": Row("s", "now less the start of the look that its values are of", _NEVER),
    "hashes": Row("", "the announced hashes of the four sections", "no section is known yet"),
}

HASHES: Final = {
    name: Row("", f"xxh3-64 of the section {label}", "the section is not known yet")
    for name, label in (
        ("info", "info"),
        ("config", "config"),
        ("status", "status"),
        ("guest_details", "guestDetails"),
    )
}

ROSTER: Final = {
    "layout": Row("", "counted by the agent: membership, order and starts", _NEVER),
    "monotonic_ms": Row("ms since the epoch began", "the agent's monotonic clock when `elapsedMs` held", _NEVER),
    "facts": Row("", "see facts", _NEVER),
    "vms": Row("16 bytes a VM", "the UUID, of all active and persistent inactive domains", _NEVER),
    "tokens": Row(
        "8 bytes a VM",
        "start token: hash of boot id or start of the QEMU process (`/proc/<pid>/stat`), and domain id",
        "0: inactive, or being started",
    ),
    "elapsed_ms": Row("ms, 8 bytes a VM", "as `elapsedTime` of runtime", "all bits set: as `elapsedTime` of runtime"),
    "hashes": Row("32 bytes a VM", "as hashes", "0: the section is not known yet"),
    "tombstones": Row("", "see tombstones", "empty: no life ended within the setting `tombstone_s`"),
}

TOMBSTONE: Final = {
    "vm": Row("", "the UUID", _NEVER),
    "token": Row("", "the start token of the life that ended", _NEVER),
    "exit_code": Row("", "the `STOPPED` event's detail, else `state.reason` of the inactive domain", _NEVER),
    "exit_reason": Row("", "as `exitCode`; LIBVIRT_DOMAIN_MISSING: nothing told", _NEVER),
    "ended_ms": Row(
        "ms since the epoch began", "when the look that missed the life began", _NEVER, "negative: before the epoch"
    ),
}

FACTS: Final = {
    "tick_ms": Row("ms", "the setting `tick_s`", "it is 3000"),
    "fqdn": Row("", "the machine's fully qualified name", "the agent does not say"),
    "host_uuid": Row("", "`getCapabilities`, host/uuid", "libvirt does not say"),
    "agent_version": Row("", "the agent's own", "the agent does not say"),
    "hypervisor_version": Row("", "`getType`, `getVersion`", "libvirt could not be asked at the start"),
    "libvirt_version": Row("", "`getLibVersion`, of the daemon", "libvirt could not be asked at the start"),
    "cpu_count": Row("", "as `cpuCount` of hostStats", "not read yet"),
    "mem_total": Row("MiB", "as `memTotal` of hostStats", "not read yet"),
    "swap_total": Row("MiB", "as `swapTotal` of hostStats", "not read yet"),
    "labels": Row("", "the setting `labels`", "empty: no label is set"),
}

_UNREAD: Final = "the file could not be read"
_ONCE: Final = "read once only, or the file could not be read"
HOST_VALUES: Final = {
    "cpu_user": Row("0.1 % of all CPUs", "as `cpuUser` of hostStats", _ONCE),
    "cpu_sys": Row("0.1 % of all CPUs", "as `cpuSys` of hostStats", _ONCE),
    "cpu_load": Row("0.01 tasks", "as `cpuLoad` of hostStats", _UNREAD),
    "mem_used": Row("MiB", "as `memUsed` of hostStats", _UNREAD),
    "swap_used": Row("MiB", "`swapTotal` less `swapFree` of hostStats", _UNREAD),
}

HOST_STATS: Final = {
    "cpu_user": Row("% of all CPUs", "`/proc/stat`: growth of user, nice", _ONCE),
    "cpu_sys": Row("% of all CPUs", "`/proc/stat`: growth of system, irq, softirq, steal", _ONCE),
    "cpu_idle": Row("% of all CPUs", "`/proc/stat`: growth of idle, iowait", _ONCE),
    "cpu_load": Row("tasks", "`/proc/loadavg`, over a minute", _UNREAD),
    "cpu_count": Row("", "`/proc/stat`: lines of CPUs", _NEVER),
    "mem_total": Row("MiB", "`/proc/meminfo` MemTotal", _UNREAD),
    "mem_used": Row("MiB", "`/proc/meminfo` MemTotal less MemAvailable", _UNREAD),
    "mem_free": Row("MiB", "`/proc/meminfo` MemAvailable", _UNREAD),
    "swap_total": Row("MiB", "`/proc/meminfo` SwapTotal", _UNREAD),
    "swap_free": Row("MiB", "`/proc/meminfo` SwapFree", _UNREAD),
    "vm_count": Row("", "VMs in the roster", _NEVER),
    "vm_active": Row("", "VMs with a start token", _NEVER),
    "vm_migrating": Row("", "VMs whose status is Migration Source or Migration Destination", _NEVER),
    "elapsed_time": Row("s", "`/proc/uptime`", f"{_UNREAD}; in the view: frames do not carry it"),
}

INFO: Final = {
    "vm_name": Row("", f"{_XML} name", "it holds nothing that may be shown"),
    "acpi_enable": Row("", f"{_XML} features/acpi", _NEVER),
    "display_type": Row("", f"{_XML} type of the first graphics", "no graphics, or of another type"),
    "display_port": Row("", f"{_XML} port of the first graphics", "no graphics, or no port yet", "1 or more"),
    "display_secure_port": Row(
        "", f"{_XML} tlsPort of the first graphics", "no graphics, or no such port", "1 or more"
    ),
    "display_ip": Row("", f"{_XML} listen address of the first graphics", "no graphics, or it listens nowhere"),
    "pid": Row("", "libvirt's pid file, checked against `/proc/<pid>/cmdline`", f"{_DOWN}, or it is not to be seen"),
    "vm_type": Row("", f"{_XML} type of the domain", "libvirt does not say", "libvirt's: kvm, qemu, ..."),
    "kvm_enable": Row("", f"{_XML} whether that type is kvm", "libvirt does not say"),
    "cdrom": Row("", f"{_XML} source file or dev of the first CD drive with a medium", "no medium in any drive"),
    "boot": Row("", f"{_XML} device with the least boot order, else the first os/boot", "no boot device is named"),
}

STATUS: Final = {
    "time_offset": Row(
        "s",
        f"{_XML} clock adjustment, of offset variable and basis utc; else the last `RTC_CHANGE` event; "
        "rounded to 5 s, and kept while that is less than 5 s off",
        f"{_DOWN}, or neither is there",
    ),
    "monitor_response": Row(
        "", "whether the monitor answered looks within the setting `unresponsive_after_s`", _DOWN, "0, -1"
    ),
    "client_ip": Row(
        "",
        "`GRAPHICS` event: of those let in and not gone, the last",
        "nobody looks on, or who does came before the agent connected",
    ),
    "username": Row("", f"{_INFO} `user.<n>.name` (`guest-get-users`), joined", f"nobody is logged in, or {_AGENT}"),
    "session": Row(
        "",
        f"{_INFO} `user.count` (`guest-get-users`): whether anybody is logged in",
        _AGENT,
        "UserLoggedOn, LoggedOff; Locked and Active have no source on libvirt",
    ),
    "guest_ips": Row("", "the IPv4 addresses of netIfaces but loopback and link-local", _AGENT),
    "pause_code": Row(
        "", "`state.reason`; of an I/O error the `IO_ERROR_REASON` event, else `diskErrors`", "the VM is not paused"
    ),
    "watchdog_event": Row("", "see watchdogEvent", "the watchdog has not fired while the agent was connected"),
}

WATCHDOG_EVENT: Final = {
    "time": Row("s since 1970", "the host's clock when the `WATCHDOG` event came", _NEVER),
    "action": Row("", "`WATCHDOG` event", _NEVER),
}

_INTERFACES: Final = f"{_INFO} `if.<n>"
GUEST_DETAILS: Final = {
    "apps_list": Row(
        "",
        "`guest-exec` of dpkg-query, else of rpm",
        "the setting `guest_exec_apps` is off, as by default, or the guest cannot run either",
    ),
    "net_ifaces": Row("", "see netIfaces", _AGENT),
}
NET_IFACES: Final = {
    "name": Row("", f"{_INTERFACES}.name` (`guest-network-get-interfaces`)", "the guest does not say"),
    "hw": Row("", f"{_INTERFACES}.hwaddr`", "the guest does not say"),
    "inet": Row("", f"{_INTERFACES}.addr.<m>.addr`, IPv4", _NEVER),
    "inet6": Row("", f"{_INTERFACES}.addr.<m>.addr`, IPv6 without zone", _NEVER),
}

DEVICE_STATS: Final = {
    "memory_stats": Row("", "see memoryStats", _DRIVER),
    "balloon_info": Row("", "see balloonInfo", "libvirt gives not all of it"),
    "disks_usage": Row("", "see disksUsage", _AGENT),
    "network": Row("", "see network, by name of the card on the host", "no card with a name there"),
    "disks": Row("", "see disks, by target name", "no disk"),
    "interval": Row(
        "s", "between the samples that begin and end the interval of the rates", "no two samples of this life"
    ),
    "stats_age": Row("s", "now less the start of the newest sample", "in reports, which say when it began"),
}

MEMORY: Final = {
    "mem_total": Row("KiB", f"{_BULK} `balloon.available`", _DRIVER),
    "mem_unused": Row("KiB", f"{_BULK} `balloon.unused`", _DRIVER),
    "mem_free": Row("KiB", f"{_BULK} `balloon.usable`", f"{_DRIVER}, or the driver does not know it"),
    **_memory_rate("swap_in", "KiB/s", "`balloon.swap_in`"),
    **_memory_rate("swap_out", "KiB/s", "`balloon.swap_out`"),
    **_memory_rate("majflt", "faults/s", "`balloon.major_fault`"),
    **_memory_rate("minflt", "faults/s", "`balloon.minor_fault`"),
    **_memory_rate("pageflt", "faults/s", "`balloon.major_fault` and `balloon.minor_fault`"),
}

BALLOON: Final = {
    "balloon_max": Row("KiB", f"{_BULK} `balloon.maximum`", _NEVER),
    "balloon_min": Row("KiB", f"{_XML} memtune/min_guarantee; 0: nothing is guaranteed", _NEVER),
    "balloon_cur": Row("KiB", f"{_BULK} `balloon.current`", _NEVER),
    "balloon_target": Row("KiB", "as `balloon_cur`: libvirt keeps no target that is still to be reached", _NEVER),
    "ballooning_enabled": Row("", f"{_XML} devices/memballoon, of a model other than none", _NEVER),
}

_FS: Final = f"{_INFO} `fs.<n>"
USAGE: Final = {
    "path": Row("", f"{_FS}.mountpoint` (`guest-get-fsinfo`)", _NEVER),
    "total": Row("B", f"{_FS}.total-bytes`", "the guest agent does not say"),
    "used": Row("B", f"{_FS}.used-bytes`", "the guest agent does not say"),
    "fs": Row("", f"{_FS}.fstype`", "the guest agent does not say", "the guest's: ext4, xfs, NTFS, ..."),
}

DISKS: Final = {
    "read_ops": Row("operations since the start", f"{_BULK} `block.<n>.rd.reqs`", _GONE),
    "write_ops": Row("operations since the start", f"{_BULK} `block.<n>.wr.reqs`", _GONE),
    "read_bytes": Row("B since the start", f"{_BULK} `block.<n>.rd.bytes`", _GONE),
    "written_bytes": Row("B since the start", f"{_BULK} `block.<n>.wr.bytes`", _GONE),
    **_per_second("read_rate", "block.<n>.rd.bytes"),
    **_per_second("write_rate", "block.<n>.wr.bytes"),
    **_per_operation("read_latency", "rd"),
    **_per_operation("write_latency", "wr"),
    **_per_operation("flush_latency", "fl"),
    "truesize": Row("B", f"{_BULK} `block.<n>.physical`", _GONE),
    "apparentsize": Row(
        "B",
        f"{_BULK} `block.<n>.capacity` of a raw image, `block.<n>.physical` of a block device",
        "the image is of a format that grows, such as qcow2: libvirt's bulk statistics do not have its length",
    ),
    "image_id": Row("", f"{_XML} serial of the disk", "the disk has no serial"),
}

NETWORK: Final = {
    "name": Row("", f"{_BULK} `net.<n>.name`", _NEVER),
    "mac_addr": Row("", f"{_XML} mac of the interface with that target", "the XML could not be read"),
    "rx": Row("B since the start", f"{_BULK} `net.<n>.rx.bytes`", _GONE),
    "tx": Row("B since the start", f"{_BULK} `net.<n>.tx.bytes`", _GONE),
    "rx_errors": Row("packets since the start", f"{_BULK} `net.<n>.rx.errs`", _GONE),
    "tx_errors": Row("packets since the start", f"{_BULK} `net.<n>.tx.errs`", _GONE),
    "rx_dropped": Row("packets since the start", f"{_BULK} `net.<n>.rx.drop`", _GONE),
    "tx_dropped": Row("packets since the start", f"{_BULK} `net.<n>.tx.drop`", _GONE),
    **_per_second("rx_rate", "net.<n>.rx.bytes"),
    **_per_second("tx_rate", "net.<n>.tx.bytes"),
    "speed": Row("Mbit/s", _NONE, "absent on libvirt: it knows none of a virtual card"),
    "state": Row("", _NONE, "absent on libvirt: it knows none of a virtual card"),
    "sample_time": Row("s", "the host's monotonic clock when the sample began", _NEVER),
}

_DEVICES: Final = "device reports, `getAllDeviceStats`"
GROUPS: Final = (
    Group("list", verbs.ListRecord, "`list`", LIST),
    Group("runtime", verbs.RuntimeRecord, "frames and rosters, `getAllRuntimeStats`", RUNTIME),
    Group("hashes", verbs.SectionHashes, "rosters and change events, `getAllRuntimeStats`", HASHES),
    Group("roster", stream.Roster, "rosters, `getRoster`", ROSTER),
    Group("tombstones", stream.Tombstone, "rosters, `getRoster`", TOMBSTONE),
    Group("facts", stream.HostFacts, "rosters, `getRoster`", FACTS),
    Group("frameHostStats", stream.HostValues, "frames", HOST_VALUES),
    Group("hostStats", verbs.HostStats, "`getHostStats`", HOST_STATS),
    Group("info", sections.Info, "change events, `getConfInfo`", INFO),
    Group("status", sections.Status, "change events, `getStatus`", STATUS),
    Group("watchdogEvent", sections.WatchdogEvent, "within status", WATCHDOG_EVENT),
    Group("guestDetails", sections.GuestDetails, "change events, `getGuestDetails`", GUEST_DETAILS),
    Group("netIfaces", sections.NetIface, "within guestDetails", NET_IFACES),
    Group("deviceStats", verbs.DeviceStats, _DEVICES, DEVICE_STATS),
    Group("memoryStats", verbs.MemoryStats, _DEVICES, MEMORY),
    Group("balloonInfo", verbs.BalloonInfo, _DEVICES, BALLOON),
    Group("disksUsage", verbs.DiskUsage, _DEVICES, USAGE),
    Group("disks", verbs.DiskStats, _DEVICES, DISKS),
    Group("network", verbs.NetworkStats, _DEVICES, NETWORK),
)
"""All groups but config, whose one field is the body of the section and no Struct's."""
CONFIG: Final = Row(
    "",
    "`XMLDesc(VIR_DOMAIN_XML_INACTIVE)`, canonicalised, without volatile elements and secrets",
    "it could not be read, or is beyond a limit",
)
