"""What VDSM says of a VM, field by field: the entry of 2013, today's typical one, and the host's own statistics.

Numbers that XML-RPC's 32-bit integers cannot hold travel as decimal texts, and floats as texts with two digits, over
JSON too: so VDSM has done it from the beginning (lib/vdsm/utils.py, convertToStr).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benches.wire.peers.disk_entries import EMPTY, disk_entry
from vmpulse_contract.identity import vm_text
from vmpulse_contract.sections import Section, section_hash
from vmpulse_contract.values import ExitCode, ExitReason

if TYPE_CHECKING:
    from benches.wire.peers.world import Known
    from vmpulse_simulator.domain import SimulatedDomain

Entry = dict[str, Any]
"""A VM's fields by name, as the encoders of XML-RPC and JSON take them."""

APPS: Final = 9
"""Applications in the list of a typical guest: agents of today name few beside the kernel."""
TENTH: Final = 0.1


def percent(tenths: int | None) -> str:
    """A share as VDSM writes it; what is not known yet reads 0.00 there."""
    return f"{(tenths or 0) * TENTH:.2f}"


def device_hash(domain: SimulatedDomain) -> str:
    """A hash of the definition, as a decimal text of 64 signed bits."""
    value = section_hash(Section.CONFIG, domain.config())
    return str(value - (1 << 63))


def down(known: Known, now: float) -> Entry:
    """A VM that does not run any more, until the engine acknowledges it."""
    code, reason = known.domain.exit or (ExitCode.NORMAL, ExitReason.SUCCESS)
    words = "Migration succeeded" if reason is ExitReason.MIGRATION_SUCCEEDED else "User shut down inside the guest"
    return {
        "statusTime": str(int(now * 1000)),
        "status": "Down",
        "vmId": vm_text(known.domain.vm),
        "exitCode": int(code),
        "exitMessage": words,
        "exitReason": int(reason),
        "timeOffset": "0",
    }


def early(known: Known, now: float, its_hash: str) -> Entry:
    """The entry of 2013, as the fake of those days filled it: 22 scalars, balloon, a card, the disks."""
    domain, row, life, guest = known.domain, known.row, known.domain.life, known.domain.guest
    if life is None:
        return down(known, now)
    return {
        "vmId": vm_text(domain.vm),
        "status": life.status.label,
        "hash": its_hash,
        "pid": str(life.pid),
        "vmType": "kvm",
        "acpiEnable": "true",
        "displayIp": "0",
        "displayPort": str(5900 + life.domain_id),
        "displaySecurePort": "-1",
        "guestName": domain.name,
        "guestIPs": " ".join(guest.addresses() or ()),
        "username": guest.username or "Unknown",
        "session": str(guest.session),
        "clientIp": guest.client_ip or "",
        "timeOffset": str(guest.time_offset),
        "monitorResponse": "0",
        "pauseCode": str(domain.pause_code or "NOERR"),
        "cpuUser": percent(row.cpu_user),
        "cpuSys": percent(row.cpu_sys),
        "memUsage": str(row.mem_usage or 0),
        "elapsedTime": str(int(now - life.started)),
        "statsAge": f"{now - row.sampled_at:.2f}",
        "balloonInfo": _balloon(known),
        "network": _network(known, rates=True),
        "disks": _disks(known, full=False),
    }


def typical(known: Known, now: float) -> Entry:
    """Today's entry of a VM with an agent in its guest."""
    domain, row, life, guest = known.domain, known.row, known.domain.life, known.domain.guest
    if life is None:
        return down(known, now)
    entry: Entry = {
        "statusTime": str(int(now * 1000)),
        "status": life.status.label,
        "vmId": vm_text(domain.vm),
        "vmName": domain.name,
        "vmType": "kvm",
        "kvmEnable": "true",
        "acpiEnable": "true",
        "elapsedTime": str(int(now - life.started)),
        "monitorResponse": "0",
        "clientIp": guest.client_ip or "",
        "timeOffset": str(guest.time_offset),
        "pauseCode": str(domain.pause_code or "NOERR"),
        "cpuUser": percent(row.cpu_user),
        "cpuSys": percent(row.cpu_sys),
        "cpuUsage": str(life.load.cpu_time_ns),
        "cpuActual": row.cpu_user is not None,
        "vcpuCount": str(domain.vcpus),
        "vcpuQuota": "-1",
        "vcpuPeriod": 100000,
        "memUsage": str(row.mem_usage or 0),
        "hash": device_hash(domain),
        "vmJobs": {},
        "displayInfo": [
            {
                "type": "spice" if domain.spice else "vnc",
                "port": str(5900 + life.domain_id),
                "tlsPort": "-1",
                "ipAddress": "10.35.0.248",
            }
        ],
    }
    return entry | devices(known) | (_guest(domain) if guest.agent else {})


def devices(known: Known) -> Entry:
    """What of an entry is about devices; the seed's getAllDeviceStats."""
    entry: Entry = {
        "balloonInfo": _balloon(known),
        "network": _network(known, rates=False),
        "disks": _disks(known, full=True),
    }
    if known.devices is not None and known.devices.memory is not None:
        memory = known.devices.memory
        entry["memoryStats"] = {
            "mem_total": str(memory.total),
            "mem_unused": str(memory.unused),
            "mem_free": str(memory.usable),
            **dict.fromkeys(("swap_in", "swap_out", "majflt", "minflt", "pageflt"), 0),
        }
    usage = known.devices.usage if known.devices is not None else None
    if usage is not None:
        entry["disksUsage"] = [
            {"path": each.path, "total": str(each.total), "used": str(each.used), "fs": each.fs} for each in usage
        ]
    return entry


def _guest(domain: SimulatedDomain) -> Entry:
    """What its agent tells of a guest."""
    details, name = domain.guest.details(), f"{domain.name}.example.com"
    assert details is not None
    return {
        "username": domain.guest.username or "None",
        "session": str(domain.guest.session),
        "guestCPUCount": domain.vcpus,
        "appsList": list(details.apps_list or ())[:APPS],
        "guestIPs": " ".join(domain.guest.addresses() or ()),
        "guestFQDN": name,
        "guestName": name,
        "guestOs": "6.1.0-13-amd64",
        "guestOsInfo": {
            "type": "linux",
            "arch": "x86_64",
            "kernel": "6.1.0-13-amd64",
            "distribution": "Debian GNU/Linux",
            "version": "12",
            "codename": "bookworm",
        },
        "guestTimezone": {"offset": 0, "zone": "UTC"},
        "netIfaces": [
            {"name": each.name, "inet": list(each.inet or ()), "inet6": list(each.inet6 or ()), "hw": each.hw}
            for each in details.net_ifaces or ()
        ],
    }


def _balloon(known: Known) -> Entry:
    balloon = known.devices.balloon if known.devices is not None else None
    if balloon is None:
        return {}
    return {
        "balloon_max": str(balloon.balloon_max),
        "balloon_min": str(balloon.balloon_min),
        "balloon_cur": str(balloon.balloon_cur),
        "balloon_target": str(balloon.balloon_target),
        "ballooning_enabled": balloon.ballooning_enabled,
    }


def _network(known: Known, *, rates: bool) -> Entry:
    """The cards. In 2013 they had shares of their speed, today cumulative bytes with the time of the sample."""
    cards: dict[str, Entry] = {}
    for nic in known.devices.network if known.devices is not None else ():
        cards[nic.name] = {
            "macAddr": nic.mac_addr,
            "name": nic.name,
            "speed": "1000",
            "state": "unknown",
            "rxErrors": str(nic.rx_errors),
            "rxDropped": str(nic.rx_dropped),
            "txErrors": str(nic.tx_errors),
            "txDropped": str(nic.tx_dropped),
        }
        today = {"rx": str(nic.rx), "tx": str(nic.tx), "sampleTime": nic.sample_time}
        cards[nic.name] |= {"rxRate": "0.0", "txRate": "0.0"} if rates else today
    return cards


def _disks(known: Known, *, full: bool) -> Entry:
    if known.devices is None:
        return {}
    before = {one.name: one for one in known.before.disks} if known.before is not None else {}
    disks = {one.name: disk_entry(one, before.get(one.name), known.span_s, full=full) for one in known.devices.disks}
    if full:
        disks["sdc"] = disk_entry(EMPTY, None, 1.0, full=True)
    return disks
