"""What may be set about the libvirt edge."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_SHARE_OF_TICK: Final = 0.8


class LibvirtOptions(NamedTuple):
    """Options of one connection; times in seconds.

    ``tick_s`` is how often the host is looked at: a look that takes longer than most of it is handed over by the next.
    ``run_dir`` is where the QEMU driver of a libvirt on this machine keeps the pid files of its domains.
    ``guest_agent`` allows the read-write connections that guest agent calls need; ``guest_exec_apps`` to run the
    guest's package manager through the guest agent.
    ``user`` and ``password_file`` are for daemons that ask for them (SASL).
    ``retry_local_s`` is the longest pause before the next attempt at a socket on this machine, where an attempt costs
    next to nothing; ``retry_most_s`` elsewhere; ``retry_refused_s`` after a refusal, so that no account gets locked.
    """

    uri: str = "qemu:///system"
    guest_agent: bool = True
    guest_exec_apps: bool = False
    run_dir: Path = Path("/run/libvirt/qemu")
    user: str = ""
    password_file: Path | None = None
    tick_s: float = 3.0
    read_deadline_s: float = 5.0
    device_deadline_s: float = 10.0
    guest_deadline_s: float = 2.5
    connect_deadline_s: float = 10.0
    keepalive_interval_s: int = 5
    keepalive_count: int = 3
    retry_first_s: float = 0.2
    retry_local_s: float = 0.25
    retry_most_s: float = 2.0
    retry_refused_s: float = 60.0

    @property
    def look_deadline_s(self) -> float:
        """How long one look is waited for: the rest of the tick is for telling of it."""
        return _SHARE_OF_TICK * self.tick_s


def is_test(uri: str) -> bool:
    """Whether this is libvirt's test driver, whose domains live in our own process, apart for each connection."""
    return urlsplit(uri).scheme == "test"


def is_local_qemu(uri: str) -> bool:
    """Whether the QEMU processes of this URI run on this machine."""
    parts = urlsplit(uri)
    driver, _, transport = parts.scheme.partition("+")
    return driver == "qemu" and not parts.hostname and transport in {"", "unix"}
