"""Start tokens: which life of a domain this is.

Where the domain's process runs on this machine, the token is made of the boot id, the process's start time and the
domain id: stable over restarts of the agent and of libvirtd, new at every start. Its pid is in libvirt's own pid file,
which everybody may read; that the process is the domain's own is checked by the UUID in its command line, since pids
are used again. Elsewhere (remote and test URIs, a run folder that is not ours to read) only the domain id is left.
libvirt counts it up for each start, but a daemon restarted while no domain ran counts from 1 again, so that there two
lives may look alike if nobody looked in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import xxhash

from vmpulse_contract.identity import VmId, vm_text

_START_FIELD: Final = 22 - 3
"""Place of ``starttime`` among the fields after the command's name (proc(5) counts from 1, the name is the second)."""
_BLOCKED: Final = (b"D", b"T", b"t")
"""States in /proc/<pid>/stat: uninterruptible sleep, stopped, traced."""
_CMDLINE_BYTES: Final = 256 << 10
"""A QEMU with hundreds of devices has a command line of some 100 KiB."""


class Life(NamedTuple):
    """One incarnation. ``started_ns`` on CLOCK_BOOTTIME, as are the start times in /proc."""

    token: int
    pid: int | None = None
    started_ns: int | None = None


class Lives:
    """The incarnations of the active domains, read once for each: /proc and pid files are not touched every tick.

    Args:
        run_dir: where libvirt keeps pid files; None where the processes are not on this machine.
        proc: the proc file system.
    """

    def __init__(self, run_dir: Path | None, proc: Path = Path("/proc")) -> None:
        self._run_dir = run_dir
        self._proc = proc
        self._boot_id = b""
        self._known: dict[tuple[VmId, int], Life] = {}

    def life(self, vm: VmId, domain_id: int, name: str, *, starting: bool) -> Life | None:
        """Give the incarnation of an active domain; None while it is starting and its process is not known yet.

        It may read files: not for the event loop. Several threads may call it; they find the same.
        """
        known = self._known.get((vm, domain_id))
        if known is None:
            known = self._find(vm, domain_id, name, starting=starting)
            if known is not None:
                self._known[vm, domain_id] = known
        return known

    def blocked(self, life: Life) -> bool:
        """Whether its process is stopped or waits for a device, so that it will hardly answer. Reads a file."""
        stat = b"" if life.pid is None else _read(self._proc / str(life.pid) / "stat")
        return stat.rpartition(b")")[2][1:2] in _BLOCKED

    def known(self, vm: VmId, domain_id: int) -> Life | None:
        """Give the incarnation if a look has already found it. Reads no file."""
        return self._known.get((vm, domain_id))

    def keep_only(self, present: Collection[tuple[VmId, int]], spared: Collection[VmId] = ()) -> None:
        """Forget incarnations that are over, except of the *spared* domains."""
        for key in [key for key in list(self._known) if key not in present and key[0] not in spared]:
            self._known.pop(key, None)

    def _find(self, vm: VmId, domain_id: int, name: str, *, starting: bool) -> Life | None:
        if self._run_dir is None:
            return Life(token(b"", vm, domain_id))
        self._boot_id = self._boot_id or _read(self._proc / "sys/kernel/random/boot_id").strip()
        pid = self._pid(self._run_dir / f"{name}.pid", vm)
        ticks = None if pid is None else start_ticks(_read(self._proc / str(pid) / "stat"))
        if ticks is None:
            # Never a token of the poorer kind for a start whose pid file is only about to be written.
            return None if starting else Life(token(self._boot_id, vm, domain_id))
        start_ns = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return Life(token(self._boot_id, ticks.to_bytes(8, "little"), domain_id), pid, start_ns)

    def _pid(self, pid_file: Path, vm: VmId) -> int | None:
        text = _read(pid_file).strip()
        if not text.isdigit():
            return None
        command_line = _read(self._proc / str(int(text)) / "cmdline")
        return int(text) if vm_text(vm).encode() in command_line else None


def token(boot_id: bytes, start: bytes, domain_id: int) -> int:
    """64 bits, never 0: that is the token of an inactive domain."""
    parts = (boot_id, start, domain_id.to_bytes(8, "little", signed=True))
    return xxhash.xxh3_64_intdigest(b"\0".join(parts)) or 1


def start_ticks(stat: bytes) -> int | None:
    """Start time of a process in clock ticks since boot, from /proc/<pid>/stat; its name may hold any character."""
    fields = stat.rpartition(b")")[2].split()
    return int(fields[_START_FIELD]) if len(fields) > _START_FIELD and fields[_START_FIELD].isdigit() else None


def boottime_ns() -> int:
    """Now, on the clock of Life.started_ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _read(path: Path) -> bytes:
    """Read what may be gone or forbidden; then it is empty."""
    try:
        with path.open("rb") as file:
            return file.read(_CMDLINE_BYTES)
    except OSError:
        return b""
