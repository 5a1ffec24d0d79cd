"""What a soak does to one light domain as an administrator would: moves, saves, devices, snapshots, block jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import libvirt

from tests.lab.lab import CheckFailed
from tests.lab.libvirt_pair import AS_ENGINES_DO
from tests.lab.migration import MOVING, Move, up_on

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.migration import Pair
    from tests.lab.soak_diary import Diary, Subject

PATIENCE_S: Final = 60.0
"""A snapshot is not announced: it is found when the section is read again, several times in so long."""
POLL_S: Final = 0.25
SAVED: Final = frozenset({"Up", "Saving State", "Down", "WaitForLaunch", "Restoring state", "Unknown"})
"""Unknown for some milliseconds: a roster lists the new life before its first frame says what it does."""
DISK_BYTES: Final = 1 << 20
TARGET: Final = "vda"
# USB, as such a device goes without the consent of a guest, and these have no system that could give it.
_DEVICE: Final = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='{file}'/><target dev='sda' bus='usb'/></disk>"
)
_SNAPSHOT: Final = (
    "<domainsnapshot><disks><disk name='{target}' snapshot='external'><source file='{file}'/></disk></disks>"
    "</domainsnapshot>"
)
_COPY: Final = "<disk type='file'><driver type='raw'/><source file='{file}'/></disk>"
_SNAPSHOT_FLAGS: Final = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
)


class Deeds:
    """Each deed picks a domain, wherever it is, and leaves it running with the configuration of before.

    Args:
        two: the hosts.
        light: the domains, at least one of them persistent.
        diary: where it is noted.
        lots: decides whom it meets.
    """

    def __init__(self, two: Pair, light: list[Subject], diary: Diary, lots: random.Random) -> None:
        self._two = two
        self._light = light
        self._persistent = [subject for subject in light if subject.persistent]
        self._diary = diary
        self._lots = lots

    def migrate(self, look: Callable[[], None]) -> None:
        """Move a domain to the other host, live, its definition along with it."""
        subject = self._lots.choice(self._persistent)
        to = self._two.lab.hypervisor if subject.vm in self._diary.away else self._two.peer
        with self._diary.deed(subject, "migration", MOVING):
            move = Move(self._domain(subject), to, AS_ENGINES_DO)
            self._until("the migration ends", lambda: move.over, look)
            move.end(well=True)
            self._diary.away ^= {subject.vm}
            self._until_as_ever(subject, look)

    def save(self, look: Callable[[], None]) -> None:
        """Save a domain, as libvirt-guests does at the host's shutdown, and start it again."""
        subject = self._lots.choice(self._persistent)
        with self._diary.deed(subject, "managed save", SAVED):
            domain = self._domain(subject)
            domain.managedSave()
            down = self._two.lab.status_is(subject.vm, "Down")
            self._until(f"{subject.name} is Down", down, look)
            domain.create()
            self._until_as_ever(subject, look)

    def plug(self, look: Callable[[], None]) -> None:
        """Plug a device in and take it out."""
        subject = self._lots.choice(self._light)
        file = self._file(subject, "plugged")
        file.write_bytes(bytes(DISK_BYTES))
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if subject.persistent else 0)
        device = _DEVICE.format(file=file)
        with self._diary.altering(subject, "device"):
            domain = self._domain(subject)
            domain.attachDeviceFlags(device, flags)
            self._until_another(subject, look)
            domain.detachDeviceFlags(device, flags)
            self._until_as_ever(subject, look)
        file.unlink()

    def snapshot(self, look: Callable[[], None]) -> None:
        """Let a domain write to a file of its own, and commit that."""
        subject = self._lots.choice(self._light)
        file = self._file(subject, "overlay")
        with self._diary.altering(subject, "snapshot"):
            domain = self._domain(subject)
            domain.snapshotCreateXML(_SNAPSHOT.format(target=TARGET, file=file), _SNAPSHOT_FLAGS)
            self._until_another(subject, look)
            domain.blockCommit(TARGET, None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
            self._until("the commit is ready", lambda: _ready(domain), look)
            domain.blockJobAbort(TARGET, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            self._until_as_ever(subject, look)
        file.unlink()

    def copy(self, look: Callable[[], None]) -> None:
        """Mirror a disk, as a storage migration does, and give it up."""
        subject = self._lots.choice(self._light)
        file = self._file(subject, "copy")
        with self._diary.trying(subject, "block copy"):
            domain = self._domain(subject)
            domain.blockCopy(TARGET, _COPY.format(file=file), {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
            self._until("the copy is ready", lambda: _ready(domain), look)
            look()
            domain.blockJobAbort(TARGET)
        file.unlink()

    def _domain(self, subject: Subject) -> libvirt.virDomain:
        return self._two.on(self._diary.host(subject.vm)).lookupByUUIDString(subject.vm)

    def _file(self, subject: Subject, what: str) -> Path:
        return self._two.lab.hypervisor.root / "disks" / f"{subject.name}.{what}"

    def _until_another(self, subject: Subject, look: Callable[[], None]) -> None:
        """Wait until the view has another hash of its configuration than the first one."""

        def holds() -> bool:
            config = (self._two.lab.row(subject.vm) or {})["hashes"].get("config")
            return self._diary.config_may_be(subject.vm, config) and config not in {None, self._diary.first[subject.vm]}

        self._until(f"another configuration of {subject.name}", holds, look)

    def _until_as_ever(self, subject: Subject, look: Callable[[], None]) -> None:
        """Wait until it is Up where it was put, with the first hash of its configuration."""

        def holds() -> bool:
            row = self._two.lab.row(subject.vm) or {}
            as_ever = row["hashes"].get("config") == self._diary.first[subject.vm]
            return as_ever and up_on(row, self._diary.host(subject.vm))

        self._until(f"{subject.name} is as it was", holds, look)

    def _until(self, what: str, holds: Callable[[], bool], look: Callable[[], None]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                raise CheckFailed(f"not within {PATIENCE_S:g} s: {what}")
            look()
            time.sleep(POLL_S)


def _ready(domain: libvirt.virDomain) -> bool:
    """Whether its block job has caught up, so that it may be ended."""
    return "ready='yes'" in domain.XMLDesc(0)
