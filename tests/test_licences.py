"""`make licences`: every package that we bring is listed, and none has a licence that nobody has looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "requirements" / "licences.py"
PAGE = ROOT / "docs" / "licences.md"
PROGRAMS = ("agent", "consumers", "simulator")


def licences(*arguments: str | Path, more_packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with the packages of a folder beside those that are installed."""
    command = (sys.executable, str(SCRIPT), *map(str, arguments))
    environment = {**os.environ, **({"PYTHONPATH": str(more_packages)} if more_packages else {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


class Checkout:
    """Locks that pin one package, which is installed beside them and says of itself what a test wants."""

    def __init__(self, folder: Path, name: str = "strange", version: str = "1.0") -> None:
        self.name = name
        self.folder = folder
        self.page = folder / "licences.md"
        self.info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        self.info.mkdir(parents=True)
        for program in PROGRAMS:
            pins = f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n" if program == "agent" else ""
            (folder / f"{program}.txt").write_text(pins, encoding="utf-8")

    def write(self, *stated: str, files: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Write the page for a package with these lines of metadata and these files."""
        version = self.info.stem.rpartition("-")[2]
        lines = ["Metadata-Version: 2.4", f"Name: {self.name}", f"Version: {version}", *stated]
        (self.info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.info / "RECORD").write_text("".join(f"{file},,\n" for file in files), encoding="utf-8")
        return licences("--locks", self.folder, "--page", self.page, more_packages=self.folder)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_locked_package_is_listed(program: str) -> None:
    """Each package that a program's lock pins has one row in docs/licences.md, which names the program."""
    lock = (ROOT / "requirements" / f"{program}.txt").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| [^|]+ \| ([a-z, ]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = [package for package, programs in rows if program in programs.split(", ")]
    assert listed == sorted(re.findall(r"^(\S+)==", lock, re.MULTILINE))


def test_the_page_is_what_packages_state() -> None:
    """docs/licences.md is what `make licences` writes from the installed packages, each with an allowed licence."""
    said = licences("--check")
    assert said.returncode == 0, said.stderr


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    """A page that lacks a package is out of date; `--check` shows the row and writes nothing."""
    page = tmp_path / "licences.md"
    shortened = re.sub(r"^\| yarl .*\n", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    page.write_text(shortened, encoding="utf-8")
    said = licences("--check", "--page", page)
    assert (said.returncode, "| yarl | Apache-2.0 |" in said.stderr) == (1, True)
    assert page.read_text(encoding="utf-8") == shortened


@pytest.mark.parametrize(
    "stated",
    [
        ["License-Expression: AGPL-3.0-only"],
        ["License-Expression: MIT AND (Apache-2.0 OR GPL-3.0-or-later)"],
        ["License-Expression: LGPL-2.0-or-later"],
        ["License-Expression: MPL-2.0"],
        ["License: see the web page", "Classifier: License :: OSI Approved :: MIT License"],
        ["Classifier: License :: OSI Approved :: BSD License"],
        [],
    ],
    ids=["copyleft", "a part", "another's exception", "another's", "unclear", "ambiguous", "nothing"],
)
def test_what_nobody_allowed_is_refused(tmp_path: Path, stated: list[str]) -> None:
    """A licence that is unknown, ambiguous, missing, or allowed to another package only, is refused with the name."""
    checkout = Checkout(tmp_path)
    said = checkout.write(*stated)
    assert said.returncode == 1
    assert re.fullmatch(r"licences: error: strange is under .*, which is not allowed\n", said.stderr)
    assert not checkout.page.exists()


@pytest.mark.parametrize(
    "stated, shown",
    [
        (["License-Expression: Apache-2.0 AND (BSD-2-Clause OR MIT)"], "Apache-2.0 AND (BSD-2-Clause OR MIT)"),
        (["License: MIT License", "        Copyright (c) 2022 Somebody"], "MIT"),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
    ],
    ids=["expression", "text", "field", "classifier"],
)
def test_each_way_to_state_a_licence_is_read(tmp_path: Path, stated: list[str], shown: str) -> None:
    """SPDX expressions, licence texts, short fields and unambiguous classifiers end as SPDX in the page."""
    checkout = Checkout(tmp_path)
    said = checkout.write(*stated)
    assert said.returncode == 0, said.stderr
    assert f"| strange | {shown} | agent |\n" in checkout.page.read_text(encoding="utf-8")


def test_a_new_version_changes_nothing(tmp_path: Path) -> None:
    """Two versions of a package under one licence make the same page, byte for byte."""
    pages = []
    for version in ("1.0", "2.5.1"):
        checkout = Checkout(tmp_path / version, version=version)
        assert checkout.write("License-Expression: MIT").returncode == 0
        pages.append(checkout.page.read_bytes())
    assert pages[0] == pages[1]


def test_a_carried_library_is_told(tmp_path: Path) -> None:
    """A wheel that carries a shared library which nobody has looked at is refused, whatever its metadata says."""
    said = Checkout(tmp_path).write("License-Expression: MIT", files=["strange.libs/libodd-0a1b2c3d.so.5"])
    assert (said.returncode, "strange carries libodd-0a1b2c3d.so.5" in said.stderr) == (1, True)


def test_a_package_that_is_not_installed_is_told(tmp_path: Path) -> None:
    """A locked package without metadata cannot be listed, and the message says what helps."""
    Checkout(tmp_path, name="not-there")
    said = licences("--locks", tmp_path, "--page", tmp_path / "licences.md")
    assert said.returncode == 1
    assert said.stderr == "licences: error: not-there is locked and not installed here; run `make setup`\n"
