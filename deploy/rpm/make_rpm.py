"""Build the RPM and its source package with Debian's rpm tools. The results are in dist/.

It runs on Debian's own Python, with nothing but the standard library. What the spec asks for to build is named as EL
names it, so Debian's tools are told not to look for it.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]

from packaged_environment import PackageError, run  # noqa: E402

SPEC = ROOT / "deploy" / "rpm" / "vmpulse.spec"
PLACE = ROOT / ".vmpulse" / "rpm"


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
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    shutil.rmtree(PLACE, ignore_errors=True)
    sources = PLACE / "SOURCES"
    sources.mkdir(parents=True)
    pack(sources / f"vmpulse-{version}.tar.gz", f"vmpulse-{version}")
    print("rpm: a virtual environment, with every package by its hash ...", file=sys.stderr, flush=True)
    run("rpmbuild", "-ba", "--nodeps", "--define", f"_topdir {PLACE}", str(SPEC))
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    built = [shutil.copy(package, dist) for package in sorted(PLACE.glob("*RPMS/**/*.rpm"))]
    shutil.rmtree(PLACE)
    return [Path(package) for package in built]


def pack(archive: Path, top: str) -> None:
    """Pack the files that belong to the project, as they are now."""
    names = run("git", "-C", str(ROOT), "ls-files", "-z").split("\0")
    with tarfile.open(archive, "w:gz") as packed:
        for name in filter(None, names):
            if (ROOT / name).exists():
                packed.add(ROOT / name, f"{top}/{name}", recursive=False, filter=without_owner)


def without_owner(file: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's files but root's."""
    file.uid = file.gid = 0
    file.uname = file.gname = "root"
    return file


if __name__ == "__main__":
    sys.exit(main())
