"""What the domain XML tells: pure functions from text to the contract's values.

https://libvirt.org/formatdomain.html is the source of the element names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.measures import Mended
from vmpulse_contract.sections import Info
from vmpulse_contract.values import BootDevice, DisplayType

AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"
"""The one channel name that libvirt speaks to the guest agent through."""

_BOOT: Final = {
    "fd": BootDevice.FLOPPY,
    "hd": BootDevice.DISK,
    "cdrom": BootDevice.CDROM,
    "network": BootDevice.NETWORK,
}
_DISK_BOOT: Final = {"floppy": BootDevice.FLOPPY, "cdrom": BootDevice.CDROM}
_DISPLAY: Final = {"vnc": DisplayType.VNC, "spice": DisplayType.QXL}
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_KIB: Final = {
    "b": 1 / 1024,
    "bytes": 1 / 1024,
    "KB": 1000 / 1024,
    "k": 1,
    "KiB": 1,
    "MB": 10**6 / 1024,
    "M": 1 << 10,
    "MiB": 1 << 10,
    "GB": 10**9 / 1024,
    "G": 1 << 20,
    "GiB": 1 << 20,
    "TB": 10**12 / 1024,
    "T": 1 << 30,
    "TiB": 1 << 30,
}


class DeviceFacts(NamedTuple):
    """What the bulk statistics do not say of a domain's devices.

    ``macs`` and ``image_ids`` by target name ("vnet0", "vda"); the image id is the disk's <serial>, where oVirt and
    others put it. ``balloon_min`` in KiB: <min_guarantee>, without which libvirt guarantees nothing.
    """

    macs: dict[str, str]
    image_ids: dict[str, str]
    balloon: bool
    balloon_min: int
    lengths: dict[str, str]
    """By target name, the statistic that tells how long the image is; none of image formats that grow."""


class Facts(NamedTuple):
    """What the sections need of the active XML. ``time_offset`` in seconds, where libvirt keeps it."""

    info: Info
    agent_connected: bool
    time_offset: int | None


def facts(xml: str, pid: int | None = None, mended: Mended | None = None) -> Facts:
    """Read the XML of a domain as it is now. Raises XmlRefused."""
    domain = safe_xml.parse(xml)
    return Facts(_info(domain, pid, mended), _agent_connected(domain), _time_offset(domain))


def info_from_xml(xml: str, pid: int | None = None) -> Info:
    """Section ``info`` from the XML of a domain as it is now. Raises XmlRefused."""
    return _info(safe_xml.parse(xml), pid)


def device_facts(xml: str) -> DeviceFacts:
    """Read what belongs to the device statistics. Raises XmlRefused."""
    domain = safe_xml.parse(xml)
    balloon = domain.find("devices/memballoon")
    return DeviceFacts(
        macs=_by_target(domain, "interface", lambda device: _attribute(device, "mac", "address")),
        image_ids=_by_target(domain, "disk", lambda device: clean(device.findtext("serial"))),
        lengths=_by_target(domain, "disk", _length),
        balloon=balloon is not None and balloon.get("model") != "none",
        balloon_min=_kib(domain.find("memtune/min_guarantee")),
    )


def _info(domain: Element, pid: int | None, mended: Mended | None = None) -> Info:
    graphics = domain.find("devices/graphics")
    kind = domain.get("type")
    return Info(
        vm_name=clean(domain.findtext("name"), mended),
        acpi_enable=domain.find("features/acpi") is not None,
        display_type=None if graphics is None else _DISPLAY.get(graphics.get("type", "")),
        display_port=_port(graphics, "port"),
        display_secure_port=_port(graphics, "tlsPort"),
        display_ip=clean(_listen_address(graphics), mended),
        pid=pid,
        vm_type=clean(kind, mended),
        kvm_enable=None if kind is None else kind == "kvm",
        cdrom=clean(_cdrom(domain), mended),
        boot=_boot(domain),
    )


def _port(graphics: Element | None, name: str) -> int | None:
    """A port that is allocated: -1 and 0 stand for "not yet" and "none"."""
    port = _integer(None if graphics is None else graphics.get(name))
    return port if port is not None and port > 0 else None


def _listen_address(graphics: Element | None) -> str | None:
    if graphics is None:
        return None
    listens = (listen.get("address") for listen in graphics.findall("listen"))
    return next((address for address in listens if address), graphics.get("listen"))


def _cdrom(domain: Element) -> str | None:
    for disk in domain.iterfind("devices/disk[@device='cdrom']/source"):
        path = disk.get("file") or disk.get("dev")
        if path:
            return path
    return None


def _boot(domain: Element) -> BootDevice | None:
    """The first boot device: <boot order> of a device, which excludes <os><boot dev>, or the first of the latter."""
    ordered = [
        (order, device)
        for device in domain.iterfind("devices/*")
        if (order := _integer(_attribute(device, "boot", "order"))) is not None
    ]
    if ordered:
        return _boot_letter(min(ordered, key=lambda pair: pair[0])[1])
    return _BOOT.get(_attribute(domain, "os/boot", "dev") or "")


def _boot_letter(device: Element) -> BootDevice | None:
    if device.tag == "disk":
        return _DISK_BOOT.get(device.get("device", "disk"), BootDevice.DISK)
    return BootDevice.NETWORK if device.tag == "interface" else None


def _agent_connected(domain: Element) -> bool:
    channels = domain.iterfind("devices/channel/target")
    return any(c.get("name") == AGENT_CHANNEL and c.get("state") == "connected" for c in channels)


def _time_offset(domain: Element) -> int | None:
    """How far the guest has set its clock off: libvirt keeps that for clocks with ``offset='variable'`` alone."""
    clock = domain.find("clock")
    if clock is None or clock.get("offset") != "variable" or clock.get("basis", "utc") != "utc":
        return None
    return _integer(clock.get("adjustment", "0"))


def _by_target(domain: Element, tag: str, value: Callable[[Element], str | None]) -> dict[str, str]:
    found = {}
    for device in domain.iterfind(f"devices/{tag}"):
        target, wanted = _attribute(device, "target", "dev"), value(device)
        if target and wanted:
            found[target] = wanted
    return found


def _length(disk: Element) -> str | None:
    """A block device is as long as what it occupies, a raw image as the disk that the guest sees."""
    if disk.get("type") == "block":
        return "physical"
    return "capacity" if _attribute(disk, "driver", "type") == "raw" else None


def _attribute(element: Element, path: str, name: str) -> str | None:
    child = element.find(path)
    return None if child is None else child.get(name)


def _integer(text: str | None) -> int | None:
    """A number as libvirt writes them; what no integer of the wire could hold is none."""
    return None if text is None or _NUMBER.fullmatch(text) is None else int(text)


def _kib(element: Element | None) -> int:
    if element is None:
        return 0
    return int((_integer((element.text or "").strip()) or 0) * _KIB.get(element.get("unit", "KiB"), 1))
