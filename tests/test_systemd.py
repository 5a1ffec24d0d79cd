"""The systemd units: systemd takes them without a word, and they name what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct
from msgspec.structs import asdict

from vmpulse_agent.settings import PREFIX, AgentSettings
from vmpulse_consumers.cli.view_command import READY_LATEST_S
from vmpulse_consumers.settings import VIEW_PREFIX, ViewSettings
from vmpulse_contract.settings import fill
from vmpulse_edges.sd_notify import STATUS_S

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "deploy" / "systemd"
UNITS: Final[dict[str, tuple[type[Struct], str, str]]] = {
    "vmpulse-agent.service": (AgentSettings, PREFIX, "vmpulse-agent run"),
    "vmpulse-view.service": (ViewSettings, VIEW_PREFIX, "vmpulse view"),
}


def entries(unit: str) -> dict[str, list[str]]:
    """All values of a unit, by key."""
    found = defaultdict(list)
    for line in (FOLDER / unit).read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say: no unknown key, no value that it would ignore."""
    assert verified(unit, tmp_path) == (0, "", "")


def verified(unit: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """What ``systemd-analyze verify`` says of a unit, with the drop-ins that the folder has for it."""
    text = (FOLDER / unit).read_text(encoding="utf-8")
    copy = folder / unit
    # What is not installed here cannot be started, and would be complained about.
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE)
    copy.write_text(text, encoding="utf-8")
    command = ("systemd-analyze", "verify", str(copy))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=15, check=False, env=os.environ | environment
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit, most", [("vmpulse-view.service", 20), ("vmpulse-agent.service", 30)])
def test_units_expose_little(unit: str, most: int) -> None:
    """By systemd's own measure, of 0 to 100, below 50 of which is "OK"; a unit that loses a restriction shows."""
    command = ("systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(FOLDER / unit))
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", UNITS)
def test_unit_fits_the_program(unit: str) -> None:
    """The unit runs a command that is there, by settings that are; its watchdog gets over a late feeding."""
    settings, prefix, command = UNITS[unit]
    found = entries(unit)
    assert found["Type"] == ["notify"]
    assert re.fullmatch(rf"/opt/vmpulse/bin/{command} --config /etc/vmpulse/\w+\.toml", found["ExecStart"][0])
    for assignment in found["Environment"]:
        name = assignment.partition("=")[0]
        assert name.startswith(prefix)
        assert name.removeprefix(prefix).lower() in settings.__struct_fields__
    # What is stuck is not fed any more; what is not stuck may be late, on a busy machine.
    assert float(found["WatchdogSec"][0]) >= 3 * STATUS_S
    assert float(found["TimeoutStartSec"][0]) > READY_LATEST_S
    assert found["RestartPreventExitStatus"] == ["2"]
    # The limit of starts is for programs that somebody starts again by hand, not for what RestartSec paces.
    seconds, starts = float(found["StartLimitIntervalSec"][0]), int(found["StartLimitBurst"][0])
    assert seconds / float(found["RestartSec"][0]) < starts


def test_documented_check_is_told_what_the_unit_hands_over() -> None:
    """``check`` outside of the unit is documented with the password file and the state folder that the unit has."""
    found = entries("vmpulse-agent.service")
    secret, state = found["LoadCredential"][0].partition(":")[2], found["StateDirectory"][0]
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert f"--broker-password-file {secret} --state-dir /var/lib/{state}\n" in page


def test_credentials_are_what_the_settings_name() -> None:
    """The password file that the program is told of is the credential that the unit loads."""
    for unit in UNITS:
        found = entries(unit)
        credential = found["LoadCredential"][0].partition(":")[0]
        assert [one for one in found["Environment"] if one.endswith(f"_BROKER_PASSWORD_FILE=%d/{credential}")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS)
def test_documented_drop_ins_fit_the_unit(unit: str, tmp_path: Path) -> None:
    """Both are taken without a word; with that for certificates the program is told of no password file any more."""
    settings, prefix, _ = UNITS[unit]
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    certificate, memory = (
        "".join(f"{line.strip()}\n" for line in found.splitlines())
        for found in re.findall(
            r"^(    \[Service\]\n(?:    (?:LoadCredential=|Environment=|MemoryMax=)\S*\n)+)", page, re.MULTILINE
        )
    )
    drop_ins = tmp_path / f"{unit}.d"
    drop_ins.mkdir()
    (drop_ins / "certificate.conf").write_text(certificate.replace("VMPULSE_AGENT_", prefix), encoding="utf-8")
    (drop_ins / "memory.conf").write_text(memory, encoding="utf-8")
    assert "\nLoadCredential=\n" in certificate
    assert verified(unit, tmp_path) == (0, "", "")
    dumped = verified(unit, tmp_path, SYSTEMD_LOG_LEVEL="debug")[1]
    told = dict(re.findall(r"^\s*Environment: (\w+)=(.*)$", dumped, re.MULTILINE))
    filled = fill(settings, table={}, environment=told, flags={}, prefix=prefix)
    assert asdict(filled)["broker_password_file"] == ""
