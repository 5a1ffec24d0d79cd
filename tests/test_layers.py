"""The architecture, kept by machine: cores do no I/O and read no clock, and the components keep apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "vmpulse_agent": ROOT / "agent" / "vmpulse_agent",
    "vmpulse_consumers": ROOT / "consumers" / "vmpulse_consumers",
    "vmpulse_contract": ROOT / "contract" / "vmpulse_contract",
    "vmpulse_edges": ROOT / "edges" / "vmpulse_edges",
    "vmpulse_simulator": ROOT / "simulator" / "vmpulse_simulator",
}
# The cores: values in, values out. A name stands for the module or package and everything below it.
CORES = (
    "vmpulse_contract",
    "vmpulse_agent.session",
    "vmpulse_agent.ledger",
    "vmpulse_agent.allowance",
    "vmpulse_consumers.view",
    "vmpulse_consumers.events.description",
    "vmpulse_consumers.events.log",
    "vmpulse_consumers.capture.records",
    "vmpulse_consumers.capture.recording",
    "vmpulse_consumers.capture.replaying",
    "vmpulse_consumers.capture.digest",
)
# What no core may load, not even through others; asked of a fresh interpreter.
HEAVY = {"asyncio", "socket", "aio_pika", "aiormq", "libvirt", "prometheus_client", "numpy", "threading"}
MAY_LOAD = {
    "vmpulse_consumers.view": {"numpy"},
    "vmpulse_consumers.events.description": {"numpy"},
    "vmpulse_consumers.capture.recording": {"numpy"},
    "vmpulse_consumers.capture.replaying": {"numpy"},
    "vmpulse_consumers.capture.digest": {"numpy"},
}
# The interpreter itself loads these, so a core's own import statements are read instead: time and chance are inputs.
NONDETERMINISTIC = {"time", "datetime", "random", "os", "secrets"}
NONDETERMINISTIC_NAMES = {"uuid.uuid1", "uuid.uuid4"}
# The arrows of the architecture, by what each package may not import.
FORBIDDEN = {
    "vmpulse_agent": {"vmpulse_consumers", "vmpulse_simulator"},
    "vmpulse_consumers": {"vmpulse_agent", "vmpulse_simulator"},
    "vmpulse_contract": {"vmpulse_agent", "vmpulse_consumers", "vmpulse_edges", "vmpulse_simulator"},
    "vmpulse_edges": {"vmpulse_agent", "vmpulse_consumers", "vmpulse_simulator"},
    "vmpulse_simulator": set[str](),
}
# Drivers stay at the edges: the files that may import each, as patterns from the root.
EDGES = {
    "libvirt": ("agent/vmpulse_agent/libvirt_*.py",),
    "aio_pika": ("*/vmpulse_*/amqp_*.py", "*/vmpulse_*/amqp/*.py"),
    "aiormq": ("*/vmpulse_*/amqp_*.py", "*/vmpulse_*/amqp/*.py"),
}


def sources(name: str) -> list[Path]:
    """The files of a package or module, none while it does not exist."""
    package, _, rest = name.partition(".")
    place = PACKAGES[package].joinpath(*rest.split(".")) if rest else PACKAGES[package]
    module = place.with_suffix(".py")
    return [module] if module.exists() else sorted(place.rglob("*.py"))


def module_name(source: Path) -> str:
    """The dotted name of a source file: its folder's folder is the import root."""
    parts = source.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: Path) -> Iterator[str]:
    """Every dotted name a file imports, at top level or inside a function; ``a.b`` for ``from a import b``."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_levels(source: Path) -> set[str]:
    """The packages a file imports from."""
    return {name.partition(".")[0] for name in imports(source)}


def core_modules() -> list[str]:
    """Each module of each core, ``__main__`` apart: that one is an edge by nature."""
    return [module_name(source) for core in CORES for source in sources(core) if source.stem != "__main__"]


def core_of(module: str) -> str:
    """The core that a module belongs to."""
    return next(core for core in CORES if f"{module}.".startswith(f"{core}."))


@pytest.mark.parametrize("module", core_modules())
def test_core_loads_no_driver(module: str) -> None:
    """Importing the module in a fresh interpreter loads no event loop, socket, driver or thread."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    loaded = HEAVY & set(done.stdout.split())
    # numpy itself loads threading and more, so where it is allowed, only direct imports tell.
    if "numpy" in loaded and "numpy" in MAY_LOAD.get(core_of(module), ()):
        loaded &= {name for source in sources(core_of(module)) for name in top_levels(source)} - {"numpy"}
    assert loaded == set()


@pytest.mark.parametrize("core", CORES)
def test_core_reads_no_clock_and_draws_no_lots(core: str) -> None:
    """Cores are given the time and their random ids, so that a test can decide both."""
    for source in sources(core):
        names = set(imports(source))
        offences = {name for name in names if name.partition(".")[0] in NONDETERMINISTIC}
        assert offences | (names & NONDETERMINISTIC_NAMES) == set(), source


@pytest.mark.parametrize("core", CORES)
def test_core_does_not_call_uuid4(core: str) -> None:
    """``import uuid`` is fine in a core, drawing a random one is not."""
    for source in sources(core):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        drawn = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & {"uuid1", "uuid4"}
        assert drawn == set(), source


@pytest.mark.parametrize("package", FORBIDDEN)
def test_components_keep_apart(package: str) -> None:
    """No package imports another against the arrows."""
    for source in sources(package):
        assert top_levels(source) & FORBIDDEN[package] == set(), source


@pytest.mark.parametrize("driver", EDGES)
def test_driver_is_imported_at_its_edge_only(driver: str) -> None:
    """Only the edge files import the driver, so that it can be replaced and everything else tested without it."""
    for package in PACKAGES:
        for source in sources(package):
            place = source.relative_to(ROOT).as_posix()
            allowed = any(fnmatch(place, pattern) for pattern in EDGES[driver])
            assert allowed or driver not in top_levels(source), place


def test_guard_sees_a_planted_import(tmp_path: Path) -> None:
    """The reader of imports finds them at every depth and in both spellings."""
    planted = tmp_path / "planted.py"
    planted.write_text("import time as t\ndef f():\n    from datetime import datetime\n", encoding="utf-8")
    assert set(imports(planted)) == {"time", "datetime.datetime"}
