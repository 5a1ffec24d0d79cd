"""The section bodies of the VMs of a large fleet: those of a template, with each VM's own name and addresses.

As of the simulator's VMs no two bodies are equal but by chance: a name, an address or a MAC is in each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from vmpulse_contract import wire
from vmpulse_contract.sections import GuestDetails, Info, NetIface, Section, Status

if TYPE_CHECKING:
    from vmpulse_agent.hypervisor import SectionReading
    from vmpulse_contract.sections import SectionBody


def body(template: SectionReading, section: Section, number: int, version: int) -> bytes | None:
    """Give the body of the VM of this number in the fleet after so many changes; None: it has no such section.

    ``config`` has no body: a stand-in for its content, to be hashed.
    """
    if section is Section.CONFIG:
        return None if template.config is None else b"%d %d" % (number, version)
    content = _content(template, section, number, version)
    # Not ``sections.encode``: what it checks and sorts was checked and sorted when the template was made.
    return None if content is None else wire.write_canonical(content)


def _content(template: SectionReading, section: Section, number: int, version: int) -> SectionBody | None:
    match section:
        case Section.INFO:
            return None if template.info is None else _info(template.info, number, version)
        case Section.STATUS:
            return None if template.status is None else _status(template.status, number, version)
        case _:
            return None if template.guest_details is None else _details(template.guest_details, number, version)


def _info(info: Info, number: int, version: int) -> Info:
    stem = (info.vm_name or "vm").rpartition("-")[0]
    medium = f"/var/lib/vms/iso/{version}.iso" if version else info.cdrom
    return structs.replace(info, vm_name=f"{stem}-{number:07d}", cdrom=medium)


def _status(status: Status, number: int, version: int) -> Status:
    own = status.guest_ips and (_address(number),)
    return structs.replace(status, guest_ips=own, username=f"user{version}" if version else status.username)


def _details(details: GuestDetails, number: int, version: int) -> GuestDetails:
    own = tuple(_interface(each, number) for each in details.net_ifaces or ())
    apps = details.apps_list or ()
    if version and apps:
        apps = (*apps[:-1], f"{apps[-1]}+u{version}")
    return structs.replace(details, apps_list=apps, net_ifaces=own)


def _interface(interface: NetIface, number: int) -> NetIface:
    if interface.name == "lo":
        return interface
    mac = f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return structs.replace(interface, hw=mac, inet=(_address(number),), inet6=(f"2001:db8::{number:x}:0",))


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
