"""What the agent's unit leaves of root is enough: the real agent on real libvirt and QEMU, confined as the unit says.

`make units-test` tries the whole unit under systemd; this is the part that needs none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

import libvirt
import pytest

from tests.conftest import require
from tests.lab.private_libvirt import PrivateLibvirt, missing
from tests.test_systemd import entries

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}"),
    pytest.mark.timeout(60),
]
UNIT: Final = "vmpulse-agent.service"
VM: Final = UUID(int=7)
NOBODY: Final = 65534
"""Neither us nor the user of libvirt's daemon: distributions run QEMU as a user of its own."""
LABEL: Final = (
    f"<seclabel type='static' model='dac' relabel='no'><label>+{NOBODY}:+{NOBODY}</label></seclabel></domain>"
)
GROUP: Final = 54321
PROGRAM_S: Final = 20
NONE: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")


def confinement(*more: str, group: int | None = None) -> tuple[str, ...]:
    """The command that takes from root what the unit takes; *more* capabilities and a *group* are what it keeps."""
    found = entries(UNIT)
    assert found["NoNewPrivileges"] == ["yes"]
    names = " ".join((*found["CapabilityBoundingSet"], *more)).split()
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    groups = () if group is None else (f"--groups={group}",)
    return ("setpriv", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}", "--no-new-privs", *groups, "--")


@pytest.fixture(scope="module", autouse=True)
def setpriv() -> None:
    """The tool that takes rights away has to be there."""
    require(None if shutil.which("setpriv") else "setpriv is not installed: install what Debian calls util-linux")


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateLibvirt]:
    """A libvirt with one running domain, whose QEMU belongs to another user."""
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as started:
        Path(folder).chmod(0o755)
        xml = started.light_domain("a", uuid=VM).replace("</domain>", LABEL)
        os.chown(started.root / "disks" / "a.raw", NOBODY, NOBODY)
        admin = libvirt.open(started.uri)
        admin.createXML(xml)
        admin.close()
        yield started


def agent(node: PrivateLibvirt, command: str, *options: str, rights: Sequence[str] = ()) -> str:
    """What a command of the agent prints when it has only these rights."""
    words = (*rights, sys.executable, "-m", "vmpulse_agent", command, "--uri", node.uri)
    done = subprocess.run(
        (*words, "--run-dir", str(node.run_dir), "--host", "h001", *options),
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def lasting(sample: str) -> Any:
    """What a sample says that does not change from one moment to the next, and of the rest whether it is known."""
    said = json.loads(sample)
    frame, vm = said["frame"], said["vms"][str(VM)]
    moments = [name for name in ("cpuUser", "cpuSys", "elapsedTime", "statsAge") if vm.pop(name, None) is not None]
    return (
        {name: said[name] for name in ("host", "facts", "vms", "unread")},
        {name: frame[name] for name in ("layout", "count", "digest", "status", "memUsage")},
        sorted(frame["hostStats"]),
        moments,
    )


def test_the_unit_leaves_one_capability() -> None:
    """Confined as the unit says, a root process has the right to read everything, and no other."""
    done = subprocess.run((*confinement(), "cat", "/proc/self/status"), capture_output=True, text=True, check=True)
    fields = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    dac_read_search = f"{1 << 2:016x}"
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {dac_read_search}
    assert fields["NoNewPrivs"] == "1"


def test_the_agent_publishes_the_same(node: PrivateLibvirt) -> None:
    """Frame, facts, tokens, hashes and sections are those of an agent with all of root's rights, pid and start too."""
    assert Path(f"/proc/{node.domain_pid('a')}").stat().st_uid == NOBODY
    full, confined = (lasting(agent(node, "sample", rights=rights)) for rights in ((), confinement()))
    assert confined == full
    vm = confined[0]["vms"][str(VM)]
    assert vm["sections"]["info"]["pid"] == node.domain_pid("a")
    assert confined[3] == ["cpuUser", "cpuSys", "elapsedTime", "statsAge"]


def test_the_agent_finds_the_same(node: PrivateLibvirt, tmp_path: Path) -> None:
    """``check`` says of libvirt, daemon, guest agents, pid files, password and state folder what it says to root."""
    secret = tmp_path / "password"
    secret.write_text("secret")
    secret.chmod(0o400)
    os.chown(secret, NOBODY, NOBODY)
    options = ("--broker-url", "amqp://127.0.0.1:1/", "--metrics-port", "", "--broker-password-file", str(secret))
    full, confined = (
        verdicts(agent(node, "check", *options, "--state-dir", str(tmp_path / "state"), rights=rights))
        for rights in ((), confinement())
    )
    assert confined == full
    alright = {"settings", "host", "state folder", "libvirt", "daemon", "domains", "guest agents", "pid files"}
    assert {name for name, verdict in confined.items() if verdict.startswith("ok")} >= alright | {"password file"}


def verdicts(said: str) -> dict[str, str]:
    """Verdict and reason of each subject of ``check``, without what a moment decides."""
    rows = (line for line in said.splitlines() if line[:1].strip())
    found = {row[6:22].strip(): f"{row[:5].strip()} {row[22:]}" for row in rows}
    del found["clock"]
    return found | {"domains": found["domains"].partition(";")[0]}


def test_the_capability_is_needed(node: PrivateLibvirt) -> None:
    """Pid files in a folder that is another user's alone are read with the unit's one capability, not without it."""
    before = node.run_dir.stat()
    node.run_dir.chmod(0o700)
    os.chown(node.run_dir, NOBODY, NOBODY)
    try:
        with_it, without = (json.loads(agent(node, "sample", "--once", rights=r)) for r in (confinement(), NONE))
    finally:
        os.chown(node.run_dir, before.st_uid, before.st_gid)
        node.run_dir.chmod(before.st_mode & 0o7777)
    assert with_it["vms"][str(VM)]["sections"]["info"]["pid"] == node.domain_pid("a")
    assert "pid" not in without["vms"][str(VM)]["sections"]["info"]


@pytest.mark.parametrize(
    "hidden, remedy",
    [(f"hidepid=2,gid={GROUP}", confinement(group=GROUP)), ("hidepid=4", confinement("CAP_SYS_PTRACE"))],
    ids=["by group", "by right"],
)
def test_where_processes_are_hidden(node: PrivateLibvirt, hidden: str, remedy: Sequence[str]) -> None:
    """Where /proc hides others' processes pid and start are unknown; its group, or CAP_SYS_PTRACE, brings them back."""
    mounted = (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        f'mount -t proc -o {hidden} proc /proc; "$@"',
    )
    as_is, mended = (
        json.loads(agent(node, "sample", "--once", rights=(*mounted, "sh", *rights)))["vms"][str(VM)]
        for rights in (confinement(), remedy)
    )
    assert ("pid" in as_is["sections"]["info"], "elapsedTime" in as_is) == (False, False)
    assert mended["sections"]["info"]["pid"] == node.domain_pid("a")
    assert "elapsedTime" in mended
