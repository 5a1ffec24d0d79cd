"""What comes and goes around the domains of a soak: clients, guest agents, our agent, libvirtd."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import fromstring

import libvirt

from tests.lab.lab import CheckFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.lab.migration import Pair
    from tests.lab.soak_diary import Diary, Subject

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


class Acts:
    """Does things and notes them. Use ``close`` at the end.

    Args:
        two: the hosts.
        subjects: to whom.
        diary: where it is noted.
        lots: decides what is done next.
    """

    def __init__(self, two: Pair, subjects: list[Subject], diary: Diary, lots: random.Random) -> None:
        self._two = two
        self._lab = two.lab
        self._subjects = subjects
        self._diary = diary
        self._lots = lots
        self._clients: list[subprocess.Popen[bytes]] = []
        self._daemon_ends = (self._lab.hypervisor.kill, self._lab.hypervisor.terminate)

    def close(self) -> None:
        """Let the clients go."""
        for client in self._clients:
            client.kill()
            client.wait()

    # --- what domains notice ------------------------------------------------------------------------------------

    def small_one(self) -> None:
        """Balloon a domain, or connect to its screen or its console."""
        subject = self._lots.choice(self._subjects)
        act = self._lots.choice((self._balloon, self._vnc, self._console))
        with contextlib.suppress(libvirt.libvirtError):
            act(subject, self._two.on(self._diary.host(subject.vm)).lookupByUUIDString(subject.vm))

    def _balloon(self, _: Subject, domain: libvirt.virDomain) -> None:
        most = domain.maxMemory()
        domain.setMemoryFlags(self._lots.randrange(int(most * 0.9), most + 1), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        self._diary.done["balloon"] += 1

    def _vnc(self, subject: Subject, domain: libvirt.virDomain) -> None:
        graphics = fromstring(domain.XMLDesc(0)).find("devices/graphics")  # noqa: S314 - of our own libvirt
        if not subject.vnc or graphics is None:
            return
        self._clients = [client for client in self._clients if client.poll() is None]
        keeper = self._two.libvirt_on(self._diary.host(subject.vm)).keeper_pid
        words = (graphics.get("listen", ""), graphics.get("port", ""), str(self._lots.uniform(0.0, 8.0)))
        inside = ("nsenter", "--net", f"--target={keeper}")
        self._diary.mark(subject.vm, "vnc")
        self._clients.append(
            subprocess.Popen((*inside, sys.executable, "-c", _CLIENT, *words), stderr=subprocess.DEVNULL)
        )
        self._diary.done["vnc client"] += 1

    def _console(self, subject: Subject, domain: libvirt.virDomain) -> None:
        if subject.guest is not None:
            return
        stream = domain.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        stream.abort()
        self._diary.done["console client"] += 1

    # --- what everybody notices ---------------------------------------------------------------------------------

    def disturb_daemon(self, look: Callable[[], None]) -> None:
        """Kill or terminate libvirtd, in turn; start it again after two ticks."""
        end = self._daemon_ends[self._diary.done["libvirtd restart"] % len(self._daemon_ends)]
        end()
        self._watch_for(DAEMON_AWAY_S, look)
        self._lab.hypervisor.start()
        with contextlib.suppress(libvirt.libvirtError):
            self._lab.connection.close()
        self._lab.connection = libvirt.open(self._lab.hypervisor.uri)
        self._diary.done["libvirtd restart"] += 1
        # Who looks at a screen cannot be asked for: what was known of it is forgotten with the connection.
        for subject in self._subjects:
            if subject.vnc:
                self._diary.mark(subject.vm, "vnc")

    def restart_agent(self, look: Callable[[], None]) -> None:
        """End our agent, with SIGTERM, and start it again."""
        code = self._lab.agent.stop()
        if code:
            raise CheckFailed(f"the agent ended with {code}: {self._lab.agent.log.read_text()[-500:]}")
        self._lab.agent = self._lab.start_agent()
        self._lab.until("the host is live again", lambda: self._lab.host()["state"] == "live", BACK_S)
        look()
        self._diary.done["agent restart"] += 1
        for subject in self._subjects:
            if subject.vnc:
                self._diary.mark(subject.vm, "vnc")

    def restart_guest_agent(self, _: Callable[[], None]) -> None:
        """End the guest agent of one guest; the guest starts it again a second later."""
        inside = [subject for subject in self._subjects if subject.guest is not None]
        if not inside:
            return
        subject = self._lots.choice(inside)
        assert subject.guest is not None
        self._diary.mark(subject.vm, "guest agent")
        subject.guest.order("killall qemu-ga")
        self._diary.done["guest agent restart"] += 1

    def _watch_for(self, seconds: float, look: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            look()
            time.sleep(0.25)
