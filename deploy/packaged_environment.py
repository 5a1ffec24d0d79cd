"""The virtual environment that a package brings: both programs, as they will lie below /opt/vmpulse.

    python3 deploy/packaged_environment.py STAGE

It is of the Python that runs this, with nothing but the standard library; the package depends on that one. Every Python
package is pinned by hash; nothing of pip stays.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = Path("/opt/vmpulse")
LOCKS = ("agent.txt", "consumers.txt")
TOOLS = ("pip", "setuptools", "wheel", "hatchling", "editables")


class PackageError(Exception):
    """Something stands in the way. The message says what helps."""


def environment(stage: Path) -> None:
    """Make the environment below *stage* as it will be below /. Raises PackageError."""
    place = stage / HOME.relative_to("/")
    run(sys.executable, "-m", "venv", str(place))
    pip = (str(place / "bin" / "python3"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    hashed = ("install", "--require-hashes", "--no-compile")
    run(*pip, *hashed, "--requirement", str(ROOT / "requirements" / "build.txt"))
    for lock in LOCKS:
        run(*pip, *hashed, "--no-build-isolation", "--requirement", str(ROOT / "requirements" / lock))
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--no-compile", str(ROOT))
    run(*pip, "uninstall", "--yes", *TOOLS)
    for origin in place.glob("lib/*/site-packages/*.dist-info/direct_url.json"):
        origin.unlink()  # it names the folder that this was built in
    for file in [*(place / "bin").iterdir(), place / "pyvenv.cfg"]:
        relocate(file, place)


def relocate(file: Path, place: Path) -> None:
    """Write into a script where it will be; what cannot be of use there is removed."""
    if file.is_symlink():
        return
    if re.fullmatch(r"pip.*|activate.*|Activate.*", file.name):
        file.unlink()
        return
    text = file.read_bytes()
    file.write_bytes(text.replace(os.fsencode(place), os.fsencode(HOME)))


def run(*command: str) -> str:
    """Run a program. Raises PackageError with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"{' '.join(command[:6])} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Make it below the folder that is named; gives the exit code."""
    try:
        (stage,) = arguments
    except ValueError:
        print("usage: packaged_environment.py STAGE", file=sys.stderr)
        return 2
    try:
        environment(Path(stage).resolve())
    except (PackageError, OSError) as error:
        print(f"packaged environment: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
