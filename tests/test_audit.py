"""`make audit`: what is known counts, and what nobody answered never counts as harmless."""

from __future__ import annotations

import contextlib
import http.server
import json
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "requirements" / "audit.py"
JUDGE = runpy.run_path(str(SCRIPT))["judge"]
PINS = {"msgpack": {"1.2.4": ["agent", "dev"]}, "yarl": {"1.25.1": ["agent"]}}
CLEAN = [{"name": "msgpack", "version": "1.2.4", "vulns": []}, {"name": "yarl", "version": "1.25.1", "vulns": []}]
FLAW = {"id": "PYSEC-2030-1", "aliases": ["CVE-2030-1"], "fix_versions": ["1.2.5", "2.0.1"], "description": "bad"}
# What pip-audit 2.10 reports, with exit status 0, where an index has a package and no vulnerability reports.
SKIPPED = {"name": "yarl", "skip_reason": "Dependency not found on PyPI and could not be audited: yarl (1.25.1)"}


def judge(*dependencies: Mapping[str, Any]) -> tuple[int, str]:
    """The exit status and the words for a report of pip-audit on two locked packages."""
    status, lines = JUDGE({"dependencies": dependencies, "fixes": []}, PINS)
    return status, "\n".join(lines)


def test_nothing_known_is_success() -> None:
    """A report that clears each pinned version is exit status 0, with the number of packages."""
    assert judge(*CLEAN) == (0, "2 packages, none with a known vulnerability")


def test_a_known_vulnerability_says_how_to_mend_it() -> None:
    """A vulnerability is exit status 1 and a line with version, locks, both identifiers and the command that helps."""
    status, said = judge({**CLEAN[0], "vulns": [FLAW]}, CLEAN[1])
    assert status == 1
    assert said == (
        "msgpack 1.2.4 (agent, dev): PYSEC-2030-1 CVE-2030-1; "
        "fixed in 1.2.5, 2.0.1: make lock ARGS='--upgrade-package msgpack'"
    )


def test_a_vulnerability_nobody_has_mended_is_one() -> None:
    """Where no version is free of it, the line says so and the exit status is 1 all the same."""
    status, said = judge({**CLEAN[0], "vulns": [{**FLAW, "fix_versions": []}]}, CLEAN[1])
    assert (status, "no fixed version is known" in said) == (1, True)


def test_a_skipped_package_is_not_cleared() -> None:
    """A package that the service has never heard of is exit status 2, named, with pip-audit's reason."""
    status, said = judge(CLEAN[0], SKIPPED)
    assert status == 2
    assert said.startswith("error: 1 of 2 packages were not audited: yarl (Dependency not found")


@pytest.mark.parametrize("reported", [[CLEAN[0]], [CLEAN[0], {**CLEAN[1], "version": "1.25.0"}]], ids=["none", "other"])
def test_silence_is_not_cleared(reported: list[dict[str, Any]]) -> None:
    """A pinned version that the report leaves out, or names in another version, was not audited."""
    status, said = judge(*reported)
    assert (status, "1 of 2 packages were not audited: yarl;" in said) == (2, True)


def test_a_vulnerability_outweighs_silence() -> None:
    """Where one package is vulnerable and another was skipped, both are told and the exit status is 1."""
    status, said = judge({**CLEAN[0], "vulns": [FLAW]}, SKIPPED)
    assert status == 1
    assert "PYSEC-2030-1" in said
    assert "not audited: yarl" in said


# --- the real pip-audit, asking a service on loopback -----------------------------------------------------------------


class Advisories(http.server.BaseHTTPRequestHandler):
    """A service that speaks OSV's protocol and knows what its class says."""

    status = 200
    known: Mapping[str, Any] = {}
    asked: set[tuple[str, str]]

    def do_POST(self) -> None:
        """Answer one question for one version."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = question["package"]["name"]
        self.asked.add((name, question["version"]))
        body = json.dumps({"vulns": [self.known[name]]} if name in self.known else {}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Say nothing: pytest's output is for what failed."""


@contextlib.contextmanager
def advisories(known: Mapping[str, Any], status: int = 200) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """The address of a service that knows *known*, and what it was asked."""
    asked: set[tuple[str, str]] = set()
    handler = type("Handler", (Advisories,), {"known": known, "status": status, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(address: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does, with the service at *address*."""
    command = (sys.executable, str(SCRIPT), "--vulnerability-service", "osv", "--osv-url", address)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.timeout(700)
def test_every_pinned_version_is_asked_about() -> None:
    """Where the service knows of nothing, pip-audit has asked for every version of every lock, and the exit is 0."""
    with advisories({}) as (address, asked):
        said = audit(address)
    assert said.returncode == 0, said.stderr
    pinned = {
        tuple(line.split(" ")[0].split("=="))
        for lock in (ROOT / "requirements").glob("*.txt")
        for line in lock.read_text(encoding="utf-8").splitlines()
        if line[:1].isalnum()
    }
    assert asked == pinned
    assert said.stdout == f"audit: {len(pinned)} packages, none with a known vulnerability\n"


@pytest.mark.long
@pytest.mark.timeout(700)
def test_a_vulnerable_lock_fails() -> None:
    """A vulnerability that the service knows of a locked package ends the audit with 1 and names its locks."""
    affected = {
        "package": {"name": "msgpack", "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.0"}]}],
    }
    flaw = {"id": "PYSEC-2030-1", "aliases": ["CVE-2030-1"], "summary": "bad", "affected": [affected]}
    with advisories({"msgpack": flaw}) as (address, _):
        said = audit(address)
    assert said.returncode == 1, said.stderr
    assert "(agent, audit, consumers, dev, simulator): PYSEC-2030-1 CVE-2030-1; fixed in 9.0" in said.stderr


@pytest.mark.long
@pytest.mark.timeout(700)
def test_a_service_that_fails_is_no_answer() -> None:
    """A service that answers each question with an error of its own ends the audit with 2 and one line."""
    with advisories({}, status=503) as (address, _):
        said = audit(address)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith("audit: error: no report from pip-audit: ")


@pytest.mark.long
@pytest.mark.timeout(700)
def test_a_service_out_of_reach_is_no_answer() -> None:
    """Where nothing listens at the service's address, the audit ends with 2 and one line that says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/query"
    said = audit(address)
    assert said.returncode == 2
    assert "audit: error: no report from pip-audit: " in said.stderr
    assert "Connection refused" in said.stderr
    assert "Traceback" not in said.stderr
