"""What runs inside a simulated VM: one of a few images, updated now and then, with somebody logged in or not."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from vmpulse_contract.sections import GuestDetails, NetIface, guest_ips
from vmpulse_contract.values import SessionState
from vmpulse_simulator.lots import Lots

BASE: Final = (
    *("adduser-3.134", "apt-2.6.1", "base-files-12.4", "bash-5.2.15", "ca-certificates-20230311", "chrony-4.3"),
    *("coreutils-9.1", "cron-3.0pl1", "curl-7.88.1", "dbus-1.14.10", "dpkg-1.21.22", "e2fsprogs-1.47.0"),
    *("gnupg-2.2.40", "grub-efi-amd64-2.06", "iproute2-6.1.0", "less-590", "libc6-2.36", "linux-image-6.1.0-13"),
    *("login-4.13", "logrotate-3.21.0", "openssh-server-9.2p1", "openssl-3.0.11", "passwd-4.13", "perl-5.36.0"),
    *("procps-4.0.2", "python3-3.11.2", "qemu-guest-agent-7.2", "rsyslog-8.2302.0", "sudo-1.9.13", "systemd-252.17"),
    *("tar-1.34", "tzdata-2023c", "udev-252.17", "vim-tiny-9.0", "zlib1g-1.2.13"),
)
IMAGES: Final = (
    ("bare", ()),
    ("web", ("nginx-1.22.1", "libpcre2-10.42", "certbot-2.1.0")),
    ("database", ("postgresql-15.4", "pgbouncer-1.18.0", "pgbackrest-2.44")),
    ("application", ("openjdk-17-jre-17.0.8", "tomcat10-10.1.6", "libpostgresql-jdbc-42.5.4")),
    ("cache", ("redis-server-7.0.11", "redis-tools-7.0.11")),
    ("build", ("gcc-12.2.0", "git-2.39.2", "make-4.3", "docker.io-20.10.24")),
)
USERS: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "root")
WITHOUT_AGENT: Final = 0.06
"""Share of guests in which no agent runs: what only the guest knows is then unknown for good."""


@lru_cache(maxsize=4096)
def apps_of(image: int, patches: int) -> tuple[str, ...]:
    """The applications of an image after so many updates; one object for all guests that have the same ones."""
    apps = list(BASE + IMAGES[image][1])
    for patch in range(1, patches + 1):
        at = (patch * 7) % len(apps)
        apps[at] = f"{apps[at].partition('+u')[0]}+u{patch}"
    return tuple(sorted(apps))


class Guest:
    """The guest of one VM.

    Args:
        number: counts VMs over the fleet; addresses derive from it.
        mac: of its network card.
        lots: decide what it is.
    """

    __slots__ = (
        "_moves",
        "_number",
        "agent",
        "client_ip",
        "image",
        "mac",
        "patches",
        "session",
        "time_offset",
        "username",
    )

    def __init__(self, number: int, mac: str, lots: Lots) -> None:
        self._number = number
        self._moves = 0
        self.mac = mac
        self.agent = not lots.hits(WITHOUT_AGENT)
        self.image = lots.below(len(IMAGES))
        self.patches = lots.below(3)
        self.time_offset = lots.choice((0, 0, 0, 3600, -18000))
        self.username: str | None = None
        self.client_ip: str | None = None
        self.session = SessionState.LOGGED_OFF
        if lots.hits(0.3):
            self.log_in(lots)

    def log_in(self, lots: Lots) -> None:
        """Somebody else logs in, or locks the screen, or leaves: always a change of ``status``."""
        before = (self.username, self.session, self.client_ip)
        while (self.username, self.session, self.client_ip) == before:
            self.session = lots.choice((SessionState.ACTIVE, SessionState.LOCKED, SessionState.LOGGED_OFF))
            here = self.session is not SessionState.LOGGED_OFF
            self.username = lots.choice(USERS) if here else None
            self.client_ip = f"192.0.2.{1 + lots.below(250)}" if here else None

    def log_off(self) -> None:
        """Nobody is logged in, as after a boot."""
        self.session, self.username, self.client_ip = SessionState.LOGGED_OFF, None, None

    def update(self) -> None:
        """Install an update."""
        self.patches += 1

    def move(self) -> None:
        """Get another address."""
        self._moves += 1

    def interfaces(self) -> tuple[NetIface, ...]:
        """The network interfaces as the guest sees them."""
        number = self._number
        address = f"10.{self._moves * 3 % 64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        card = NetIface(name="eth0", hw=self.mac, inet=(address,), inet6=(f"2001:db8::{number:x}:{self._moves:x}",))
        loopback = NetIface(name="lo", hw="00:00:00:00:00:00", inet=("127.0.0.1",), inet6=("::1",))
        return (loopback, card)

    def addresses(self) -> tuple[str, ...] | None:
        """What ``status`` says of them; None without an agent."""
        return guest_ips(self.interfaces()) if self.agent else None

    def details(self) -> GuestDetails | None:
        """What only the guest knows; None without an agent."""
        if not self.agent:
            return None
        return GuestDetails(apps_list=apps_of(self.image, self.patches), net_ifaces=self.interfaces())
