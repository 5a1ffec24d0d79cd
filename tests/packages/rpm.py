"""What is tried with the RPM alone: what it asks for, how rpm takes and removes it, that its source makes it again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.packages.root import Done, Root, ran

ROOT: Final = Path(__file__).resolve().parents[2]
MACROS: Final = ROOT / "deploy" / "rpm" / "debian.macros"
REBUILD_S: Final = 300
EL_HAS: Final = {
    "/bin/sh": "",
    "/usr/bin/python3.11": "",
    "systemd": "",
    "rtld(GNU_HASH)": "",
    "ld-linux-x86-64.so.2": "GLIBC_2.34",
    "libc.so.6": "GLIBC_2.34",
    "libm.so.6": "GLIBC_2.34",
    "libpthread.so.0": "GLIBC_2.34",
    "librt.so.1": "GLIBC_2.34",
    "libgcc_s.so.1": "GCC_11.0",
    "libstdc++.so.6": "GLIBCXX_3.4.29 CXXABI_1.3.13",
    "libvirt.so.0": "LIBVIRT_9.0.0",
    "libvirt-lxc.so.0": "LIBVIRT_LXC_2.0.0",
    "libvirt-qemu.so.0": "LIBVIRT_QEMU_8.2.0",
    "libz.so.1": "",
}
"""What EL 9.2 has, the first with python3.11, and the newest of its versions: glibc 2.34, gcc 11, libvirt 9.0."""
NEWEST_LIBC: Final = (
    "find /opt/vmpulse -name '*.so*' -type f -exec grep -aohE 'GLIBC_2[.][0-9]+' {} + | sort -u -V | tail -n 1"
)


def it_asks_for_what_el_has(root: Root) -> str:
    """Each requirement is one of these in a version that EL 9 has, and none is missing."""
    asked = [line.split() for line in query(root.package, "--requires") if not line.startswith("rpmlib(")]
    names = {words[0].partition("(")[0] if ".so" in words[0] else words[0] for words in asked}
    if names != EL_HAS.keys():
        return f"{sorted(names ^ EL_HAS.keys())}"
    return " ".join(words[0] for words in asked if ".so" in words[0] and is_too_new(words[0]))


def is_too_new(capability: str) -> bool:
    """Whether EL 9's library does not reach the version in a requirement such as libc.so.6(GLIBC_2.28)(64bit)."""
    library, version = capability.split("(")[:2]
    kind, found = version_of(version.strip(")"))
    newest = dict(version_of(text) for text in EL_HAS[library].split())
    return bool(kind) and (kind not in newest or found > newest[kind])


def version_of(text: str) -> tuple[str, tuple[int, ...]]:
    """A symbol version's kind and number."""
    kind, _, number = text.rpartition("_")
    return kind, tuple(int(part) for part in number.split(".") if part.isdigit())


def it_offers_itself_alone(root: Root) -> str:
    """Nothing below /opt is for others; what is bundled is said as such."""
    return " ".join(line for line in query(root.package, "--provides") if not re.match(r"vmpulse\W|bundled\(", line))


def its_scripts_are_whole(root: Root) -> str:
    """Each calls what EL's macros call for both units, and no macro was left as it is written."""
    said = "\n".join(query(root.package, "--scripts"))
    calls = ("install-system-units", "remove-system-units", "mark-restart-system-units")
    units = "vmpulse-agent.service vmpulse-view.service"
    amiss = [call for call in calls if f"systemd-update-helper {call} {units} " not in said]
    return f"{amiss} {said}" if amiss or re.search(r"%\w|%{", said) else ""


def no_host_is_named(root: Root) -> str:
    """Neither package names the machine that it was built on."""
    names = [query(package, "--queryformat", "%{BUILDHOST}\n") for package in (root.package, source_of(root.package))]
    return "" if names == [["localhost"]] * 2 else f"{names}"


def rpm_takes_it(root: Root) -> str:
    """It is installed, its scripts run, and what lies there is what it brought."""
    done = of_rpm(root, "--install", str(root.package))
    return done.said[-400:] if done.code or "warning" in done.said else ""


def rpm_finds_it_unchanged(root: Root) -> str:
    """The programs that ran have changed and added nothing, compiled modules neither."""
    done = of_rpm(root, "--verify", "vmpulse")
    listed = set(query(root.package, "--list"))
    there = root.run("find", "/opt/vmpulse").said.splitlines()
    return done.said[-400:] if done.code else " ".join([path for path in there if path not in listed][:3])


def el_9_can_load_it(root: Root) -> str:
    """No compiled file asks for a newer C library than EL 9 has, although Debian's is newer."""
    done = root.run("sh", "-c", NEWEST_LIBC)
    found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)\s*", done.said)
    if found is None:
        return f"no compiled file was found: {done.said[:200]}"
    return f"{found[0].strip()} is needed" if is_too_new(f"libc.so.6({found[0].strip()})") else ""


def it_follows_itself(root: Root) -> str:
    """An upgrade leaves what was there, and the programs run."""
    done = of_rpm(root, "--upgrade", "--force", str(root.package))
    return done.said[-400:] if done.code else "" if root.run("vmpulse", "--version").code == 0 else "it does not run"


def rpm_removes_it(root: Root) -> str:
    """Nothing of it stays."""
    done = of_rpm(root, "--erase", "vmpulse")
    return done.said[-300:] if done.code else root.left()


def its_source_makes_it_again(root: Root) -> str:
    """Without a network and without the checkout, the source package makes a package with the same files."""
    folder = root.place / "rebuilt"
    options = ("--define", f"_topdir {folder}", "--define", "vmpulse_python 3.11", "--load", str(MACROS))
    alone = ("env", "-C", "/", "unshare", "--net", "rpmbuild", "--nodeps", *options)
    done = ran(*alone, "--rebuild", str(source_of(root.package)), seconds=REBUILD_S)
    made = list(folder.glob(f"RPMS/*/{root.package.name}"))
    if done.code or not made:
        return done.said[-600:]
    differing = sorted(set(contents(made[0])) ^ set(contents(root.package)))
    return "\n".join(differing[:6])


def contents(package: Path) -> Iterator[str]:
    """Each file of a package, its rights, its hash, and where a link leads."""
    yield from query(package, "--queryformat", "[%{FILENAMES} %{FILEMODES:octal} %{FILEDIGESTS} %{FILELINKTOS}\n]")


def source_of(package: Path) -> Path:
    """The source package beside a package."""
    return package.with_name(package.name.removesuffix(".x86_64.rpm") + ".src.rpm")


def query(package: Path, *what: str) -> list[str]:
    """What rpm says of a package file, by line."""
    return [line for line in ran("rpm", "-qp", *what, str(package)).said.splitlines() if line]


def of_rpm(root: Root, *arguments: str) -> Done:
    """Run rpm on the root's own database, which knows of no other package."""
    return ran("rpm", "--root", str(root.place), "--dbpath", "/var/lib/rpm", "--nodeps", *arguments)
