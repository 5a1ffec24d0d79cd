"""The configuration of a simulated domain as libvirt would write it for the inactive domain, already canonical."""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr


class Definition(NamedTuple):
    """What of a domain's definition differs between domains or is edited."""

    name: str
    uuid: str
    title: str
    memory_mib: int
    vcpus: int
    mac: str
    spice: bool
    cdrom: str | None
    description: str
    disks: int


def config_xml(definition: Definition) -> bytes:
    """Write the domain's configuration."""
    source = f"\n      <source file={quoteattr(definition.cdrom)}/>" if definition.cdrom else ""
    return TEMPLATE.format(
        name=escape(definition.name),
        uuid=definition.uuid,
        title=escape(definition.title),
        description=escape(definition.description),
        memory_kib=definition.memory_mib * 1024,
        vcpus=definition.vcpus,
        mac=definition.mac,
        cdrom_source=source,
        graphics=SPICE if definition.spice else VNC,
        disks="".join(disk_xml(definition.uuid, number) for number in range(definition.disks)),
    ).encode()


def disk_xml(uuid: str, number: int) -> str:
    """Write one disk."""
    return DISK.format(uuid=uuid, number=number, letter="abcdefgh"[number])


SPICE = """    <graphics type="spice" autoport="yes">
      <listen type="address"/>
      <image compression="off"/>
    </graphics>"""

VNC = """    <graphics type="vnc" port="-1" autoport="yes">
      <listen type="address"/>
    </graphics>"""

DISK = """    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none" io="native" discard="unmap"/>
      <source file="/var/lib/vms/images/{uuid}/vd{letter}.qcow2"/>
      <target dev="vd{letter}" bus="virtio"/>
      <serial>{uuid}-{number}</serial>
      <address type="pci" domain="0x0000" bus="0x04" slot="0x0{number}" function="0x0"/>
    </disk>
"""

TEMPLATE = """<domain type="kvm">
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <title>{title}</title>
  <description>{description}</description>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit="KiB">{memory_kib}</memory>
  <currentMemory unit="KiB">{memory_kib}</currentMemory>
  <vcpu placement="static">{vcpus}</vcpu>
  <resource>
    <partition>/machine</partition>
  </resource>
  <os>
    <type arch="x86_64" machine="pc-q35-7.2">hvm</type>
    <boot dev="hd"/>
    <bootmenu enable="no"/>
  </os>
  <features>
    <acpi/>
    <apic/>
    <vmport state="off"/>
  </features>
  <cpu mode="host-model" check="partial">
    <topology sockets="{vcpus}" dies="1" cores="1" threads="1"/>
  </cpu>
  <clock offset="utc">
    <timer name="rtc" tickpolicy="catchup"/>
    <timer name="pit" tickpolicy="delay"/>
    <timer name="hpet" present="no"/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <pm>
    <suspend-to-mem enabled="no"/>
    <suspend-to-disk enabled="no"/>
  </pm>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{disks}    <disk type="file" device="cdrom">
      <driver name="qemu" type="raw"/>{cdrom_source}
      <target dev="sda" bus="sata"/>
      <readonly/>
      <address type="drive" controller="0" bus="0" target="0" unit="0"/>
    </disk>
    <controller type="usb" index="0" model="qemu-xhci" ports="15">
      <address type="pci" domain="0x0000" bus="0x02" slot="0x00" function="0x0"/>
    </controller>
    <controller type="sata" index="0">
      <address type="pci" domain="0x0000" bus="0x00" slot="0x1f" function="0x2"/>
    </controller>
    <controller type="pci" index="0" model="pcie-root"/>
    <controller type="pci" index="1" model="pcie-root-port">
      <model name="pcie-root-port"/>
      <target chassis="1" port="0x10"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x02" function="0x0" multifunction="on"/>
    </controller>
    <controller type="virtio-serial" index="0">
      <address type="pci" domain="0x0000" bus="0x03" slot="0x00" function="0x0"/>
    </controller>
    <interface type="bridge">
      <mac address="{mac}"/>
      <source bridge="br0"/>
      <model type="virtio"/>
      <address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/>
    </interface>
    <serial type="pty">
      <target type="isa-serial" port="0">
        <model name="isa-serial"/>
      </target>
    </serial>
    <console type="pty">
      <target type="serial" port="0"/>
    </console>
    <channel type="unix">
      <target type="virtio" name="org.qemu.guest_agent.0"/>
      <address type="virtio-serial" controller="0" bus="0" port="1"/>
    </channel>
    <input type="tablet" bus="usb">
      <address type="usb" bus="0" port="1"/>
    </input>
{graphics}
    <video>
      <model type="virtio" heads="1" primary="yes"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x01" function="0x0"/>
    </video>
    <memballoon model="virtio">
      <stats period="5"/>
      <address type="pci" domain="0x0000" bus="0x05" slot="0x00" function="0x0"/>
    </memballoon>
    <rng model="virtio">
      <backend model="random">/dev/urandom</backend>
      <address type="pci" domain="0x0000" bus="0x06" slot="0x00" function="0x0"/>
    </rng>
  </devices>
</domain>
"""
