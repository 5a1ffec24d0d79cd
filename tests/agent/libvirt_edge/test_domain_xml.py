"""Domain XML: what is read of it, what is refused, and that the canonical form is canonical."""

from __future__ import annotations

import random
import re
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.libvirt_edge.mangled_xml import mangled
from tests.agent.libvirt_edge.recorded import ACTIVE_XML, INACTIVE_XML
from vmpulse_agent.libvirt_edge import safe_xml
from vmpulse_agent.libvirt_edge.canonical_xml import canonical_config
from vmpulse_agent.libvirt_edge.domain_xml import device_facts, facts, info_from_xml
from vmpulse_agent.libvirt_edge.safe_xml import XML_DEPTH, XmlRefused
from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_contract import sections
from vmpulse_contract.sections import Info, Section
from vmpulse_contract.values import BootDevice, DisplayType

EMPTY = "<domain type='kvm'><name>x</name><devices>{}</devices></domain>"
CONFIG = canonical_config(INACTIVE_XML)


def test_info_of_a_running_domain() -> None:
    """Every field from the source that gives it."""
    assert info_from_xml(ACTIVE_XML, 4711) == Info(
        vm_name="d0",
        acpi_enable=True,
        display_type=DisplayType.VNC,
        display_port=5900,
        display_ip="127.0.0.1",
        pid=4711,
        vm_type="qemu",
        kvm_enable=False,
        cdrom="/images/install.iso",
        boot=BootDevice.DISK,
    )


def test_what_is_not_there_is_absent() -> None:
    """No graphics, no boot device, no port yet: nothing stands in for them."""
    assert info_from_xml(EMPTY.format("")) == Info(vm_name="x", acpi_enable=False, vm_type="kvm", kvm_enable=True)
    waiting = EMPTY.format("<graphics type='spice' port='-1' autoport='yes'/>")
    assert info_from_xml(waiting).display_type is DisplayType.QXL
    assert info_from_xml(waiting).display_port is None


@pytest.mark.parametrize(
    "devices,letter",
    [
        ("<disk device='disk'><boot order='2'/></disk><disk device='cdrom'><boot order='1'/></disk>", BootDevice.CDROM),
        ("<interface><boot order='1'/></interface><disk><boot order='10'/></disk>", BootDevice.NETWORK),
        ("<disk device='floppy'><boot order='1'/></disk>", BootDevice.FLOPPY),
        ("<disk><boot order='3'/></disk>", BootDevice.DISK),
        ("<hostdev><boot order='1'/></hostdev>", None),
        ("<disk><boot order='soon'/></disk>", None),
    ],
)
def test_boot_order_of_devices(devices: str, letter: BootDevice | None) -> None:
    """<boot order> says which device is first."""
    assert info_from_xml(EMPTY.format(devices)).boot is letter


@pytest.mark.parametrize("dev,letter", [("fd", "a"), ("hd", "c"), ("cdrom", "d"), ("network", "n")])
def test_boot_device_of_the_system(dev: str, letter: str) -> None:
    """<os><boot dev> in the seed's letters."""
    assert info_from_xml(f"<domain><os><boot dev='{dev}'/><boot dev='hd'/></os></domain>").boot == letter


def test_facts_beside_info() -> None:
    """Agent channel and clock."""
    assert facts(ACTIVE_XML).agent_connected
    assert facts(ACTIVE_XML).time_offset == 3600
    assert not facts(INACTIVE_XML).agent_connected
    assert facts("<domain><clock offset='utc'/></domain>").time_offset is None


def test_device_facts() -> None:
    """Joined to the statistics by target name."""
    found = device_facts(ACTIVE_XML)
    assert found.macs == {"vnet0": "52:54:00:c9:a7:5d"}
    assert found.image_ids == {"vda": "disk-d0"}
    assert found.lengths == {"vda": "capacity"}
    assert (found.balloon, found.balloon_min) == (True, 0)
    disks = "".join(
        f"<disk type='{kind}'><driver type='{driver}'/><target dev='{name}'/></disk>"
        for name, kind, driver in (("a", "file", "qcow2"), ("b", "block", "qcow2"), ("c", "network", "raw"))
    )
    assert device_facts(EMPTY.format(disks)).lengths == {"b": "physical", "c": "capacity"}
    text = "<domain><memtune><min_guarantee unit='MiB'>2</min_guarantee></memtune></domain>"
    assert (device_facts(text).balloon, device_facts(text).balloon_min) == (False, 2048)


@pytest.mark.parametrize(
    "hostile",
    [
        "<!DOCTYPE domain [<!ENTITY a 'aaaa'>]><domain>&a;</domain>",
        "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>",
        "<domain>&undefined;</domain>",
        "<domain>" * (XML_DEPTH + 1) + "</domain>" * (XML_DEPTH + 1),
        "<domain>" + " " * safe_xml.XML_BYTES + "</domain>",
        "<domain",
        "",
        "<domain>\x00</domain>",
        "<a/><b/>",
    ],
)
def test_hostile_xml_is_refused(hostile: str) -> None:
    """No DTD, no entity, no depth, no size, and nothing that is not XML."""
    for read in (info_from_xml, device_facts, canonical_config):
        with pytest.raises(XmlRefused):
            read(hostile)


def test_guest_visible_text_is_cleaned() -> None:
    """A name that turns the line around does not travel as such."""
    assert info_from_xml("<domain><name>a\u202eb</name></domain>").vm_name == "ab"


def test_active_and_inactive_form_agree() -> None:
    """All that a start fills in is on the list: the definition is the same before and during a run."""
    assert canonical_config(ACTIVE_XML) == CONFIG


def test_secrets_do_not_travel() -> None:
    """Not even where libvirt would hand them out."""
    assert b"secret" not in canonical_config(ACTIVE_XML)
    other = INACTIVE_XML.replace(
        "autoport='yes'", "autoport='yes' passwd='hunter2' passwdValidTo='2030-01-01T00:00:00'"
    )
    assert canonical_config(other) == CONFIG


@pytest.mark.parametrize(
    "old,new",
    [
        (">8192<", ">4096<"),
        ("adjustment='0'", "adjustment='77'"),
        ("<target type='virtio' name", "<target state='disconnected' type='virtio' name"),
        ("<domain type='qemu'>", "<!-- edited by hand --><domain type='qemu'>"),
        ("</name>", "</name><metadata/>"),
        ("<target dev='sda' bus='sata'/>", "<target dev='sda' bus='sata' tray='open'/>"),
    ],
)
def test_volatile_values_do_not_matter(old: str, new: str) -> None:
    """Ballooning, the guest's clock, a coming agent, comments."""
    assert old in INACTIVE_XML
    assert canonical_config(INACTIVE_XML.replace(old, new)) == CONFIG


@pytest.mark.parametrize(
    "old,new",
    [
        (">16384<", ">32768<"),
        ("/images/d0.raw", "/images/d1.raw"),
        ("/images/install.iso", "/images/another.iso"),
        (">1</vcpu>", ">2</vcpu>"),
        ("bridge='lab0'", "bridge='lab1'"),
        ("port='-1' autoport='yes'", "port='5901' autoport='no'"),
        ("<mac address='52:54:00:c9:a7:5d'/>", "<mac address='52:54:00:c9:a7:5d'/><alias name='ua-mine'/>"),
        ("<mac address='52:54:00:c9:a7:5d'/>", "<mac address='52:54:00:c9:a7:5d'/><target dev='tap-db'/>"),
        ("</devices>", "</devices><seclabel type='static' model='dac'><label>a</label></seclabel>"),
        ("</name>", "</name><metadata><o:x xmlns:o='urn:o' a='1'/></metadata>"),
    ],
)
def test_configured_values_do(old: str, new: str) -> None:
    """What somebody has configured changes the bytes."""
    assert old in INACTIVE_XML
    assert canonical_config(INACTIVE_XML.replace(old, new, 1)) != CONFIG


@pytest.mark.parametrize(
    "before,after",
    [
        (
            "<controller type='usb' index='0'/><controller type='pci' index='2'/><controller type='pci' index='10'/>",
            "<controller type='pci' index='10'/><controller type='usb' index='0'/><controller type='pci' index='2'/>",
        ),
        ("<vsock><cid auto='yes'/></vsock>", "<vsock><cid auto='yes' address='5'/></vsock>"),
        (
            "<hostdev type='usb'><source><vendor id='0x1'/></source></hostdev>",
            "<hostdev type='usb'><source><vendor id='0x1'/><address bus='1' device='9'/></source></hostdev>",
        ),
        (
            "<graphics type='vnc'><listen type='socket'/></graphics>",
            "<graphics type='vnc' socket='/domain-3-a/v'><listen type='socket' socket='/domain-3-a/v'/></graphics>",
        ),
        (
            "<channel type='unix'><target name='g'/></channel>",
            "<channel type='unix'><source path='/run/channel/7-a/g'/><target name='g' state='connected'/></channel>",
        ),
    ],
)
def test_what_starts_and_rereads_bring(before: str, after: str) -> None:
    """Controllers that libvirt adds at the end and sorts when it next reads; context ids, places on a bus, paths."""
    assert canonical_config(EMPTY.format(before)) == canonical_config(EMPTY.format(after))


def test_an_order_that_means_something_stays() -> None:
    """Disks and cards are told apart by their order in some guests; a host device by a place that somebody chose."""
    disks = "<disk><target dev='vda'/></disk><disk><target dev='vdb'/></disk>"
    swapped = "<disk><target dev='vdb'/></disk><disk><target dev='vda'/></disk>"
    assert canonical_config(EMPTY.format(disks)) != canonical_config(EMPTY.format(swapped))
    place = "<hostdev type='usb'><source><address bus='1' device='{}'/></source></hostdev>"
    assert canonical_config(EMPTY.format(place.format(1))) != canonical_config(EMPTY.format(place.format(2)))


def test_prefixes_stay_as_written() -> None:
    """Namespaced metadata reads as it was written."""
    text = INACTIVE_XML.replace("</name>", "</name><metadata><ovirt:vm xmlns:ovirt='urn:o'>x</ovirt:vm></metadata>")
    assert b'<ovirt:vm xmlns:ovirt="urn:o">x</ovirt:vm>' in canonical_config(text)


def shuffled(xml: str, lots: random.Random) -> str:
    """The same document: attributes in another order, other quotes, other white space."""

    def tag(match: re.Match[str]) -> str:
        attributes = re.findall(r"([\w:]+)='([^']*)'", match[2])
        lots.shuffle(attributes)
        text = "".join(lots.choice((" ", "\n  ", "\t")) + f"{name}={quoteattr(value)}" for name, value in attributes)
        return f"<{match[1]}{text}{lots.choice(('', ' '))}{match[3]}>"

    spread = re.sub(r"<([\w:]+)((?:\s+[\w:]+='[^']*')*)\s*(/?)>", tag, xml)
    return re.sub(r">\s*\n\s*<", lambda _: f">{lots.choice(('', ' ', chr(10)))}<", spread)


@given(st.randoms(use_true_random=False), st.sampled_from([ACTIVE_XML, INACTIVE_XML]))
def test_order_and_white_space_do_not_matter(lots: random.Random, xml: str) -> None:
    """The canonical form is one for all ways of writing the document."""
    assert canonical_config(shuffled(xml, lots)) == CONFIG


def test_canonical_form_is_a_fixed_point() -> None:
    """Reading what we write gives the same."""
    assert canonical_config(CONFIG.decode()) == CONFIG


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "1_000", "\u0665", "0x10", "1.5", "", "-"])
def test_what_is_no_number_of_the_wire_costs_its_field_alone(number: str) -> None:
    """Numbers that no integer of the wire holds, or that only Python reads as such, are absent; the rest is told."""
    xml = EMPTY.format(f"<graphics type='vnc' port='{number}'/>").replace(
        "<devices>", f"<memtune><min_guarantee>{number}</min_guarantee></memtune><devices>"
    )
    info = info_from_xml(xml)
    assert (info.vm_name, info.display_type, info.display_port) == ("x", DisplayType.VNC, None)
    assert sections.encode(info)
    assert device_facts(xml).balloon_min == 0


@given(mangled())
def test_any_document_is_read_or_refused(xml: str) -> None:
    """Whatever stands where, what is read of it can be sent, is clean, and the configuration is a fixed point."""
    try:
        found = facts(xml)
        device_facts(xml)
        config = canonical_config(xml)
    except XmlRefused:
        return
    body = sections.encode(found.info)
    assert sections.decode(Section.INFO, body) == found.info
    for text in (found.info.vm_name, found.info.display_ip, found.info.vm_type, found.info.cdrom):
        assert text == clean(text)
    assert canonical_config(config.decode()) == config


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else comes out of the parser."""
    try:
        info_from_xml(text)
    except XmlRefused:
        return
