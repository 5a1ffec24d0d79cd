"""``python -m tests.lab``: the whole path on real QEMU domains. The last line is one JSON object; 0 if all held."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab import checks, faults, field_checks, guests, migration, status_checks
from tests.lab.checks import Bench
from tests.lab.lab import CheckFailed, running
from tests.lab.private_libvirt import missing
from vmpulse_simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Check = Callable[[Bench], None]

DOMAINS = 3
GUESTS_MAX: Final = 20
"""More real guests than this do not boot in reasonable time on a small machine."""
ROOT = Path(".vmpulse")


class Plan(NamedTuple):
    """What a run does, in order. ``setup`` runs whatever is selected: the other checks stand on it."""

    setup: tuple[Check, ...]
    checks: tuple[Check, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks, in order; a failed one does not keep the next from being tried."""
    options = _parse(arguments)
    plan = _plan(options)
    if not plan.checks and options.only:
        known = _plan(options._replace(only=""))
        names = "\n".join(f"  {check.__name__}" for check in (*known.setup, *known.checks))
        sys.stderr.write(f"no check has {options.only!r} in its name; with these options there are:\n{names}\n")
        return 2
    reason = missing()
    if reason is not None:
        sys.stderr.write(f"the lab cannot run here: {reason}; run `make lab` as root\n")
        return 1
    # SIGTERM must end what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ROOT.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir=ROOT)).resolve()
    try:
        result = _run(folder, plan, options.guests)
    except (CheckFailed, RuntimeError, SimulatorError) as error:
        sys.stderr.write(f"the lab did not start: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    if not result["failed"]:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result["failed"] else 0


class Options(NamedTuple):
    """What the command line asks for."""

    guests: int = 0
    slow: bool = False
    only: str = ""


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Try the agent on real libvirt and QEMU.")
    parser.add_argument("--guests", type=int, default=0, help="how many real Linux guests to boot (default: 0, none)")
    parser.add_argument("--slow", action="store_true", help="also run the checks that take minutes")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only the checks with this in their name")
    options = parser.parse_args(arguments)
    if not 0 <= options.guests <= GUESTS_MAX:
        parser.error(f"--guests must be 0 to {GUESTS_MAX}")
    return Options(options.guests, options.slow, options.only)


def _plan(options: Options) -> Plan:
    """Light domains first: their latencies are measured, and booting guests would disturb them."""
    setup: list[Check] = list(checks.SETUP)
    wanted: list[Check] = [*checks.CHECKS, *faults.CHECKS, *migration.CHECKS]
    if options.guests:
        wanted += [*guests.SETUP, *field_checks.CHECKS, *status_checks.GUEST_CHECKS]
        setup += guests.SETUP
    if options.slow:
        wanted += [*faults.SLOW_CHECKS, *migration.SLOW_CHECKS, *(faults.GUEST_CHECKS if options.guests else ())]
    found = [check for check in wanted if options.only in check.__name__]
    if not options.only:
        return Plan((), (*checks.SETUP, *found))
    return Plan(tuple(check for check in setup if check not in found), tuple(found))


def _run(folder: Path, plan: Plan, count: int) -> dict[str, object]:
    failed: list[str] = []
    with running(folder, _say) as lab:
        bench = Bench(lab, [f"lab-{number}" for number in range(1, DOMAINS + 1)], guests=count, say=_say)
        for check in (*plan.setup, *plan.checks):
            began = time.monotonic()
            try:
                check(bench)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a check is that check's failure
                failed.append(check.__name__)
                _say(f"FAIL  {check.__name__}: {type(error).__name__}: {error}")
            else:
                _say(f"ok    {check.__name__} ({time.monotonic() - began:.1f} s)")
        for what, seconds in sorted(bench.latencies.items(), key=itemgetter(1), reverse=True):
            _say(f"      {what}: {seconds * 1000:.0f} ms")
    slowest = max(bench.latencies.values(), default=0.0)
    return {
        "domains": DOMAINS,
        "guests": len(bench.guests),
        "checks": len(plan.setup) + len(plan.checks),
        "failed": failed,
        "measured": len(bench.latencies),
        "lifecycle_ms_max": round(slowest * 1000, 1),
        "fields_compared": len(bench.compared),
        "fields_absent": len(bench.absent),
        "comparisons": bench.comparisons,
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
