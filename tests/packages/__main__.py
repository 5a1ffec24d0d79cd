"""`make deb-test`, `make rpm-test`: install a package in a root that debootstrap makes, run its programs, remove it.

The root has what the package depends on and nothing else of this checkout; it is made anew, and gone at the end. Needs
root. The last line is one JSON object; the exit code is 1 if anything is not as it should be.

The RPM is for EL, whose packages this root has not: rpm is told not to look for what it requires, and that list is
compared with what EL has.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.compose.base_images import RELEASE, debian_mirror
from tests.packages import rpm
from tests.packages.root import Root, paths

DIST: Final = Path(__file__).resolve().parents[2] / "dist"
INCLUDE: Final = "python3,libvirt0,systemd"
"""What apt would bring along; systemd for the user of the view."""
DEBOOTSTRAP_S: Final = 600


class Kind(NamedTuple):
    """A kind of package: its name in dist, and what is tried with it, in this order."""

    files: str
    checks: tuple[Callable[[Root], str], ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Try it; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages", description="Try a package in a clean root.")
    parser.add_argument("kind", choices=KINDS)
    name = parser.parse_args(arguments).kind
    kind = KINDS[name]
    packages = sorted(DIST.glob(kind.files))
    if not packages:
        sys.stderr.write(f"packages: there is none in dist; run `make {name}`\n")
        return 1
    failed = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmpulse-root-") as folder:
        place = Path(folder) / "root"
        say("debootstrap ...")
        bootstrap(place)
        root = Root(place, packages[-1], paths(place))
        for check in kind.checks:
            amiss = check(root)
            say(f"{'FAIL' if amiss else 'ok  '}  {check.__name__}{': ' + amiss if amiss else ''}")
            failed += [check.__name__] * bool(amiss)
    result = {"package": packages[-1].name, "checks": len(kind.checks), "failed": failed}
    sys.stdout.write(json.dumps(result | {"seconds": round(time.monotonic() - began)}) + "\n")
    return 1 if failed else 0


def bootstrap(place: Path) -> None:
    """Make the root from wherever this machine's apt gets Debian. Raises CalledProcessError."""
    mirror = debian_mirror()
    command = ("debootstrap", "--variant=minbase", f"--include={INCLUDE}", RELEASE, str(place))
    subprocess.run([*command, *([mirror] if mirror else [])], capture_output=True, timeout=DEBOOTSTRAP_S, check=True)


def say(words: str) -> None:
    """Say how far it has come."""
    sys.stderr.write(f"packages: {words}\n")
    sys.stderr.flush()


def dpkg_takes_it(root: Root) -> str:
    """Dpkg installs it, and all that it depends on is there."""
    shutil.copyfile(root.package, root.place / "vmpulse.deb")
    done = root.run("dpkg", "-i", "/vmpulse.deb")
    return "" if done.code == 0 else done.said[-400:]


def both_programs_say_their_version(root: Root) -> str:
    """By their names, which are in PATH."""
    for program in ("vmpulse", "vmpulse-agent"):
        done = root.run(program, "--version")
        if done.code or not done.said.startswith(f"{program} "):
            return f"{program}: {done.said[-300:]}"
    return ""


def the_agent_checks_its_host(root: Root) -> str:
    """It finds libvirt (its test driver here) well, and says that no broker answers: its parts are all there."""
    options = (
        "--uri",
        "test:///default",
        "--host",
        "h001",
        "--broker-url",
        "amqp://127.0.0.1:1/",
        "--metrics-port",
        "0",
    )
    done = root.run("vmpulse-agent", "check", *options)
    lines = done.said.splitlines()
    well = any(line.split()[:2] == ["ok", "libvirt"] for line in lines)
    refused = "amqp://h001@127.0.0.1:1/: Connection refused" in done.said
    return "" if (done.code, well, refused) == (1, True, True) else f"exit code {done.code}: {done.said[-600:]}"


def the_view_begins(root: Root) -> str:
    """It loads all that it needs, and refuses to be open to strangers."""
    done = root.run("vmpulse", "view", "--http-host", "192.0.2.1")
    return "" if done.code == 2 and "http_tokens_file" in done.said else f"exit code {done.code}: {done.said[-300:]}"


def units_and_user_are_there(root: Root) -> str:
    """Systemd finds the units, whose programs exist, and the view's user has been made."""
    verified = root.run("systemd-analyze", "verify", "vmpulse-agent.service", "vmpulse-view.service")
    user = root.run("getent", "passwd", "vmpulse")
    return verified.said[-300:] if verified.code else "" if user.code == 0 else "there is no user vmpulse"


def nothing_of_the_build_is_left(root: Root) -> str:
    """No file names a folder of the build, and neither pip nor what only builds is there."""
    places = rf"{re.escape(str(DIST.parent))}/|/[.]vmpulse/|/pip-[a-z]+-"
    names = "-name 'pip*' -o -name 'activate*' -o -name 'setuptools*' -o -name 'hatchling*' -o -name 'pathspec*'"
    script = f"grep -rlaE '{places}' /opt/vmpulse; cd /opt/vmpulse; find bin lib/*/site-packages -maxdepth 1 {names}"
    return root.run("sh", "-c", script).said[:300]


def an_administrator_writes(root: Root) -> str:
    """The folder for settings is there, and nobody else may write into it."""
    done = root.run("sh", "-c", "echo 'tick_s = 3' >/etc/vmpulse/agent.toml && stat -c %U:%G:%a /etc/vmpulse")
    return "" if (done.code, done.said.strip()) == (0, "root:root:755") else done.said


def dpkg_takes_it_again(root: Root) -> str:
    """An upgrade to itself works, and so do the programs afterwards."""
    done = root.run("dpkg", "-i", "/vmpulse.deb")
    return done.said[-300:] if done.code else both_programs_say_their_version(root)


def dpkg_removes_it(root: Root) -> str:
    """Nothing of it stays."""
    done = root.run("dpkg", "-r", "vmpulse")
    return done.said[-300:] if done.code else root.left()


WORKS: Final[tuple[Callable[[Root], str], ...]] = (
    both_programs_say_their_version,
    the_agent_checks_its_host,
    the_view_begins,
    units_and_user_are_there,
    nothing_of_the_build_is_left,
    an_administrator_writes,
)
KINDS: Final = {
    "deb": Kind("vmpulse_*.deb", (dpkg_takes_it, *WORKS, dpkg_takes_it_again, dpkg_removes_it)),
    "rpm": Kind(
        "vmpulse-*.x86_64.rpm",
        (
            rpm.it_asks_for_what_el_has,
            rpm.it_offers_itself_alone,
            rpm.its_scripts_are_whole,
            rpm.no_host_is_named,
            rpm.rpm_takes_it,
            rpm.el_9_can_load_it,
            *WORKS,
            rpm.rpm_finds_it_unchanged,
            rpm.it_follows_itself,
            rpm.rpm_removes_it,
            rpm.its_source_makes_it_again,
        ),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
