"""How many calls a libvirtd is asked, by its own log: each client's calls, whatever library it uses.

libvirt's administration socket takes log filters while the daemon runs. One of them has it write a line for each
message that it dispatches; keepalives are none of these.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

from tests.lab.private_libvirt import PrivateLibvirt

_CALL: Final = re.compile(
    rb"virNetServerProgramDispatch:\d+ : prog=536903814 ver=1 type=0 \S+ \S+ proc=(\d+)$", re.MULTILINE
)
"""Program 0x20008086 is libvirt's own (REMOTE_PROGRAM in remote_protocol.x), type 0 a call."""
_NAMES: Final = {
    14: "XMLDesc",
    24: "lookupByUUID",
    229: "controlInfo",
    212: "state",
    273: "listAllDomains",
    344: "getAllDomainStats, domainListGetStats",
}
"""Of libvirt's procedure numbers those that came up; they never change."""


class RpcCount:
    """Counts the calls that a private libvirt is asked while this exists.

    Args:
        hypervisor: the libvirt, running.
        folder: for the log.
    """

    def __init__(self, hypervisor: PrivateLibvirt, folder: Path) -> None:
        self._log = folder / "rpc.log"
        self._admin = f"libvirtd:///system?socket={hypervisor.root / 'sock' / 'libvirt-admin-sock'}"
        self._administer("daemon-log-outputs", "--outputs", f"1:file:{self._log}")
        self._administer("daemon-log-filters", "--filters", "1:rpc.netserverprogram 4:*")

    def mark(self) -> int:
        """Give the place in the log that ``since`` starts from."""
        return self._log.stat().st_size

    def since(self, mark: int) -> Counter[str]:
        """Count the calls since *mark*, by name."""
        with self._log.open("rb") as log:
            log.seek(mark)
            return calls_in(log.read())

    def _administer(self, *arguments: str) -> None:
        command = ["virt-admin", "--quiet", "--connect", self._admin, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


def calls_in(log: bytes) -> Counter[str]:
    """Count the calls in a piece of the daemon's log."""
    numbers = map(int, _CALL.findall(log))
    return Counter(_NAMES.get(number, f"procedure {number}") for number in numbers)
