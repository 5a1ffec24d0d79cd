"""The RPM's spec says what the project says; what is built from it is `make rpm-test`'s affair."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "deploy" / "rpm" / "vmpulse.spec").read_text(encoding="utf-8")


def test_version_and_licence_are_the_projects() -> None:
    """A source package is rebuilt elsewhere, so both stand in the spec itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tags = dict(re.findall(r"^(Version|License):\s+(.+)$", SPEC, re.MULTILINE))
    assert tags == {"Version": project["version"], "License": project["license"]}


def test_every_unit_is_packaged() -> None:
    """Whatever lies in deploy/systemd is installed, and listed as the package's."""
    for file in (ROOT / "deploy" / "systemd").iterdir():
        assert f"deploy/systemd/{file.name}" in SPEC
        assert f"/{file.name}\n" in SPEC.partition("%files")[2] or file.suffix == ".sysusers"
