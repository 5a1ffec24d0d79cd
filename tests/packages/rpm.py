"""What is tried with the RPM alone: what it asks for, which libc it needs, and how rpm takes and removes it."""

from __future__ import annotations

import re
from typing import Final

from tests.packages.root import Done, Root, ran

EL_HAS: Final = {"/bin/sh", "/usr/bin/python3.11", "libvirt-libs", "systemd"}
"""EL 9: bash, python3.11 and libvirt-libs of AppStream, systemd."""
EL_9_GLIBC: Final = (2, 34)
NEWEST_LIBC: Final = (
    "find /opt/vmpulse -name '*.so*' -type f -exec grep -aohE 'GLIBC_2[.][0-9]+' {} + | sort -u -V | tail -n 1"
)


def it_asks_for_what_el_has(root: Root) -> str:
    """Its requirements are these, and rpm's own; what lies below /opt is for nobody else to find."""
    asked = set(ran("rpm", "-qp", "--requires", str(root.package)).said.split("\n")) - {""}
    given = [line for line in ran("rpm", "-qp", "--provides", str(root.package)).said.split("\n") if line]
    odd = {need for need in asked if not need.startswith("rpmlib(")} ^ EL_HAS
    return f"{odd or given}" if odd or any(not line.startswith("vmpulse") for line in given) else ""


def rpm_takes_it(root: Root) -> str:
    """It is installed, and its scripts run."""
    done = of_rpm(root, "--install", str(root.package))
    return done.said[-400:] if done.code or "warning" in done.said else ""


def el_9_can_load_it(root: Root) -> str:
    """No compiled file asks for a newer C library than EL 9 has, although Debian's is newer."""
    done = root.run("sh", "-c", NEWEST_LIBC)
    found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)\s*", done.said)
    if found is None:
        return f"no compiled file was found: {done.said[:200]}"
    return "" if (int(found[1]), int(found[2])) <= EL_9_GLIBC else f"{found[0].strip()} is needed"


def it_follows_itself(root: Root) -> str:
    """An upgrade leaves what was there, and the programs run."""
    done = of_rpm(root, "--upgrade", "--force", str(root.package))
    return done.said[-400:] if done.code else "" if root.run("vmpulse", "--version").code == 0 else "it does not run"


def rpm_removes_it(root: Root) -> str:
    """Nothing of it stays."""
    done = of_rpm(root, "--erase", "vmpulse")
    return done.said[-300:] if done.code else root.left()


def of_rpm(root: Root, *arguments: str) -> Done:
    """Run rpm on the root's own database, which knows of no other package."""
    return ran("rpm", "--root", str(root.place), "--dbpath", "/var/lib/rpm", "--nodeps", *arguments)
