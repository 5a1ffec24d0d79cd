"""docker-compose.yml and .env.example as tests read them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "docker-compose.yml"
EXAMPLE: Final = ROOT / ".env.example"
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


@cache
def composed() -> dict[str, Any]:
    """The compose file with every variable at its default."""
    text = VARIABLE.sub(lambda found: found[2], COMPOSE.read_text(encoding="utf-8"))
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def services() -> dict[str, dict[str, Any]]:
    """Service -> what it is made of."""
    found: dict[str, dict[str, Any]] = composed()["services"]
    return found


def environment(service: str) -> dict[str, str]:
    """The environment of a service, with every variable at its default."""
    given = services()[service].get("environment", {})
    return {name: "" if value is None else str(value) for name, value in given.items()}


def published(service: str) -> dict[int, str]:
    """Container port -> what it is published as."""
    found = {}
    for port in services()[service].get("ports", ()):
        outside, _, inside = port.rpartition(":")
        found[int(inside)] = outside
    return found


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Path in the container -> (folder, file or volume, read-only)."""
    found = {}
    for mount in services()[service].get("volumes", ()):
        if isinstance(mount, dict):
            found[mount["target"]] = (mount["source"], mount.get("read_only", False))
        else:
            source, target, *mode = mount.split(":")
            found[target] = (source, mode == ["ro"])
    return found


def example() -> dict[str, str]:
    """The assignments of .env.example."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines if line and line[0] != "#")}
