"""Write the lock files beside this script from pyproject.toml, the one place where requirements are stated.

Run it as ``make lock``. Versions already locked stay as they are unless ``--upgrade`` is given. pip-compile finds
packages the way pip is set up on the machine; what it writes names no index, no link and no path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HEADER_COMMAND = "make lock"


def main(arguments: list[str]) -> None:
    """Compile every lock; the first two bind the others, so one package has one version everywhere."""
    pyproject = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    for lock, (needs, bound_by) in plan(pyproject).items():
        print(f"compiling {lock}", flush=True)
        compile_lock(lock, needs, bound_by, upgrade="--upgrade" in arguments)


def plan(pyproject: dict[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """Each lock with what it must satisfy and the locks whose versions it follows."""
    base: list[str] = pyproject["project"]["dependencies"]
    extras: dict[str, list[str]] = pyproject["project"]["optional-dependencies"]
    groups: dict[str, list[str]] = pyproject["dependency-groups"]
    everything = [*base, *(need for extra in extras.values() for need in extra), *groups["dev"]]
    return {
        "build.txt": (groups["build"], []),
        "dev.txt": (everything, ["build.txt"]),
        **{f"{name}.txt": (base + needs, ["dev.txt"]) for name, needs in extras.items()},
        # The simulated fleet runs the real agent in its own process, but never libvirt.
        "simulator.txt": (base + simulated(extras), ["dev.txt"]),
    }


def simulated(extras: dict[str, list[str]]) -> list[str]:
    """What the simulator's image needs: its own extra and the agent's, without the libvirt binding."""
    return [*extras["simulator"], *(need for need in extras["agent"] if not need.startswith("libvirt"))]


def compile_lock(lock: str, needs: list[str], bound_by: list[str], *, upgrade: bool) -> None:
    """Run pip-compile for one lock, in its folder, so that comments name no absolute path."""
    command = [
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--no-config", "--generate-hashes"),
        *("--allow-unsafe", "--strip-extras", "--no-emit-options", "--annotation-style=line"),
        *(f"--constraint={constraint}" for constraint in bound_by),
        *(["--upgrade"] if upgrade else []),
        f"--output-file={lock}",
        "-",
    ]
    requirements = "".join(f"{need}\n" for need in sorted(set(needs)))
    environment = {**os.environ, "CUSTOM_COMPILE_COMMAND": HEADER_COMMAND}
    subprocess.run(command, cwd=FOLDER, input=requirements, text=True, env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
