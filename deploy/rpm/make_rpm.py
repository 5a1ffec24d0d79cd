"""Build the RPM and its source package with Debian's rpm tools. The results are in dist/.

It runs on Debian's own Python, with nothing but the standard library. What the spec asks for to build is named as EL
names it, so Debian's tools are told not to look for it. The source package has every Python package of the locks, for
the Pythons of EL, so that building it again needs no network.
"""

from __future__ import annotations

import datetime as dt
import gzip
import platform
import re
import shutil
import sys
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]

from packaged_environment import LOCKS, PackageError, download, lock_file, run  # noqa: E402

FOLDER = ROOT / "deploy" / "rpm"
SPEC = FOLDER / "vmpulse.spec"
PLACE = ROOT / ".vmpulse" / "rpm"
EL_PYTHONS = ("3.11", "3.12")


def main() -> int:
    """Build both; gives the exit code, and says where they are."""
    try:
        for package in build():
            print(package)
    except (PackageError, OSError) as error:
        print(f"rpm: {error}", file=sys.stderr)
        return 1
    return 0


def build() -> list[Path]:
    """Build the packages. Raises PackageError."""
    shutil.rmtree(PLACE, ignore_errors=True)
    sources(PLACE / "SOURCES")
    say("a virtual environment, with every package by its hash")
    options = ("--define", f"_topdir {PLACE}", "--define", f"vmpulse_python 3.{sys.version_info.minor}")
    run("rpmbuild", "-ba", "--nodeps", "--load", str(FOLDER / "debian.macros"), *options, str(SPEC))
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    built = [shutil.copy2(package, dist) for package in sorted(PLACE.glob("*RPMS/**/*.rpm"))]
    shutil.rmtree(PLACE)
    return [Path(package) for package in built]


def sources(folder: Path) -> None:
    """Put together what the spec names as its sources. Raises PackageError."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    folder.mkdir(parents=True)
    names = run("git", "-C", str(ROOT), "ls-files", "-z").split("\0")
    files = [ROOT / name for name in sorted(filter(None, names)) if (ROOT / name).exists()]
    pack(folder / f"vmpulse-{version}.tar.gz", f"vmpulse-{version}", ROOT, files)
    say("Python packages for the source package")
    download(PLACE / "wheels", EL_PYTHONS, platform.machine())
    wheels = sorted((PLACE / "wheels").iterdir())
    pack(folder / f"vmpulse-{version}-wheels.tar", "wheels", PLACE / "wheels", wheels)
    shutil.copyfile(ROOT / "deploy" / "systemd" / "vmpulse.sysusers", folder / "vmpulse.sysusers")
    (folder / "bundled.inc").write_text(bundled(), encoding="utf-8")


def bundled() -> str:
    """What the package brings, in the words of EL, so that whoever looks for a vulnerable version finds it."""
    texts = [Path(lock_file(lock)).read_text(encoding="utf-8") for lock in LOCKS]
    pins = {pin for text in texts for pin in re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE)}
    return "".join(f"Provides: bundled(python3dist({name})) = {version}\n" for name, version in sorted(pins))


def pack(archive: Path, top: str, folder: Path, files: Iterable[Path]) -> None:
    """Pack files as they are now, as root's and of the day of the last entry in the spec's changelog."""
    entry = re.search(r"^\* \w+ (\w+ +\d+ \d+) ", SPEC.read_text(encoding="utf-8"), re.MULTILINE)
    if entry is None:
        raise PackageError(f"there is no changelog in {SPEC}")
    day = dt.datetime.strptime(f"{entry[1]} +0000", "%b %d %Y %z").timestamp()

    def settled(file: tarfile.TarInfo) -> tarfile.TarInfo:
        file.uid = file.gid = 0
        file.uname = file.gname = "root"
        file.mtime = int(day)
        return file

    with archive.open("wb") as raw:
        target = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if archive.suffix == ".gz" else raw
        with target, tarfile.open(fileobj=target, mode="w") as packed:
            for file in files:
                packed.add(file, f"{top}/{file.relative_to(folder)}", recursive=False, filter=settled)


def say(words: str) -> None:
    """Say how far it has come."""
    print(f"rpm: {words} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
