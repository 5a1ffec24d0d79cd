"""Settings and the command line: wrong values are named with what is allowed, empty ones are none."""

from __future__ import annotations

import pytest

from vmpulse_simulator.__main__ import filled, main
from vmpulse_simulator.dynamics import Rates
from vmpulse_simulator.settings import DemoSettings, RunSettings
from vmpulse_simulator.view_api import checked_url


@pytest.mark.parametrize(
    "option, value, allowed",
    [
        ("--hosts", "0", "1 to 25000"),
        ("--hosts", "many", "1 to 25000"),
        ("--vms", "4097", "1 to 4096"),
        ("--port", "99999", "1 to 65535"),
        ("--tick", "0", "0.5 to 60"),
        ("--seconds-limit", "-1", "1 to 86400, or nothing for no limit"),
        ("--loss-percent", "101", "0 to 100"),
        ("--seed", "-1", "0 or more"),
        ("--migrations", "100001", "0 to 100000"),
    ],
)
def test_wrong_setting_is_named(capsys: pytest.CaptureFixture[str], option: str, value: str, allowed: str) -> None:
    """One line names the setting, the value and what is allowed; exit code 2."""
    assert main(["demo", f"{option}={value}"]) == 2
    assert (
        capsys.readouterr().err
        == f"vmpulse-simulator: setting {option}: {value!r} is not allowed; allowed: {allowed}\n"
    )


def test_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value in the environment is named by its variable."""
    monkeypatch.setenv("VMPULSE_SIMULATOR_VMS", "none")
    assert main(["demo"]) == 2
    assert "VMPULSE_SIMULATOR_VMS" in capsys.readouterr().err


def test_empty_values_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Makefile passes on empty, as a flag or a variable, is as if it was not there."""
    monkeypatch.setenv("VMPULSE_SIMULATOR_HOSTS", "")
    assert filled(DemoSettings, {"seconds_limit": "", "port": ""}) == DemoSettings()


def test_flags_are_read_as_numbers() -> None:
    """Texts of flags become the settings' types, and percents become shares."""
    chosen = filled(DemoSettings, {"hosts": "5", "seconds_limit": "8", "change_percent": "4", "migrations": "60"})
    assert (chosen.hosts, chosen.seconds_limit, chosen.round_s) == (5, 8.0, 8.0)
    assert chosen.rates == Rates(0.04, 0.005, 0.02, 60)


@pytest.mark.parametrize("url", ["view:8080", "https://view:8080", "http://view:x", "http://view:8080/api", "http://"])
def test_wrong_view_is_named(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """What is no address of a view is a wrong setting."""
    assert main(["run", f"--api={url}"]) == 2
    assert f"setting --api: {url!r} is not allowed; allowed: http://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["", "http://view:8080", "http://127.0.0.1:8080/", "http://[::1]:8080"])
def test_right_view_is_taken(url: str) -> None:
    """A view may be anywhere, under a name or an address."""
    assert checked_url("--api", url) == url.rstrip("/")


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """--help of both commands names all settings, with their defaults."""
    for command, kind in (("demo", DemoSettings), ("run", RunSettings)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert all("--" + name.replace("_", "-") in text for name in kind.__struct_fields__)


def test_unreadable_password_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A password file that is not there is a wrong setting."""
    assert main(["run", "--broker-password-file", "/nowhere/at/all"]) == 2
    assert "--broker-password-file" in capsys.readouterr().err


def test_missing_broker_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A password in the URL is never shown, whatever is wrong with it."""
    assert main(["run", "--broker-url", "http://engine.simulator:secret@127.0.0.1/"]) == 2
    assert "secret" not in capsys.readouterr().err
