"""Ask pip-audit whether a version in the locks beside this script has a known vulnerability.

Run it as ``make audit``. pip-audit lives in ``.vmpulse/audit``, an environment of its own, installed by hash from
``audit.txt``. Exit status 0: every pinned version was asked about and nothing is known. 1: something is known. 2: the
question was not answered, or not for every package. What counts is pip-audit's report: by itself it ends with "no known
vulnerabilities" and 0 where its service has never heard of a package, and with 1 where it cannot be reached.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HOME = FOLDER.parent / ".vmpulse" / "audit"
STAMP = HOME / "vmpulse.stamp"
LOCK = FOLDER / "audit.txt"
# Bounds, not expectations: the first run takes some 20 s on two cores, the next ones 5 s.
INSTALL_TIMEOUT_S = 600
AUDIT_TIMEOUT_S = 300
CLEAN, VULNERABLE, UNANSWERED = 0, 1, 2
NAMES_SHOWN = 10  # where a service knows nothing at all, eighty names say no more than ten
REMEDY = "ask where its service can be reached, or another: make audit ARGS='--vulnerability-service osv'"


class UnansweredError(Exception):
    """Nothing was learned. The message says why and what helps."""


def main(arguments: Sequence[str]) -> int:
    """Audit every lock; the arguments are pip-audit's. Gives the exit status."""
    locks = sorted(FOLDER.glob("*.txt"))
    try:
        provide()
        status, lines = judge(ask(locks, arguments), pinned(locks))
    except UnansweredError as error:
        status, lines = UNANSWERED, [f"error: {error}"]
    for line in lines:
        print(f"audit: {line}", file=sys.stderr if status else sys.stdout)
    return status


def pinned(locks: Sequence[Path]) -> dict[str, dict[str, list[str]]]:
    """Package -> version -> the locks that pin it."""
    found: dict[str, dict[str, list[str]]] = {}
    for lock in locks:
        for name, version in re.findall(r"^(\S+)==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, {}).setdefault(version, []).append(lock.stem)
    return found


# --- pip-audit ------------------------------------------------------------------------------------------------------


def provide() -> None:
    """Install pip-audit unless it is there as locked. Raises UnansweredError."""
    fingerprint = hashlib.sha256(f"{sys.version}\n{HOME}\n{LOCK.read_text(encoding='utf-8')}".encode()).hexdigest()
    if STAMP.exists() and STAMP.read_text(encoding="ascii") == fingerprint:
        return
    print("audit: installing pip-audit into .vmpulse/audit, pinned by hash", file=sys.stderr)
    install([sys.executable, "-m", "venv", "--clear", str(HOME)])
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # Wheels only: to build a source distribution pip would fetch tools that no lock names.
    install([*pip, "--require-hashes", "--only-binary=:all:", "-r", str(LOCK)])
    STAMP.write_text(fingerprint, encoding="ascii")


def install(command: Sequence[str]) -> None:
    """Run one step of the installation. Raises UnansweredError if it fails."""
    step = run(command, timeout_s=INSTALL_TIMEOUT_S)
    if step.returncode:
        raise UnansweredError(f"pip-audit could not be installed: {gist(step.stderr or step.stdout)}")


def ask(locks: Sequence[Path], arguments: Sequence[str]) -> dict[str, Any]:
    """Give pip-audit's report on the locks. Raises UnansweredError where it makes none."""
    command = [
        *(str(HOME / "bin" / "pip-audit"), *arguments),
        *("--require-hashes", "--disable-pip", "--progress-spinner=off"),
        *("--format=json", f"--cache-dir={HOME / 'answers'}"),
        *(f"--requirement={lock}" for lock in locks),
    ]
    answer = run(command, timeout_s=AUDIT_TIMEOUT_S)
    try:
        report: dict[str, Any] = json.loads(answer.stdout)
    except json.JSONDecodeError as error:
        raise UnansweredError(f"no report from pip-audit: {gist(answer.stderr)}; {REMEDY}") from error
    return report


def run(command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run it in time and keep what it says. Raises UnansweredError if it does not end or cannot start."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise UnansweredError(f"{Path(command[0]).name}: {error}") from error


def gist(text: str) -> str:
    """The first error that a program tells of, or else what it said last, for a message of one line."""
    lines = text.strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1])


# --- what the report means ------------------------------------------------------------------------------------------


def judge(report: Mapping[str, Any], pins: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[int, list[str]]:
    """Give the exit status and what to say; a pinned version that the report is silent about was not audited."""
    audited = {
        (found["name"], found["version"]): found["vulns"] for found in report["dependencies"] if "vulns" in found
    }
    known = [
        finding(name, version, pins.get(name, {}).get(version, []), vulnerability)
        for (name, version), vulnerabilities in sorted(audited.items())
        for vulnerability in vulnerabilities
    ]
    missed = sorted({name for name, versions in pins.items() for version in versions if (name, version) not in audited})
    if missed:
        known.append(silence(missed, len(pins), report))
    if len(known) > bool(missed):
        return VULNERABLE, known
    if missed:
        return UNANSWERED, known
    return CLEAN, [f"{len(pins)} packages, none with a known vulnerability"]


def finding(name: str, version: str, locks: Sequence[str], vulnerability: Mapping[str, Any]) -> str:
    """One known vulnerability in a line, with what mends it."""
    names = " ".join([vulnerability["id"], *vulnerability["aliases"]])
    fixes = ", ".join(vulnerability["fix_versions"])
    remedy = f"fixed in {fixes}: make lock ARGS='--upgrade-package {name}'" if fixes else "no fixed version is known"
    return f"{name} {version} ({', '.join(locks)}): {names}; {remedy}"


def silence(missed: Sequence[str], pinned_count: int, report: Mapping[str, Any]) -> str:
    """Say which packages nothing was said about, with pip-audit's own reason for one of them."""
    names = ", ".join(missed[:NAMES_SHOWN])
    more = f" and {len(missed) - NAMES_SHOWN} more" if len(missed) > NAMES_SHOWN else ""
    reasons = [found["skip_reason"] for found in report["dependencies"] if "skip_reason" in found]
    reason = f" ({reasons[0]})" if reasons else ""
    return f"error: {len(missed)} of {pinned_count} packages were not audited: {names}{more}{reason}; {REMEDY}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
