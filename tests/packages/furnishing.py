"""What stands in a machine before its first boot: Debian, RabbitMQ, libvirt, a real guest, and our package."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.compose.base_images import RELEASE, debian_mirror
from tests.lab import guest_image
from tests.packages.machine import HOSTNAME, Machine, MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY: Final = Path(__file__).parents[2]
PAGE: Final = REPOSITORY / "docs" / "operating.md"
IMAGES: Final = REPOSITORY / ".vmpulse" / "guests"
INCLUDE: Final = (
    *("systemd-sysv", "dbus", "libpam-systemd", "iproute2", "python3", "libvirt0"),
    *("libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "rabbitmq-server"),
)
"""What apt would bring along, an engine's machine and a hypervisor host in one; debootstrap takes no alternatives, so
that libpam-systemd, for polkit's logind, is named."""
DEBOOTSTRAP_S: Final = 900
ASIDE: Final = (
    *("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
"""What debootstrap mounts in the root, and what it starts there, goes with it, however it ends."""
GUEST: Final = "guest"
GUEST_ADDRESS: Final = "10.99.0.11"
PASSWORD: Final = "word-of-an-administrator"
POOL: Final = "/var/lib/libvirt/images"
DISK: Final = "64M"


def furnish(machine: Machine, package: Path, say: Callable[[str], None]) -> None:
    """Make the machine's root. Raises MachineError, CalledProcessError, ImageError."""
    say("debootstrap ...")
    bootstrap(machine.root)
    machine.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {HOSTNAME}.example.org {HOSTNAME}\n")
    machine.write("/etc/hostname", f"{HOSTNAME}\n")
    shutil.copyfile(package, machine.root / "root" / "vmpulse.deb")
    # Where a checkout would be: the documented commands take units from there.
    shutil.copytree(REPOSITORY / "deploy" / "systemd", machine.root / "root" / "deploy" / "systemd")
    furnish_guest(machine, say)


def bootstrap(root: Path) -> None:
    """A Debian from wherever this machine's apt gets it. Raises MachineError."""
    mirror = debian_mirror()
    command = (*ASIDE, "debootstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", RELEASE, str(root))
    done = subprocess.run(
        [*command, *([mirror] if mirror else [])], capture_output=True, text=True, timeout=DEBOOTSTRAP_S, check=False
    )
    if done.returncode:
        raise MachineError(f"debootstrap failed: {done.stdout[-400:]}")


def furnish_guest(machine: Machine, say: Callable[[str], None]) -> None:
    """A guest of the lab, which runs as Debian's libvirt runs guests; and the bridge that it is on, at each boot."""
    image = guest_image.build(IMAGES, say)
    pool = machine.root / POOL.lstrip("/")
    shutil.copyfile(image.kernel, pool / "vmlinuz")
    shutil.copyfile(image.initrd, pool / "initrd")
    command = ("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", str(pool / f"{GUEST}.raw"), DISK)
    subprocess.run(command, capture_output=True, check=True)
    machine.write("/root/guest.xml", _GUEST)
    machine.write("/etc/systemd/system/lab-bridge.service", _BRIDGE)
    wanted = machine.root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "lab-bridge.service").symlink_to("/etc/systemd/system/lab-bridge.service")


def documented(first_line: str) -> str:
    """The commands of operating.md that begin with this line, without their indentation. Raises MachineError."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^    {re.escape(first_line)}.*\n(?:(?:    .*)?\n)*?(?=\S)", page, re.MULTILINE)
    if found is None:
        raise MachineError(f"operating.md has no block that begins with: {first_line}")
    return "".join(f"{line.removeprefix('    ')}\n" for line in found[0].splitlines()).rstrip() + "\n"


_GUEST: Final = f"""\
<domain type='qemu'>
  <name>{GUEST}</name>
  <memory unit='MiB'>96</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{POOL}/vmlinuz</kernel>
    <initrd>{POOL}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=1 vmpulse.name={GUEST} vmpulse.ip={GUEST_ADDRESS}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{POOL}/{GUEST}.raw'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'><source bridge='lab0'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <memballoon model='virtio'><stats period='2'/></memballoon>
  </devices>
</domain>
"""
_BRIDGE: Final = """\
[Unit]
Description=the bridge that guests are on
Before=libvirtd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link add lab0 type bridge
ExecStart=ip link set lab0 up

[Install]
WantedBy=multi-user.target
"""
