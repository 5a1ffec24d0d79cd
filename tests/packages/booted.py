"""`make units-test`: boot the Debian package's units on a machine with systemd, RabbitMQ, libvirt and a guest.

The machine is a root that debootstrap makes, with a systemd of its own as its first process and a network that ends at
its loopback. It is set up with the commands of docs/operating.md, word by word, and gone at the end. Needs root. The
last line is one JSON object; the exit code is 1 if anything is not as it should be.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.packages import unit_checks, unit_confinement, unit_faults
from tests.packages.furnishing import furnish
from tests.packages.machine import Machine, MachineError, missing
from tests.packages.units import mend

if TYPE_CHECKING:
    from collections.abc import Callable

DIST: Final = Path(__file__).resolve().parents[2] / "dist"
CHECKS: Final = (
    *unit_checks.STARTING,
    *unit_confinement.CONFINED,
    *unit_faults.FAULTS,
    unit_confinement.the_journal_has_no_complaints,
)


def main() -> int:
    """Try it; gives the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the machine goes as for Ctrl-C
    packages = sorted(DIST.glob("vmpulse_*.deb"))
    reason = missing() or ("needs root" if os.geteuid() else "") or ("" if packages else "no package: run `make deb`")
    if reason:
        say(reason)
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmpulse-machine-", ignore_cleanup_errors=True) as folder:
        machine = Machine(Path(folder))
        try:
            furnish(machine, packages[-1], say)
            say("booting ...")
            with machine:
                failed = tried(machine)
        except MachineError as error:
            say(str(error))
            return 1
    result = {"package": packages[-1].name, "checks": len(CHECKS), "failed": failed}
    sys.stdout.write(json.dumps(result | {"seconds": round(time.monotonic() - began)}) + "\n")
    return 1 if failed else 0


def tried(machine: Machine) -> list[str]:
    """Try everything; gives the names of the checks that do not hold."""
    return [check.__name__ for check in CHECKS if not holds(check, machine)]


def holds(check: Callable[[Machine], str], machine: Machine) -> bool:
    """Try one check, and say what came of it."""
    began = time.monotonic()
    amiss = check(machine)
    took = time.monotonic() - began
    if amiss and check not in unit_checks.STARTING:
        mend(machine)
    say(f"{'FAIL' if amiss else 'ok  '}  {check.__name__} ({took:.0f} s){': ' + amiss if amiss else ''}")
    return not amiss


def say(words: str) -> None:
    """Say how far it has come."""
    sys.stderr.write(f"units: {words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
