"""``python -m tests.lab``: the whole path on real QEMU domains. The last line is one JSON object; 0 if all held."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path

from tests.lab.checks import CHECKS, Bench
from tests.lab.lab import CheckFailed, running
from tests.lab.private_libvirt import missing
from vmpulse_simulator.errors import SimulatorError

DOMAINS = 3
ROOT = Path(".vmpulse")


def main() -> int:
    """Run all checks, in order; a failed one does not keep the next from being tried."""
    reason = missing()
    if reason is not None:
        sys.stderr.write(f"the lab cannot run here: {reason}; run `make lab` as root\n")
        return 1
    # SIGTERM must end what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ROOT.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir=ROOT)).resolve()
    try:
        result = _run(folder)
    except (CheckFailed, RuntimeError, SimulatorError) as error:
        sys.stderr.write(f"the lab did not start: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    if not result["failed"]:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result["failed"] else 0


def _run(folder: Path) -> dict[str, object]:
    failed: list[str] = []
    with running(folder, _say) as lab:
        bench = Bench(lab, [f"lab-{number}" for number in range(1, DOMAINS + 1)])
        for check in CHECKS:
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
        "checks": len(CHECKS),
        "failed": failed,
        "measured": len(bench.latencies),
        "lifecycle_ms_max": round(slowest * 1000, 1),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
