"""`make secrets`: passwords that stay, and definitions that say of each user what the documentation says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.deploy.compose_file import ROOT, composed, example

SCRIPT = ROOT / "deploy" / "make_secrets.py"
OPERATING = ROOT / "docs" / "operating.md"
DOCUMENTED = ("engine.view", "engine.cli", "engine.worker", "engine.warehouse", "h001")


def make(folder: Path, *hosts: str, more: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the script as make does."""
    options = [option for host in hosts for option in ("--host", host)]
    command = (sys.executable, "-I", str(SCRIPT), "--folder", str(folder), *options, *more)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def definitions(folder: Path) -> dict[str, Any]:
    """What RabbitMQ would load."""
    found: dict[str, Any] = json.loads((folder / "rabbitmq_definitions.json").read_text(encoding="utf-8"))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """What is there stays, byte for byte, and a host that is named later is added to it."""
    assert make(tmp_path, "h001").returncode == 0
    before = contents(tmp_path)
    assert make(tmp_path).returncode == 0
    assert contents(tmp_path) == before
    assert make(tmp_path, "h002").returncode == 0
    after = contents(tmp_path)
    assert {name: after[name] for name in before if name != "rabbitmq_definitions.json"} == {
        name: content for name, content in before.items() if name != "rabbitmq_definitions.json"
    }
    assert {"h001", "h002"} <= {user["name"] for user in definitions(tmp_path)["users"]}


def test_hashes_are_rabbitmqs_and_fit_the_passwords(tmp_path: Path) -> None:
    """A hash is base64 of a 4-byte salt and SHA-256 over salt and password; no password is in the definitions."""
    make(tmp_path, "h001")
    for user in definitions(tmp_path)["users"]:
        file = tmp_path / (user["name"] if "." in user["name"] else f"host.{user['name']}")
        password = file.read_text(encoding="utf-8")
        raw = base64.b64decode(user["password_hash"])
        assert raw[4:] == hashlib.sha256(raw[:4] + password.encode()).digest()
        assert password not in (tmp_path / "rabbitmq_definitions.json").read_text(encoding="utf-8")


def test_rights_are_the_documented_ones(tmp_path: Path) -> None:
    """The users that docs/operating.md sets up by hand get the same permissions here."""
    make(tmp_path, "h001")
    page = OPERATING.read_text(encoding="utf-8").replace("\\\n", " ")
    granted = {each["user"]: each for each in definitions(tmp_path)["permissions"]}
    for user in DOCUMENTED:
        found = re.search(rf"set_permissions -p / {re.escape(user)}\s+'(\S+)'\s+'(\S+)'\s+'(\S+)'", page)
        assert found is not None, user
        assert tuple(granted[user][right] for right in ("configure", "write", "read")) == found.groups(), user


def test_hosts_are_held_to_their_own_keys(tmp_path: Path) -> None:
    """A host has topic permissions on every exchange that the page lists; engine users have none."""
    make(tmp_path, "h001")
    (listed,) = re.findall(r"for exchange in (.*?); do", OPERATING.read_text(encoding="utf-8"))
    topics = definitions(tmp_path)["topic_permissions"]
    assert {each["exchange"] for each in topics} == {f"vmpulse.{exchange}" for exchange in listed.split()}
    assert {(each["user"], each["write"], each["read"]) for each in topics} == {
        ("h001", r"^{username}(\.|$)", r"^{username}(\.|$)")
    }


def test_compose_finds_every_file(tmp_path: Path) -> None:
    """Each secret that the compose file mounts is a file that the script writes, readable behind a closed folder."""
    make(tmp_path, example()["VMPULSE_HOST"])
    for secret in composed()["secrets"].values():
        file = tmp_path / Path(secret["file"]).name
        assert file.stat().st_mode & 0o777 == 0o444
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_docker_made_is_mended(tmp_path: Path) -> None:
    """The empty folder that an engine puts where a secret is missing becomes the secret; a full one is left alone."""
    (tmp_path / "engine.view").mkdir()
    assert make(tmp_path).returncode == 0
    assert (tmp_path / "engine.view").is_file()
    (tmp_path / "engine.cli").unlink()
    (tmp_path / "engine.cli" / "kept").mkdir(parents=True)
    said = make(tmp_path)
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 1
    assert "engine.cli is a folder" in said.stderr


def test_wrong_names_and_empty_passwords_are_told(tmp_path: Path) -> None:
    """A name that no host can have, and an empty password file, are one line each and exit code 1."""
    said = make(tmp_path, "Host.1")
    assert (said.returncode, len(said.stderr.splitlines())) == (1, 1)
    assert "a-z, 0-9, - and _" in said.stderr
    (tmp_path / "engine.view").touch()
    said = make(tmp_path)
    assert (said.returncode, len(said.stderr.splitlines())) == (1, 1)
    assert "engine.view is empty" in said.stderr


def test_nobody_may_speak_for_others_where_that_is_not_wanted(tmp_path: Path) -> None:
    """The one user who may speak for any host can be left out, also where it was there before."""
    make(tmp_path)
    tags = {user["name"]: user["tags"] for user in definitions(tmp_path)["users"]}
    assert [name for name, has in tags.items() if "impersonator" in has] == ["engine.simulator"]
    make(tmp_path, more=["--without-simulator"])
    assert not (tmp_path / "engine.simulator").exists()
    assert [user for user in definitions(tmp_path)["users"] if "impersonator" in user["tags"]] == []
