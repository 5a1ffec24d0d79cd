"""Enumerated values of the wire: VDSM's names, so that an engine finds what it knows (oVirt, lib/vdsm/virt).

A value that this version does not know becomes UNKNOWN, and the message lives: fleets are upgraded host by host.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Self


class VmStatus(IntEnum):
    """Status of a VM. The number travels in frames; ``label`` is VDSM's literal (vmstatus.py), spaces and case kept."""

    DOWN = 0
    UP = 1
    POWERING_UP = 2
    POWERING_DOWN = 3
    PAUSED = 4
    REBOOT_IN_PROGRESS = 5
    WAIT_FOR_LAUNCH = 6
    MIGRATION_SOURCE = 7
    MIGRATION_DESTINATION = 8
    SAVING_STATE = 9
    RESTORING_STATE = 10
    UNKNOWN = 255

    @property
    def label(self) -> str:
        """The name that people and engines see."""
        return STATUS_LABELS[self]

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(255) if isinstance(value, int) else None


STATUS_LABELS: Final[dict[int, str]] = {
    VmStatus.DOWN: "Down",
    VmStatus.UP: "Up",
    VmStatus.POWERING_UP: "Powering up",
    VmStatus.POWERING_DOWN: "Powering down",
    VmStatus.PAUSED: "Paused",
    VmStatus.REBOOT_IN_PROGRESS: "RebootInProgress",
    VmStatus.WAIT_FOR_LAUNCH: "WaitForLaunch",
    VmStatus.MIGRATION_SOURCE: "Migration Source",
    VmStatus.MIGRATION_DESTINATION: "Migration Destination",
    VmStatus.SAVING_STATE: "Saving State",
    VmStatus.RESTORING_STATE: "Restoring state",
    VmStatus.UNKNOWN: "Unknown",
}


class _TolerantText(StrEnum):
    """A text enumeration in which an unknown word reads as UNKNOWN (rule R43)."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls("Unknown") if isinstance(value, str) else None


class PauseCode(_TolerantText):
    """Why a VM is paused. Absent: never paused in this life."""

    NOERR = "NOERR"
    ENOSPC = "ENOSPC"
    EIO = "EIO"
    EPERM = "EPERM"
    EOTHER = "EOTHER"
    POSTCOPY = "POSTCOPY"
    UNKNOWN = "Unknown"


class WatchdogAction(_TolerantText):
    """What was done when the VM's watchdog fired: libvirt's words of <watchdog action>."""

    NONE = "none"
    PAUSE = "pause"
    RESET = "reset"
    POWEROFF = "poweroff"
    SHUTDOWN = "shutdown"
    DEBUG = "debug"
    INJECT_NMI = "inject-nmi"
    UNKNOWN = "Unknown"


class SessionState(_TolerantText):
    """What the guest's console session is doing. Absent: no source can tell."""

    USER_LOGGED_ON = "UserLoggedOn"
    LOCKED = "Locked"
    ACTIVE = "Active"
    LOGGED_OFF = "LoggedOff"
    UNKNOWN = "Unknown"


class DisplayType(_TolerantText):
    """Kind of the VM's first graphics device; ``qxl`` is the seed's word for SPICE."""

    QXL = "qxl"
    VNC = "vnc"
    UNKNOWN = "Unknown"


class BootDevice(_TolerantText):
    """First boot device, by BIOS drive letter: floppy, disk, cdrom, network."""

    FLOPPY = "a"
    DISK = "c"
    CDROM = "d"
    NETWORK = "n"
    UNKNOWN = "Unknown"


class ExitCode(IntEnum):
    """How an incarnation ended."""

    NORMAL = 0
    ERROR = 1
    UNKNOWN = 255

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(255) if isinstance(value, int) else None


class ExitReason(IntEnum):
    """Why an incarnation ended: VDSM's numbers (vmexitreason.py)."""

    SUCCESS = 0
    GENERIC_ERROR = 1
    LOST_QEMU_CONNECTION = 2
    LIBVIRT_START_FAILED = 3
    MIGRATION_SUCCEEDED = 4
    SAVE_STATE_SUCCEEDED = 5
    ADMIN_SHUTDOWN = 6
    USER_SHUTDOWN = 7
    MIGRATION_FAILED = 8
    LIBVIRT_DOMAIN_MISSING = 9
    DESTROYED_ON_STARTUP = 10
    HOST_SHUTDOWN = 11
    POSTCOPY_MIGRATION_FAILED = 12
    DESTROYED_ON_REBOOT = 13
    DESTROYED_ON_PAUSE_TIMEOUT = 14
    UNKNOWN = 255

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(255) if isinstance(value, int) else None


class GoodbyeReason(_TolerantText):
    """Why an agent said goodbye."""

    STOPPED = "stopped"
    UNKNOWN = "Unknown"
