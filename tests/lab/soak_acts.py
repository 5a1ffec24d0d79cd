"""What a soak does to its domains, and which changes of sections that explains."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree.ElementTree import fromstring

import libvirt

from tests.lab.lab import CheckFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.lab.change_tap import Change
    from tests.lab.guests import Guest
    from tests.lab.lab import Lab

AFTERMATH_S: Final = 75.0
"""How long a deed may still show: a section is read again each minute, and told 3 s later."""
DAEMON_AWAY_S: Final = 6.0
BACK_S: Final = 60.0
_CLIENT: Final = """\
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as client:
    client.settimeout(5)
    client.recv(12); client.sendall(b"RFB 003.008\\n")
    kinds = client.recv(16); client.sendall(b"\\1"); client.recv(4)
    client.sendall(b"\\1"); client.recv(24)
    time.sleep(float(sys.argv[3]))
"""
"""A VNC client that is let in, shares the screen, and leaves after a while."""


class Subject(NamedTuple):
    """One domain of the soak."""

    name: str
    vm: str
    vnc: bool = False
    guest: Guest | None = None


class Acts:
    """Does things and remembers when. Use ``close`` at the end.

    Args:
        lab: where.
        subjects: to whom, by id.
        lots: decides what is done next.
    """

    def __init__(self, lab: Lab, subjects: dict[str, Subject], lots: random.Random) -> None:
        self._lab = lab
        self._subjects = list(subjects.values())
        self._lots = lots
        self._clients: list[subprocess.Popen[bytes]] = []
        self._marks: dict[tuple[str, str], float] = {}
        self._daemon_ends = (lab.hypervisor.kill, lab.hypervisor.terminate)
        self.done: Counter[str] = Counter()

    def close(self) -> None:
        """Let the clients go."""
        for client in self._clients:
            client.kill()
            client.wait()

    def line(self) -> str:
        """What was done so far, on one line."""
        return f"done {dict(self.done)}"

    def explains(self, subject: Subject, change: Change) -> bool:
        """Whether something that was done to the domain makes such a change."""
        reasons = {"status": ("vnc", "guest agent"), "guestDetails": ("guest agent",)}.get(change.section, ())
        return any(change.at - self._marks.get((subject.vm, reason), float("-inf")) < AFTERMATH_S for reason in reasons)

    # --- what domains notice ------------------------------------------------------------------------------------

    def small_one(self) -> None:
        """Balloon a domain, or connect to its screen or its console."""
        subject = self._lots.choice(self._subjects)
        act = self._lots.choice((self._balloon, self._vnc, self._console))
        with contextlib.suppress(libvirt.libvirtError):
            act(subject, self._lab.connection.lookupByUUIDString(subject.vm))

    def _balloon(self, _: Subject, domain: libvirt.virDomain) -> None:
        most = domain.maxMemory()
        domain.setMemoryFlags(self._lots.randrange(int(most * 0.9), most + 1), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        self.done["balloon"] += 1

    def _vnc(self, subject: Subject, domain: libvirt.virDomain) -> None:
        graphics = fromstring(domain.XMLDesc(0)).find("devices/graphics")  # noqa: S314 - of our own libvirt
        if not subject.vnc or graphics is None:
            return
        self._clients = [client for client in self._clients if client.poll() is None]
        words = (graphics.get("listen", ""), graphics.get("port", ""), str(self._lots.uniform(0.0, 8.0)))
        inside = ("nsenter", "--net", f"--target={self._lab.hypervisor.keeper_pid}")
        self._marks[subject.vm, "vnc"] = time.monotonic()
        self._clients.append(
            subprocess.Popen((*inside, sys.executable, "-c", _CLIENT, *words), stderr=subprocess.DEVNULL)
        )
        self.done["vnc client"] += 1

    def _console(self, subject: Subject, domain: libvirt.virDomain) -> None:
        if subject.guest is not None:
            return
        stream = self._lab.connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        stream.abort()
        self.done["console client"] += 1

    # --- what everybody notices ---------------------------------------------------------------------------------

    def disturb_daemon(self, look: Callable[[], None]) -> None:
        """Kill or terminate libvirtd, in turn; start it again after two ticks."""
        end = self._daemon_ends[self.done["libvirtd restart"] % len(self._daemon_ends)]
        end()
        self._watch_for(DAEMON_AWAY_S, look)
        self._lab.hypervisor.start()
        with contextlib.suppress(libvirt.libvirtError):
            self._lab.connection.close()
        self._lab.connection = libvirt.open(self._lab.hypervisor.uri)
        self.done["libvirtd restart"] += 1
        # Who looks at a screen cannot be asked for: what was known of it is forgotten with the connection.
        for subject in self._subjects:
            if subject.vnc:
                self._marks[subject.vm, "vnc"] = time.monotonic()

    def restart_agent(self, look: Callable[[], None]) -> None:
        """End our agent, with SIGTERM, and start it again."""
        code = self._lab.agent.stop()
        if code:
            raise CheckFailed(f"the agent ended with {code}: {self._lab.agent.log.read_text()[-500:]}")
        self._lab.agent = self._lab.start_agent()
        self._lab.until("the host is live again", lambda: self._lab.host()["state"] == "live", BACK_S)
        look()
        self.done["agent restart"] += 1
        for subject in self._subjects:
            if subject.vnc:
                self._marks[subject.vm, "vnc"] = time.monotonic()

    def restart_guest_agent(self, _: Callable[[], None]) -> None:
        """End the guest agent of one guest; the guest starts it again a second later."""
        inside = [subject for subject in self._subjects if subject.guest is not None]
        if not inside:
            return
        subject = self._lots.choice(inside)
        assert subject.guest is not None
        self._marks[subject.vm, "guest agent"] = time.monotonic()
        subject.guest.order("killall qemu-ga")
        self.done["guest agent restart"] += 1

    def _watch_for(self, seconds: float, look: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            look()
            time.sleep(0.25)
