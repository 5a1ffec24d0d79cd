"""Write the lock files beside this script from pyproject.toml, the one place where requirements are stated.

Run it as ``make lock``. Versions already locked stay as they are unless ``--upgrade`` is given, or, for one package,
``--upgrade-package``. pip-compile finds packages the way pip is set up on the machine; what it writes names no index,
no link and no path.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HEADER_COMMAND = "make lock"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile every lock; the first two bind the others, so one package has one version everywhere."""
    upgrades = parse(arguments)
    pyproject = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    for lock, (needs, bound_by) in plan(pyproject).items():
        print(f"compiling {lock}", flush=True)
        compile_lock(lock, needs, bound_by, upgrades)


def parse(arguments: Sequence[str] | None) -> list[str]:
    """The command line, as pip-compile's options that say what may get another version."""
    parser = argparse.ArgumentParser(prog="make lock", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="everything to its newest version")
    parser.add_argument("--upgrade-package", action="append", default=[], metavar="NAME[==VERSION]", help="only this")
    options = parser.parse_args(arguments)
    packages = [f"--upgrade-package={package}" for package in options.upgrade_package]
    return [*(["--upgrade"] if options.upgrade else []), *packages]


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
        "audit.txt": (groups["audit"], ["dev.txt"]),
    }


def simulated(extras: dict[str, list[str]]) -> list[str]:
    """What the simulator's image needs: its own extra and the agent's, without the libvirt binding."""
    return [*extras["simulator"], *(need for need in extras["agent"] if not need.startswith("libvirt"))]


def compile_lock(lock: str, needs: list[str], bound_by: list[str], upgrades: list[str]) -> None:
    """Run pip-compile for one lock, in its folder, so that comments name no absolute path."""
    command = [
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--no-config", "--generate-hashes"),
        *("--allow-unsafe", "--strip-extras", "--no-emit-options", "--annotation-style=line"),
        *(f"--constraint={constraint}" for constraint in bound_by),
        *upgrades,
        f"--output-file={lock}",
        "-",
    ]
    requirements = "".join(f"{need}\n" for need in sorted(set(needs)))
    environment = {**os.environ, "CUSTOM_COMPILE_COMMAND": HEADER_COMMAND}
    subprocess.run(command, cwd=FOLDER, input=requirements, text=True, env=environment, check=True)


if __name__ == "__main__":
    main()
