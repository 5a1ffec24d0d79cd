"""Prepare a checkout: Debian packages, then the virtual environment .venv, each only as far as it is missing.

It runs on the system's Python with nothing but the standard library, says on stderr what it is going to install, asks
no question and starts no service. What was installed is remembered by the hash of the locks, so a second run costs
almost nothing. Packages come from wherever apt and pip are set up to find them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Never  # an older Python has to get as far as `check_python`

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "vmpulse.stamp"
LOCKS = (ROOT / "requirements" / "build.txt", ROOT / "requirements" / "dev.txt")
BROKER = "rabbitmq-server"
MONITOR = "prometheus"
WORKER_TOOLS = "amqp-tools"
DISPENSABLE = {BROKER, MONITOR, WORKER_TOOLS}
BASE_PACKAGES = (BROKER, "gcc", "libvirt-dev", "pkg-config", "python3-dev", "python3-venv")
LAB_PACKAGES = (
    *(
        "e2fsprogs",
        "iproute2",
        "libsasl2-modules",
        "libvirt-clients",
        "libvirt-daemon",
        "libvirt-daemon-driver-qemu",
        "libvirt-daemon-system",
    ),
    *("openssl", "qemu-system-x86", "qemu-utils", "sasl2-bin"),
)
BENCH_PACKAGES = ("collectd-core", "prometheus-libvirt-exporter")
COMPOSE_PACKAGES = ("ca-certificates", "debootstrap", "docker-compose", "docker.io", "iptables", "slirp4netns")
PROFILES = {
    "test": (*BASE_PACKAGES, MONITOR, WORKER_TOOLS, "openssl"),
    "demo": BASE_PACKAGES,
    "lab": BASE_PACKAGES + LAB_PACKAGES,
    "bench": BASE_PACKAGES + LAB_PACKAGES + BENCH_PACKAGES,
    "package": ("debootstrap", "gcc", "git", "libvirt-dev", "pkg-config", "python3-dev", "python3-venv", "rpm"),
    "compose": BASE_PACKAGES + LAB_PACKAGES + COMPOSE_PACKAGES,
}
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_MARK = "# temporary: keeps packages from starting services while vmpulse sets up"
APT_LISTS = Path("/var/lib/apt/lists")
LISTS_STALE_S = 24 * 3600  # a mirror drops superseded packages, so older lists name files that are gone
# Bounds, not expectations: a cold run takes about half a minute of each on two cores.
APT_TIMEOUT_S = 600
PIP_TIMEOUT_S = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring the machine and the checkout to the state that the profile needs."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that clean-up runs as for Ctrl-C
    check_python()
    missing = missing_packages(PROFILES[options.profile])
    if options.plan or not (options.packages_only or (not missing and venv_is_current())):
        announce(options.profile, missing)
    if options.plan:
        return 0
    if missing:
        provide(missing, options.profile, packages_only=options.packages_only)
    if not options.packages_only and not venv_is_current():
        build_venv()
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", nargs="?", default="test", choices=PROFILES, help="what to prepare for")
    parser.add_argument("--plan", action="store_true", help="say what would be installed, and stop")
    parser.add_argument("--packages-only", action="store_true", help="leave the virtual environment alone")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Progress for a person; stdout belongs to the program that comes next."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> Never:
    """End with one line that says what is wrong and what helps."""
    say(f"error: {text}")
    sys.exit(1)


def in_ci() -> bool:
    """Whether a missing piece is an error instead of a reason to do less."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def check_python() -> None:
    """Refuse an interpreter that is too old, before its syntax errors do."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the very check that lets others rely on it
        found = f"{sys.executable} is {sys.version.split()[0]}"
        fail(f"Python 3.11 or newer is needed, {found}; put a newer python3 first in PATH")


def announce(profile: str, missing: Sequence[str]) -> None:
    """Say what the run is going to install."""
    say(f"Debian packages for '{profile}' to install: {' '.join(missing) or 'none'}")
    count = sum(line[:1].isalnum() for line in LOCKS[1].read_text(encoding="utf-8").splitlines())
    state = "up to date" if venv_is_current() else f"{count} Python packages to install, pinned by hash"
    say(f"virtual environment .venv: {state}")


# --- Debian packages ------------------------------------------------------------------------------------------------


def missing_packages(wanted: Iterable[str]) -> list[str]:
    """Those of the wanted packages that are not installed; without dpkg, those whose tools are not to be found."""
    if not shutil.which("apt-get"):
        return [package for package in wanted if not tool_present(package)]
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *wanted)
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    installed = {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("installed ")}
    return sorted(set(wanted) - installed)


def tool_present(package: str) -> bool:
    """A guess, on a system that is not Debian, whether what the package brings is there."""
    if package == "libvirt-dev":
        query = ("pkg-config", "--exists", "libvirt")
        return shutil.which(query[0]) is not None and subprocess.run(query, check=False).returncode == 0
    programs = {
        "debootstrap": "debootstrap",
        "docker-compose": "docker-compose",
        "docker.io": "dockerd",
        "iproute2": "ip",
        "iptables": "iptables",
        "slirp4netns": "slirp4netns",
        "libvirt-clients": "virsh",
        "libvirt-daemon": "libvirtd",
        "qemu-system-x86": "qemu-system-x86_64",
        "qemu-utils": "qemu-img",
        "openssl": "openssl",
        "sasl2-bin": "saslpasswd2",
        "gcc": "cc",
        "pkg-config": "pkg-config",
        BROKER: BROKER,
        MONITOR: MONITOR,
        WORKER_TOOLS: "amqp-consume",
    }
    return package not in programs or shutil.which(programs[package]) is not None


def provide(missing: Sequence[str], profile: str, *, packages_only: bool) -> None:
    """Install as root or through sudo; where neither is possible, go on if only what tests run is missing."""
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if not shutil.which("apt-get"):
        do_without(missing, f"this system has no apt-get; install what Debian calls {' '.join(missing)}")
    elif os.geteuid() == 0:
        install(missing)
    elif may_sudo():
        again = ("sudo", "-n", sys.executable, __file__, profile, "--packages-only")
        if subprocess.run(again, stdin=subprocess.DEVNULL, check=False).returncode:
            fail("the installation through sudo failed, see above")
    else:
        do_without(missing, f"neither root nor sudo without a password; run as root: {command}")
    if packages_only:
        say("Debian packages are in place")


def may_sudo() -> bool:
    """Whether sudo works here without asking."""
    return (
        bool(shutil.which("sudo"))
        and not subprocess.run(("sudo", "-n", "true"), capture_output=True, check=False).returncode
    )


def do_without(missing: Sequence[str], remedy: str) -> None:
    """Without broker, Prometheus or amqp-tools the tests that need them are skipped; everything else is needed."""
    if in_ci() or not DISPENSABLE.issuperset(missing):
        fail(remedy)
    say(f"going on without {' and '.join(missing)}, tests and programs that need them will say so ({remedy})")


def install(packages: Sequence[str]) -> None:
    """Install with fresh enough lists and without starting a service."""
    with services_kept_from_starting():
        if lists_are_stale():
            refresh_lists()
        mend_interrupted()
        say("installing Debian packages")
        run(apt("install", "--no-install-recommends", *packages), timeout_s=APT_TIMEOUT_S)


def mend_interrupted() -> None:
    """Finish an installation that was cut short, by us or by someone else: apt refuses to go on before that."""
    if not subprocess.run(("dpkg", "--audit"), capture_output=True, check=False).stdout.strip():
        return
    say("mending an interrupted installation")
    pending = ("dpkg", "--configure", "--pending", "--force-confdef", "--force-confold")
    # May fail for want of a dependency, which the next step brings.
    run(pending, timeout_s=APT_TIMEOUT_S, must_succeed=False)
    run(apt("install", "--fix-broken", "--no-install-recommends"), timeout_s=APT_TIMEOUT_S)


def refresh_lists() -> None:
    """Ask the mirror what there is."""
    say("refreshing the package lists")
    run(apt("update"), timeout_s=APT_TIMEOUT_S)


def apt(verb: str, *arguments: str) -> list[str]:
    """An apt-get command that asks nothing and waits its turn for the package database."""
    return ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0", verb, *arguments]


def lists_are_stale() -> bool:
    """Whether apt knows no packages, or knew them too long ago."""
    lists = [entry.stat().st_mtime for entry in APT_LISTS.glob("*_Packages*")]
    refreshed = max(
        (entry.stat().st_mtime for entry in (APT_LISTS, APT_LISTS / "partial") if entry.exists()), default=0.0
    )
    return not lists or time.time() - max(*lists, refreshed) > LISTS_STALE_S


@contextlib.contextmanager
def services_kept_from_starting() -> Iterator[None]:
    """While this holds, packages start no service; an administrator's own policy comes back afterwards.

    The mark tells our file from an administrator's, so even a killed run leaves nothing that the next would not mend.
    """
    saved = POLICY.with_name(f"{POLICY.name}.before-vmpulse")
    if POLICY.exists() and POLICY_MARK not in POLICY.read_text(encoding="utf-8", errors="replace"):
        POLICY.replace(saved)
    try:
        POLICY.write_text(f"#!/bin/sh\n{POLICY_MARK}\nexit 101\n", encoding="utf-8")
        POLICY.chmod(0o755)
        yield
    finally:
        if saved.exists():
            saved.replace(POLICY)
        else:
            POLICY.unlink(missing_ok=True)


# --- virtual environment --------------------------------------------------------------------------------------------


def venv_is_current() -> bool:
    """Whether ``.venv`` holds exactly what the locks ask for."""
    with contextlib.suppress(OSError):
        return (VENV / "bin" / "python").exists() and STAMP.read_text(encoding="ascii") == fingerprint()
    return False


def venv_is_usable() -> bool:
    """Whether ``.venv`` was made by this very interpreter, so that only its contents may be out of date."""
    with contextlib.suppress(OSError):
        settings = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
        return f"version = {sys.version.split()[0]}\n" in settings and (VENV / "bin" / "pip").exists()
    return False


def fingerprint() -> str:
    """What the environment depends on: the interpreter, the place, the locks, and our own metadata."""
    digest = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{ROOT}\n".encode())
    for source in (*LOCKS, ROOT / "pyproject.toml"):
        digest.update(source.read_bytes())
    # An editable install records only the component folders that hold code when it runs.
    digest.update(repr(sorted(ROOT.glob("*/vmpulse_*/__init__.py"))).encode())
    return digest.hexdigest()


def build_venv() -> None:
    """Create ``.venv`` if need be, and install the locks and the project into it."""
    STAMP.unlink(missing_ok=True)
    python = VENV / "bin" / "python"
    if not venv_is_usable():
        say("creating the virtual environment")
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], timeout_s=PIP_TIMEOUT_S)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    say("installing build tools")
    run([*pip, "--require-hashes", "-r", str(LOCKS[0])], timeout_s=PIP_TIMEOUT_S)
    say("installing Python packages, compiling libvirt-python")
    run([*pip, "--require-hashes", "--no-build-isolation", "-r", str(LOCKS[1])], timeout_s=PIP_TIMEOUT_S)
    say("installing vmpulse itself, editable")
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], timeout_s=PIP_TIMEOUT_S)
    STAMP.write_text(fingerprint(), encoding="ascii")


def run(command: Sequence[str], *, timeout_s: float, must_succeed: bool = True) -> None:
    """Run quietly, in time and without a terminal; show the output only of a command that failed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd=ROOT,
        process_group=0,
    )
    try:
        output, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        fail(f"no end after {timeout_s:.0f} s: {' '.join(command)}")
    finally:
        end_group(child)
    if child.returncode and must_succeed:
        print("\n".join(output.splitlines()[-30:]), file=sys.stderr)
        fail(f"exit status {child.returncode}: {' '.join(command)}")


def end_group(child: subprocess.Popen[str]) -> None:
    """Leave no process of an interrupted command behind; dpkg gets time to finish its step."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=20)


if __name__ == "__main__":
    sys.exit(main())
