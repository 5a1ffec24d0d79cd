"""Locks, metadata and the bootstrap: an installation is reproducible, and says what it does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BOOTSTRAP = ROOT / "deploy" / "bootstrap.py"
RUNTIME = ("agent", "consumers", "simulator")


def name_of(requirement: str) -> str:
    """The normalised project name at the start of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def pins(lock: str) -> dict[str, str]:
    """Project -> version, as a lock pins them."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return {name_of(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)}


def declared(*tables: str) -> set[str]:
    """The projects that pyproject.toml asks for: the base and the given extras."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    needs = [*PYPROJECT["project"]["dependencies"], *(need for table in tables for need in extras[table])]
    return {name_of(need) for need in needs}


def bootstrap(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the bootstrap as a person would, and have its words."""
    command = (sys.executable, str(BOOTSTRAP), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_pin_has_hashes(lock: Path) -> None:
    """Each pinned version carries at least one hash, so pip accepts nothing else."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_lock_names_no_place(lock: Path) -> None:
    """Locks hold no address, no option and no absolute path: where packages come from is the machine's business."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        assert not re.search(r"://|(^|\s)/\w|^-", line), line


def test_locks_cover_what_is_declared() -> None:
    """Each lock pins what its extra asks for, and the development lock pins everything."""
    assert declared("agent") <= pins("agent").keys()
    assert declared("consumers") <= pins("consumers").keys()
    assert declared("simulator") <= pins("simulator").keys()
    groups = PYPROJECT["dependency-groups"]
    assert declared(*RUNTIME) | {name_of(need) for need in groups["dev"]} <= pins("dev").keys()
    assert {name_of(need) for need in groups["build"]} == pins("build").keys() & {name_of(n) for n in groups["build"]}


@pytest.mark.parametrize("lock", ["audit", "build", *RUNTIME])
def test_locks_agree(lock: str) -> None:
    """A project has one version over all locks, so what was tested is what gets shipped."""
    tested = pins("dev")
    differing = {name: version for name, version in pins(lock).items() if tested.get(name, version) != version}
    assert differing == {}


def test_agent_stays_light() -> None:
    """A hypervisor gets no numpy, no HTTP stack and no terminal colours."""
    assert not {"numpy", "litestar", "httpx", "uvicorn", "uvloop", "rich"} & pins("agent").keys()


def test_scripts_belong_to_packaged_modules() -> None:
    """Each console script points into a package that the wheel contains."""
    packaged = {Path(package).name for package in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    for target in PYPROJECT["project"]["scripts"].values():
        assert target.partition(".")[0] in packaged


def test_bootstrap_says_what_it_would_install() -> None:
    """``--plan`` names the Debian packages and the environment, and changes nothing."""
    said = bootstrap("lab", "--plan")
    assert said.returncode == 0
    assert said.stdout == ""
    assert "Debian packages for 'lab'" in said.stderr
    assert "virtual environment .venv" in said.stderr


def test_bootstrap_without_apt_names_what_is_missing(tmp_path: Path) -> None:
    """On a system that is not Debian, the missing tools are named, and in CI that is an error."""
    said = bootstrap("test", "--packages-only", PATH=str(tmp_path), CI="true")
    assert said.returncode == 1
    assert "no apt-get" in said.stderr
    assert "rabbitmq-server" in said.stderr
    assert "Traceback" not in said.stderr


def test_bootstrap_goes_on_without_what_only_some_tests_need(tmp_path: Path) -> None:
    """Where everything is there but amqp-tools, whose one test skips itself, the bootstrap says so and goes on."""
    for tool in ("rabbitmq-server", "prometheus", "cc", "pkg-config", "openssl"):
        (tmp_path / tool).write_text("#!/bin/sh\n", encoding="ascii")
        (tmp_path / tool).chmod(0o755)
    said = bootstrap("test", "--packages-only", PATH=str(tmp_path), CI="")
    assert (said.returncode, "going on without amqp-tools" in said.stderr) == (0, True), said.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_help_lists_the_targets() -> None:
    """``make`` alone tells what it can do."""
    shown = subprocess.run(("make", "-C", str(ROOT)), capture_output=True, text=True, check=True).stdout
    targets = (
        "setup demo test check lab soak deb fuzz prove lock audit licences clean fmt"
        " bench-frame bench-agent bench-check bench-chaos bench-connections bench-flood bench-freshness bench-soak"
        " bench-view bench-warmup bench-wire bench-reads bench-ingest bench-scale bench-view bench"
    )
    for target in targets.split():
        assert re.search(rf"^{target}\s", shown, re.MULTILINE), target
