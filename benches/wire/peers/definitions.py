"""What VDSM says of a VM in full, when an engine has seen that its devices' hash is another: and of its host.

The full list names every device with its address, and of a disk the volumes that it is made of. The fake of 2013 had
VMs of few devices; the sum of the seed's capture leaves about 3 kB for each (docs/performance.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from vmpulse_contract.identity import vm_text

if TYPE_CHECKING:
    from benches.wire.peers.entries import Entry
    from vmpulse_simulator.domain import SimulatedDomain
    from vmpulse_simulator.hypervisor import SimulatedHypervisor

FIXED: Final = (
    *(("usb", "qemu-xhci"), ("virtio-serial", "virtio-serial"), ("ide", "ide"), ("scsi", "virtio-scsi")),
    *(("unix", "org.qemu.guest_agent.0"), ("unix", "com.redhat.rhevm.vdsm"), ("spicevmc", "com.redhat.spice.0")),
    *(("qxl", "qxl"), ("virtio", "virtio"), ("balloon", "memballoon"), ("rng", "virtio"), ("pty", "virtio")),
)
"""Devices that every VM of today has beside disks and cards, with their kind."""
PLAIN_CARD: Final = frozenset({"type", "device", "macAddr", "network", "nicModel"})
IFACES: Final = ("em1", "em2", "ovirtmgmt", "bond0")


def plain(domain: SimulatedDomain) -> Entry:
    """A VM of the fake: its parameters, its disks and its card."""
    disks = [_disk(domain, number) for number in range(domain.disks)]
    card = {name: value for name, value in _card(domain).items() if name in PLAIN_CARD}
    return _parameters(domain) | {"devices": [*disks, card]}


def full(domain: SimulatedDomain) -> Entry:
    """A VM of today: every device, and the volumes of disks."""
    disks = [_disk(domain, number) | _placed(domain, number) for number in range(domain.disks)]
    rest = [_device(domain, kind, name, slot) for slot, (kind, name) in enumerate(FIXED, 3)]
    return _parameters(domain) | {"devices": [*disks, _cdrom(domain), _card(domain), *rest]}


def _parameters(domain: SimulatedDomain) -> Entry:
    life = domain.life
    return {
        "vmId": vm_text(domain.vm),
        "vmName": domain.name,
        "vmType": "kvm",
        "status": "Down" if life is None else life.status.label,
        "pid": "0" if life is None else str(life.pid),
        "memSize": domain.memory_mib,
        "smp": str(domain.vcpus),
        "smpCoresPerSocket": "1",
        "cpuType": "Nehalem",
        "emulatedMachine": "pc-q35-7.2",
        "display": "qxl" if domain.spice else "vnc",
        "displayIp": "0",
        "displayPort": "-1" if life is None else str(5900 + life.domain_id),
        "displaySecurePort": "-1",
        "displayNetwork": "ovirtmgmt",
        "acpiEnable": "true",
        "kvmEnable": "true",
        "nicModel": "pv",
        "timeOffset": str(domain.guest.time_offset),
        "clientIp": domain.guest.client_ip or "",
        "pauseCode": str(domain.pause_code or "NOERR"),
        "transparentHugePages": "true",
        "custom": {},
    }


def _disk(domain: SimulatedDomain, number: int) -> Entry:
    return {
        "type": "disk",
        "device": "disk",
        "iface": "virtio",
        "format": "cow",
        "index": str(number),
        "name": f"vd{'abcdefgh'[number]}",
        "readonly": "false",
        "imageID": _image(domain, number),
    }


def _image(domain: SimulatedDomain, number: int) -> str:
    return str(uuid5(NAMESPACE_OID, f"{domain.number:08x}-{number}"))


def _placed(domain: SimulatedDomain, number: int) -> Entry:
    """Where a disk of today is, and the two volumes it is made of, for it stands on a template or a snapshot."""
    image, storage, pool = _image(domain, number), uuid5(NAMESPACE_OID, "domain"), uuid5(NAMESPACE_OID, "pool")
    chain = [
        {
            "domainID": str(storage),
            "imageID": image,
            "volumeID": str(uuid5(NAMESPACE_OID, f"{image}-{at}")),
            "path": f"/rhev/data-center/mnt/blockSD/{storage}/images/{image}/{at}",
            "leasePath": f"/dev/{storage}/leases",
            "leaseOffset": 108003328 + at,
        }
        for at in range(2)
    ]
    return {
        "alias": f"virtio-disk{number}",
        "domainID": str(storage),
        "poolID": str(pool),
        "volumeID": str(uuid5(NAMESPACE_OID, f"{image}-0")),
        "deviceId": image,
        "path": f"/rhev/data-center/{pool}/{storage}/images/{image}",
        "shared": "false",
        "optional": "false",
        "propagateErrors": "off",
        "truesize": "10737418240",
        "apparentsize": "42949672960",
        "reqsize": "0",
        "address": _address(number + 6),
        "volumeChain": chain,
        "volumeInfo": chain[-1],
    }


def _cdrom(domain: SimulatedDomain) -> Entry:
    return _device(domain, "cdrom", "hdc", 2) | {"type": "disk", "path": domain.cdrom or "", "readonly": "true"}


def _card(domain: SimulatedDomain) -> Entry:
    return {
        "type": "interface",
        "device": "bridge",
        "nicModel": "pv",
        "macAddr": domain.guest.mac,
        "network": "ovirtmgmt",
        "name": f"vnet{domain.number}",
        "alias": "net0",
        "linkActive": True,
        "filter": "vdsm-no-mac-spoofing",
        "deviceId": str(uuid5(NAMESPACE_OID, domain.guest.mac)),
        "address": _address(1),
    }


def _device(domain: SimulatedDomain, kind: str, name: str, slot: int) -> Entry:
    return {
        "type": "controller",
        "device": kind,
        "name": name,
        "alias": f"{name}-{slot}",
        "deviceId": str(uuid5(NAMESPACE_OID, f"{domain.number}-{slot}")),
        "specParams": {},
        "address": _address(slot),
    }


def _address(slot: int) -> dict[str, str]:
    return {"type": "pci", "domain": "0x0000", "bus": "0x00", "slot": f"0x{slot:02x}", "function": "0x0"}


def host_stats(hypervisor: SimulatedHypervisor, now: float) -> dict[str, Any]:
    """The host's own statistics (getVdsStats): a small host with four interfaces and two storage domains."""
    lives = [domain.life for domain in hypervisor.domains.values() if domain.life]
    storage = {"code": 0, "lastCheck": "1.5", "delay": "0.000312", "valid": True, "version": 5, "acquired": True}
    return {
        "cpuLoad": "3.42",
        "cpuUser": f"{sum(life.load.user for life in lives) / 1280:.2f}",
        "cpuSys": f"{sum(life.load.system for life in lives) / 1280:.2f}",
        "cpuIdle": "61.20",
        "cpuSysVdsmd": "0.40",
        "cpuUserVdsmd": "1.33",
        "elapsedTime": str(int(now)),
        "bootTime": "1760000000",
        "memUsed": "64",
        "memFree": 377104,
        "memShared": 0,
        "anonHugePages": "204800",
        "thpState": "always",
        "swapTotal": 65535,
        "swapFree": 65535,
        "vmCount": len(hypervisor.domains),
        "vmActive": len(lives),
        "vmMigrating": 0,
        "incomingVmMigrations": 0,
        "outgoingVmMigrations": 0,
        "dateTime": "2026-01-01T00:00:00 GMT",
        "momStatus": "active",
        "ksmState": False,
        "ksmPages": 100,
        "ksmCpu": 0,
        "ksmMergeAcrossNodes": True,
        "netConfigDirty": "False",
        "haStats": {"configured": False, "active": False, "score": 0, "globalMaintenance": False},
        "haScore": 0,
        "rxDropped": "131",
        "txDropped": "0",
        "statsAge": "0.51",
        "generationID": str(uuid5(NAMESPACE_OID, "generation")),
        "numaNodeMemFree": {node: {"memFree": "188552", "memPercent": 63} for node in ("0", "1")},
        "diskStats": {path: {"free": "48211"} for path in ("/tmp", "/var/log", "/var/log/core", "/var/run/vdsm/")},  # noqa: S108 - names of a reply
        "storageDomains": {str(uuid5(NAMESPACE_OID, f"storage-{at}")): storage for at in range(2)},
        "network": {
            name: {
                "name": name,
                "macAddr": "52:54:00:10:20:30",
                "state": "up",
                "speed": "1000",
                "rxErrors": "0",
                "txErrors": "0",
                "rxDropped": "12",
                "txDropped": "0",
                "rx": str(int(now * 1e6)),
                "tx": str(int(now * 4e5)),
                "sampleTime": now,
            }
            for name in IFACES
        },
    }
