"""The canonical configuration: the same definition gives the same bytes, on every host and after every restart.

The source is the *inactive* XML, read without VIR_DOMAIN_XML_SECURE. For a transient domain libvirt derives it from the
live one, so it holds live values too; what changes without anybody changing the configuration is taken out, as
LEFT_OUT says. The rest is in document order, since the order of devices means something, as C14N 2.0 with white space
stripped; only controllers are sorted, for libvirt appends those that it adds, and sorts them when it next reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_agent.libvirt_edge.safe_xml import XmlRefused
from vmpulse_contract import limits

LEFT_OUT: Final = (
    ("`id` of the domain; aliases but the user's own (`ua-...`)", "start"),
    ("`currentMemory`; `current`, `requested` of a memory device's target", "ballooning, virtio-mem resize"),
    ("`adjustment` of a variable clock (`timeOffset` in `status` tells it)", "the guest setting its clock"),
    ("`seclabel` of type dynamic, and those within disk sources", "start, restart of the daemon"),
    ("`resource/partition` `/machine`, libvirt's default", "start: filled in"),
    ("`port`, `tlsPort`, `websocket` of graphics unless fixed; the address of a listen of type network", "start"),
    ("`socket` of graphics with the domain id in its path", "start"),
    ("`connected` of graphics, `state` of a channel", "a client or an agent coming and going"),
    ("`tty` of a console, path of a pty, path of a channel with the domain id", "start"),
    ("`target` of an interface that libvirt named (vnet, macvtap, vif); `portid`; the bridge of a network", "start"),
    ("`tray` of a CD or floppy drive", "the guest or an administrator opening it"),
    ("`address` within the source of a USB host device that is chosen by vendor", "start, re-plugging"),
    ("`address` of a vsock's automatic cid", "start"),
    ("`backingStore`, `mirror`, `index` of a source; `privateData`", "block jobs, restart of the daemon"),
    ("the order of controllers", "libvirt reading its own definition again"),
    ("`metadata` without content", "the last entry being removed"),
    ("`passwd`, `password`, `passwdValidTo`", "never: secrets do not travel"),
)
"""What is taken out, and on what it changes; docs/sections.md shows it."""
_GONE: Final = frozenset({"backingStore", "mirror", "privateData"})
"""Elements that go wherever they stand within devices."""
_SECRET: Final = frozenset({"passwd", "password", "passwdValidTo"})
_NAMED_BY_LIBVIRT: Final = re.compile(r"(vnet|macvtap|macvlan|vif)\d+")
_INDEX_DIGITS: Final = 9
"""Of a controller's index: what is longer is no number that libvirt writes."""
_RUN_PATH: Final = re.compile(r"/(domain-|channel/)\d+-")
"""Paths that libvirt makes hold the domain id.

/var/lib/libvirt/qemu/channel/target/domain-7-name/org.qemu.guest_agent.0, and since libvirt 10
/run/libvirt/qemu/channel/7-name/org.qemu.guest_agent.0.
"""


def canonical_config(xml: str) -> bytes:
    """Section ``config`` from the inactive XML. Raises XmlRefused, also for one that no reply could hold."""
    domain = safe_xml.parse(xml)
    domain.attrib.pop("id", None)
    _drop_children(domain, lambda child: child.tag == "currentMemory" or _is_runtime_seclabel(child))
    _drop_children(domain, lambda child: _is_default_resource(child) or _is_empty_metadata(child))
    for clock in domain.iterfind("clock[@offset='variable']"):
        clock.attrib.pop("adjustment", None)
    for devices in domain.iterfind("devices"):
        _prune(devices)
        _sort_controllers(devices)
    for element in domain.iter():
        for name in _SECRET & element.attrib.keys():
            del element.attrib[name]
    try:
        canonical = ET.canonicalize(ET.tostring(domain, encoding="unicode"), strip_text=True).encode()
    except ET.ParseError as error:
        # Names with two colons are well-formed, and none where namespaces are looked at, as a canonical form has to.
        msg = f"not well-formed with namespaces: {error}"
        raise XmlRefused(msg) from error
    if len(canonical) > limits.BODY_BYTES.maximum:
        msg = f"a configuration of {len(canonical)} bytes; at most {limits.BODY_BYTES.maximum} can be told"
        raise XmlRefused(msg)
    return canonical


def _prune(devices: Element) -> None:
    for parent in devices.iter():
        _drop_children(parent, _is_runtime)
    for device in devices:
        _CLEANERS.get(str(device.tag), _nothing)(device)
        for source in device.iter("source"):
            source.attrib.pop("index", None)


def _sort_controllers(devices: Element) -> None:
    """Libvirt appends those that it adds by itself, and sorts them when it next reads the definition."""
    places = [place for place, device in enumerate(devices) if device.tag == "controller"]
    ordered = sorted((devices[place] for place in places), key=_controller_rank)
    for place, controller in zip(places, ordered, strict=True):
        devices[place] = controller


def _controller_rank(controller: Element) -> tuple[str, int, str]:
    index = controller.get("index", "")
    return controller.get("type", ""), int(index) if index.isdecimal() and len(index) <= _INDEX_DIGITS else 0, index


def _is_runtime(element: Element) -> bool:
    if element.tag == "alias":
        return not element.get("name", "").startswith("ua-")
    return element.tag in _GONE or _is_runtime_seclabel(element)


def _is_runtime_seclabel(element: Element) -> bool:
    # Without a type it stands within a disk's source, where only an explicit relabel='no' is anybody's configuration.
    return element.tag == "seclabel" and element.get("type", "dynamic") == "dynamic" and element.get("relabel") != "no"


def _is_default_resource(element: Element) -> bool:
    return element.tag == "resource" and element.findtext("partition", "").strip() == "/machine"


def _is_empty_metadata(element: Element) -> bool:
    return element.tag == "metadata" and not len(element)


def _clean_disk(disk: Element) -> None:
    for target in disk.iterfind("target"):
        target.attrib.pop("tray", None)


def _clean_host_device(device: Element) -> None:
    """A USB device that is chosen by what it is gets its place on the bus at each start."""
    for source in device.iterfind("source"):
        if source.find("vendor") is not None:
            _drop_children(source, lambda child: child.tag == "address")


def _clean_vsock(vsock: Element) -> None:
    for cid in vsock.iterfind("cid[@auto='yes']"):
        cid.attrib.pop("address", None)


def _clean_graphics(graphics: Element) -> None:
    if graphics.get("autoport") == "yes":
        for name in ("port", "tlsPort"):
            graphics.attrib.pop(name, None)
    for name in [name for name in ("port", "tlsPort", "websocket") if graphics.get(name) == "-1"]:
        del graphics.attrib[name]
    graphics.attrib.pop("connected", None)
    for listen in graphics.iterfind("listen[@type='network']"):
        listen.attrib.pop("address", None)
        graphics.attrib.pop("listen", None)
    for listen in graphics.iterfind("listen[@type='socket']"):
        _drop_run_socket(listen)
        _drop_run_socket(graphics)


def _drop_run_socket(element: Element) -> None:
    if _RUN_PATH.search(element.get("socket", "")):
        del element.attrib["socket"]


def _clean_character_device(device: Element) -> None:
    device.attrib.pop("tty", None)
    for target in device.iterfind("target"):
        target.attrib.pop("state", None)
    runtime_path = device.get("type") == "pty"
    _drop_children(device, lambda child: child.tag == "source" and (runtime_path or _is_run_path(child)))


def _is_run_path(source: Element) -> bool:
    return _RUN_PATH.search(source.get("path", "")) is not None


def _clean_interface(interface: Element) -> None:
    _drop_children(
        interface, lambda child: child.tag == "target" and _NAMED_BY_LIBVIRT.fullmatch(child.get("dev", "")) is not None
    )
    for source in interface.iterfind("source"):
        source.attrib.pop("portid", None)
        if interface.get("type") == "network":
            source.attrib.pop("bridge", None)


def _clean_memory(memory: Element) -> None:
    for target in memory.iterfind("target"):
        _drop_children(target, lambda child: child.tag in {"current", "requested"})


def _nothing(_: Element) -> None:
    pass


_CLEANERS: Final = {
    "disk": _clean_disk,
    "graphics": _clean_graphics,
    "hostdev": _clean_host_device,
    "interface": _clean_interface,
    "memory": _clean_memory,
    **dict.fromkeys(("channel", "console", "parallel", "serial"), _clean_character_device),
    "vsock": _clean_vsock,
}


def _drop_children(parent: Element, unwanted: Callable[[Element], bool]) -> None:
    for child in [child for child in parent if unwanted(child)]:
        parent.remove(child)
