"""The virtual environment that a package brings: both programs, as they will lie below /opt/vmpulse.

    python3 deploy/packaged_environment.py STAGE [--wheels FOLDER]

It is of the Python that runs this, with nothing but the standard library; the package depends on that one. Every Python
package is pinned by hash; nothing of pip and of what only builds stays. With a folder of packages no index is asked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = Path("/opt/vmpulse")
LOCKS = ("agent.txt", "consumers.txt")
BUILD_LOCK = "build.txt"
OLDEST_GLIBC = (2, 34)
"""EL 9's: packages that are downloaded for other systems ask for no newer one."""


class PackageError(Exception):
    """Something stands in the way. The message says what helps."""


def environment(stage: Path, wheels: Path | None = None) -> None:
    """Make the environment below *stage* as it will be below /. Raises PackageError."""
    place = stage / HOME.relative_to("/")
    # Its cache may hold what was compiled for something else, with debug information or for another libvirt.
    hashed = ("install", "--require-hashes", "--no-compile", "--no-cache-dir", *offline(wheels))
    pip = with_build_tools(place, hashed)
    for lock in LOCKS:
        run(*pip, *hashed, "--no-build-isolation", "--requirement", lock_file(lock))
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--no-compile", str(ROOT))
    run(*pip, "uninstall", "--yes", *sorted(pinned(BUILD_LOCK) - pinned(*LOCKS)))
    for origin in place.glob("lib/*/site-packages/*.dist-info/direct_url.json"):
        origin.unlink()  # it names the folder that this was built in
    for file in [*(place / "bin").iterdir(), place / "pyvenv.cfg"]:
        relocate(file, place)
    for record in place.glob("lib/*/site-packages/*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines()
        record.write_text("".join(recorded(line, record.parents[1]) for line in lines), encoding="utf-8")


def download(folder: Path, versions: Iterable[str], machine: str) -> None:
    """Bring all that the locks name for these versions of Python, so that it can be built without a network.

    Raises PackageError.
    """
    with tempfile.TemporaryDirectory(prefix="vmpulse-tools-") as tools:
        pip = with_build_tools(Path(tools), ("install", "--require-hashes"))
        for version in versions:
            target = ("--python-version", version, *platforms(machine))
            for lock in (BUILD_LOCK, *LOCKS):
                into = ("--dest", str(folder), "--requirement", lock_file(lock))
                run(*pip, "download", "--require-hashes", "--no-deps", "--no-build-isolation", *target, *into)


def platforms(machine: str) -> tuple[str, ...]:
    """Pip's options for wheels that run with `OLDEST_GLIBC`, newest first."""
    major, newest = OLDEST_GLIBC
    names = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)]
    names += [f"manylinux2014_{machine}", f"linux_{machine}"]
    return tuple(word for name in names for word in ("--platform", name))


def with_build_tools(place: Path, install: tuple[str, ...]) -> tuple[str, ...]:
    """Make an environment there with what builds packages; gives the command of its pip. Raises PackageError."""
    run(sys.executable, "-m", "venv", str(place))
    pip = (str(place / "bin" / "python3"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, *install, "--requirement", lock_file(BUILD_LOCK))
    return pip


def offline(wheels: Path | None) -> tuple[str, ...]:
    """Pip's options to take packages from that folder alone; none without one."""
    return ("--no-index", "--find-links", str(wheels)) if wheels else ()


def lock_file(name: str) -> str:
    """The path of a lock."""
    return str(ROOT / "requirements" / name)


def pinned(*locks: str) -> set[str]:
    """The names that locks pin."""
    texts = [Path(lock_file(lock)).read_text(encoding="utf-8") for lock in locks]
    return {name for text in texts for name in re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)}


def relocate(file: Path, place: Path) -> None:
    """Write into a script where it will be; what cannot be of use there is removed."""
    if file.is_symlink():
        return
    if re.fullmatch(r"pip.*|activate.*|Activate.*", file.name):
        file.unlink()
        return
    text = file.read_bytes()
    file.write_bytes(text.replace(os.fsencode(place), os.fsencode(HOME)))


def recorded(line: str, folder: Path) -> str:
    """A line of a record of installed files with the hash that a script has now; empty for what is gone."""
    name = line.partition(",")[0]
    if name.endswith("/direct_url.json"):
        return ""
    if name.startswith("../"):
        script = (folder / name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(script).digest()).decode("ascii").rstrip("=")
        line = f"{name},sha256={digest},{len(script)}"
    return f"{line}\n"


def run(*command: str) -> str:
    """Run a program, compilers without debug information, which names folders.

    Raises PackageError with the end of what it said.
    """
    flags = f"{os.environ.get('CFLAGS', '')} -g0".strip()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CFLAGS": flags})
    if done.returncode:
        raise PackageError(f"{' '.join(command[:6])} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def main() -> int:
    """Make it below the folder that is named; gives the exit code."""
    parser = argparse.ArgumentParser(prog="packaged_environment.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", type=Path, help="the folder that stands for /")
    parser.add_argument("--wheels", type=Path, help="a folder with every package that the locks name")
    options = parser.parse_args()
    try:
        environment(options.stage.resolve(), options.wheels)
    except (PackageError, OSError) as error:
        print(f"packaged environment: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
