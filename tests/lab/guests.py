"""Real Linux guests of the lab: a kernel, busybox and the guest agent under emulation, and how to order them about.

A guest has a virtio disk with a mounted ext4 file system, a card on the lab's bridge with a fixed address, a balloon
that reports every 2 s, VNC, a CD drive, the channel of the guest agent, and a channel of the lab's own. Through the
latter the lab runs shell commands inside, whatever state the guest agent is in.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from tests.lab import guest_image
from tests.lab.lab import CheckFailed
from tests.lab.private_libvirt import BRIDGE
from vmpulse_agent.libvirt_edge import safe_xml

if TYPE_CHECKING:
    from collections.abc import Callable

    import libvirt

    from tests.lab.checks import Bench
    from tests.lab.guest_image import GuestImage
    from tests.lab.private_libvirt import PrivateLibvirt

IMAGES: Final = Path(".vmpulse/guests")
BRIDGE_ADDRESS: Final = "10.99.0.1"
MEMORY_MIB: Final = 96
"""64 MiB hang while booting, 72 panic, 80 just do."""
DISK_MIB: Final = 64
BOOT_S: Final = 90.0
"""Bound for one guest; it takes 5 s on an idle core."""
ORDER_S: Final = 20.0
ORDERS_CHANNEL: Final = "vmpulse.lab.orders"
ORDERS_SOURCE: Final = f"devices/channel/target[@name='{ORDERS_CHANNEL}']/../source"
AGENT_TARGET: Final = "devices/channel/target[@name='org.qemu.guest_agent.0']"

AgentMode = Literal["normal", "hang", "flood", "garbage", "none"]


class Guest:
    """One real guest; made by ``define``.

    ``agent`` tells how its guest agent behaves: normal; hang reads and never answers; flood answers the first question
    with 64 MB; garbage answers each with broken UTF-8, control characters or JSON of the wrong shape; none is silent.
    """

    def __init__(self, hypervisor: PrivateLibvirt, domain: libvirt.virDomain, address: str) -> None:
        self.hypervisor = hypervisor
        self.domain = domain
        self.address = address
        self.name: str = domain.name()
        self.uuid: str = domain.UUIDString()
        self._channel: socket.socket | None = None
        self._number = 0

    @property
    def console(self) -> str:
        """What the guest has written to its serial console since its start."""
        with contextlib.suppress(FileNotFoundError):
            return _console(self.hypervisor, self.name).read_text("utf-8", "replace")
        return ""

    @property
    def disk(self) -> Path:
        """The image file of its disk on the host."""
        return _disk(self.hypervisor, self.name)

    @property
    def pid(self) -> int:
        """The pid of its QEMU."""
        return self.hypervisor.domain_pid(self.name)

    @property
    def agent_connected(self) -> bool:
        """Whether libvirt sees somebody at the guest's end of the guest agent's channel."""
        channel = safe_xml.parse(self.domain.XMLDesc(0)).find(AGENT_TARGET)
        return channel is not None and channel.get("state") == "connected"

    def start(self) -> None:
        """Start it; it has not booted when this returns."""
        self._hang_up()
        _console(self.hypervisor, self.name).unlink(missing_ok=True)
        self.domain.create()

    def wait(self, seconds: float = BOOT_S) -> None:
        """Wait until it takes orders. Raises CheckFailed with the end of its console."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.order("true", 2.0)
            except OSError as error:
                if time.monotonic() > end:
                    text = f"{self.name} does not boot within {seconds:g} s ({error}): {self.console[-500:]}"
                    raise CheckFailed(text) from error
                time.sleep(0.1)
            else:
                return

    def order(self, command: str, seconds: float = ORDER_S) -> str:
        """Run a shell command in the guest and give what it says. One line; it must not wait for input.

        Raises:
            CheckFailed: it ended with another code than 0.
            OSError: the guest did not answer in time, or is not there.
        """
        self._number += 1
        try:
            said, code = self._ask(command, time.monotonic() + seconds)
        except OSError:
            self._hang_up()
            raise
        if code:
            raise CheckFailed(f"in {self.name}, `{command}` ended with {code}: {said}")
        return said

    def load(self, *kinds: Literal["cpu", "disk", "net", "memory"]) -> None:
        """Keep it busy with these, or with nothing."""
        self.order(f"/sbin/load {','.join(kinds) or 'none'}")

    def reboot(self) -> None:
        """Make it reboot from inside, and wait until it has booted again."""
        self.tell("reboot -f")
        self._hang_up()
        self.wait()

    def power_off(self) -> None:
        """Make it power off from inside."""
        self.tell("sync; poweroff -f")
        self._hang_up()

    def tell(self, command: str) -> None:
        """Give an order that has no answer."""
        self._number += 1
        self._connected(time.monotonic() + ORDER_S).sendall(f"{self._number} {command}\n".encode())

    def _ask(self, command: str, end: float) -> tuple[str, int]:
        channel = self._connected(end)
        channel.sendall(f"{self._number} {command}\n".encode())
        mark = f"\n== {self._number} ".encode()
        heard = b""
        while mark not in heard or not heard.endswith(b"\n"):
            channel.settimeout(max(0.01, end - time.monotonic()))
            part = channel.recv(1 << 16)
            if not part:
                raise ConnectionResetError(f"{self.name} has gone")
            heard += part
        said, _, code = heard.decode("utf-8", "replace").rpartition(mark.decode())
        # Answers to older orders may precede: those of which nobody waited for the end.
        return said.rpartition("\n== ")[2].partition("\n")[2] if "\n== " in said else said, int(code)

    def _connected(self, end: float) -> socket.socket:
        if self._channel is None:
            channel = socket.socket(socket.AF_UNIX)
            channel.settimeout(max(0.01, end - time.monotonic()))
            try:
                _connect(channel, self._socket())
            except OSError:
                channel.close()
                raise
            self._channel = channel
        return self._channel

    def _socket(self) -> Path:
        """Where QEMU listens, as seen from outside the namespaces: libvirt's own folder is below its root."""
        channel = safe_xml.parse(self.domain.XMLDesc(0)).find(ORDERS_SOURCE)
        if channel is None:
            raise ConnectionRefusedError(f"{self.name} does not run")
        inside = Path(channel.get("path", ""))
        return self.hypervisor.root / "lib" / inside.relative_to("/var/lib/libvirt")

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def close(self) -> None:
        """Let go of the channel; the guest runs on."""
        self._hang_up()


def _connect(channel: socket.socket, path: Path) -> None:
    """Connect by way of the folder's descriptor: the path itself may be longer than a socket's may be."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        channel.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _console(hypervisor: PrivateLibvirt, name: str) -> Path:
    return hypervisor.root / "disks" / f"{name}.console"


def _disk(hypervisor: PrivateLibvirt, name: str) -> Path:
    return hypervisor.root / "disks" / f"{name}.ext4"


def prepare(hypervisor: PrivateLibvirt) -> None:
    """Give the lab's bridge the address that guests talk to; may be repeated."""
    inside = ("nsenter", "--net", f"--target={hypervisor.keeper_pid}")
    subprocess.run((*inside, "ip", "addr", "replace", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE), check=True)


def define(
    hypervisor: PrivateLibvirt,
    connection: libvirt.virConnect,
    image: GuestImage,
    number: int,
    *,
    agent: AgentMode = "normal",
) -> Guest:
    """Define guest ``guest-NUMBER`` with the address 10.99.0.(10 + NUMBER).

    Args:
        hypervisor: where; ``prepare`` it before the first start.
        connection: to that libvirt, read-write.
        image: what it boots.
        number: 1 to 200.
        agent: how its guest agent behaves from its boot on.
    """
    name, address = f"guest-{number}", f"10.99.0.{10 + number}"
    orders = f"vmpulse.name={name} vmpulse.ip={address} vmpulse.agent={agent}"
    disk, cdrom = _disk(hypervisor, name), hypervisor.root / "disks" / "guests.iso"
    disk.parent.mkdir(exist_ok=True)
    _make_file_system(disk)
    with cdrom.open("ab") as file:
        file.truncate(1 << 16)
    xml = _GUEST.format(
        name=name,
        uuid=uuid4(),
        memory=MEMORY_MIB,
        kernel=image.kernel.resolve(),
        initrd=image.initrd.resolve(),
        orders=f"console=ttyS0 quiet panic=1 {orders}",
        disk=disk,
        cdrom=cdrom,
        bridge=BRIDGE,
        address=BRIDGE_ADDRESS,
        mac=f"52:54:00:99:00:{number:02x}",
        console=_console(hypervisor, name),
        channel=ORDERS_CHANNEL,
    )
    return Guest(hypervisor, connection.defineXML(xml), address)


def _make_file_system(disk: Path) -> None:
    command = ("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", str(disk), f"{DISK_MIB}M")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckFailed(f"mke2fs failed: {done.stderr}")


def guests_boot(bench: Bench) -> None:
    """Each real guest boots, takes orders, and its guest agent is connected."""
    lab = bench.lab
    image = guest_image.build(IMAGES, bench.say)
    prepare(lab.hypervisor)
    for number in range(1, bench.guests_wanted + 1):
        guest = define(lab.hypervisor, lab.connection, image, number)
        bench.guests[guest.name] = guest
        guest.start()
    for guest in bench.guests.values():
        guest.wait()
        lab.until(f"{guest.name}: guest agent connected", lambda guest=guest: guest.agent_connected, BOOT_S)  # type: ignore[misc]


SETUP: Final[tuple[Callable[[Bench], None], ...]] = (guests_boot,)
"""What the checks on real guests stand on."""

_GUEST: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{orders}</cmdline>
    <boot dev='hd'/>
  </os>
  <features><acpi/><tcg><tb-cache unit='MiB'>16</tb-cache></tcg></features>
  <clock offset='variable' adjustment='0' basis='utc'/>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
      <serial>image-{name}</serial>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='{cdrom}'/>
      <target dev='hda' bus='ide'/>
      <readonly/>
    </disk>
    <interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><model type='virtio'/></interface>
    <serial type='file'><source path='{console}'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><target type='virtio' name='{channel}'/></channel>
    <graphics type='vnc' port='-1' autoport='yes'><listen type='address' address='{address}'/></graphics>
    <memballoon model='virtio'><stats period='2'/></memballoon>
  </devices>
</domain>
"""
