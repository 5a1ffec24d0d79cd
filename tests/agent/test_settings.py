"""The agent's settings: where they come from, who the host is, and which broker user speaks for it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from vmpulse_agent.settings import PREFIX, AgentSettings, broker_of, checked_labels, host_of
from vmpulse_contract.errors import BadName, SettingsError
from vmpulse_contract.identity import HostId
from vmpulse_contract.settings import add_flags
from vmpulse_edges.settings_source import load, read_secret

HOST = HostId("node-7")


def parsed(*arguments: str) -> argparse.Namespace:
    """Flags as the program reads them."""
    parser = argparse.ArgumentParser()
    add_flags(parser, AgentSettings, PREFIX)
    return parser.parse_args(arguments)


def test_flags_win_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer source wins: file, then environment, then flags; what none gives has its default."""
    config = tmp_path / "agent.toml"
    config.write_text('tick_s = 4.0\nhost = "file"\ndevice_s = 9.0\n[labels]\nzone = "a"\n', encoding="utf-8")
    monkeypatch.setenv(PREFIX + "HOST", "environment")
    monkeypatch.setenv(PREFIX + "TICK_S", "5")
    settings = load(AgentSettings, parsed("--config", str(config), "--host", "flag"), PREFIX)
    assert (settings.host, settings.tick_s, settings.device_s, settings.refresh_s) == ("flag", 5.0, 9.0, 300.0)
    assert settings.labels == {"zone": "a"}


@pytest.mark.parametrize("given, port", [("9000", 9000), ("0", 0), ("", "")])
def test_port_of_the_metrics_may_be_empty(given: str, port: int | str, tmp_path: Path) -> None:
    """A port, any port, or none: alike from a flag and from a file."""
    config = tmp_path / "agent.toml"
    config.write_text(f"metrics_port = {given or repr(given)}\n", encoding="utf-8")
    assert load(AgentSettings, parsed("--metrics-port", given), PREFIX).metrics_port == port
    assert load(AgentSettings, parsed("--config", str(config)), PREFIX).metrics_port == port
    assert load(AgentSettings, parsed(), PREFIX).metrics_port == 9178
    with pytest.raises(SettingsError, match="0 to 65535, or empty"):
        load(AgentSettings, parsed("--metrics-port", "70000"), PREFIX)


@pytest.mark.parametrize("content", ["ticks = 3", "tick_s = 'often'", "tick_s = 0", "tick_s", "labels = 3", "\xff"])
def test_wrong_file_is_a_settings_error(content: str, tmp_path: Path) -> None:
    """Unknown names, wrong types, values out of range and broken files are one error, in one line."""
    config = tmp_path / "agent.toml"
    config.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError) as wrong:
        load(AgentSettings, parsed("--config", str(config)), PREFIX)
    assert "\n" not in str(wrong.value)


def test_default_host_is_the_fqdn_with_dashes() -> None:
    """Without a setting the host is called by its FQDN, lower-case, with dashes for dots."""
    assert host_of(AgentSettings(), "Node-7.Rack.Example.") == "node-7-rack-example"
    assert host_of(AgentSettings(host="other"), "node-7.example") == "other"
    for wrong in (AgentSettings(host="a.b"), AgentSettings(host="x" * 64)):
        with pytest.raises(BadName, match="1 to 63"):
            host_of(wrong, "node-7.example")
    with pytest.raises(BadName):
        host_of(AgentSettings(), "")


@pytest.mark.parametrize(
    "url, user, password, vhost",
    [
        ("amqp://127.0.0.1/", "node-7", "", "/"),
        ("amqp://node-7:pw@127.0.0.1:5673/v", "node-7", "pw", "v"),
        ("amqps://127.0.0.1/v%2Fw", "node-7", "", "v/w"),
        ("amqp://127.0.0.1/a@b", "node-7", "", "a@b"),
    ],
)
def test_broker_user_is_the_host(url: str, user: str, password: str, vhost: str) -> None:
    """The broker's user is the host, and may be left out of the URL."""
    broker = broker_of(AgentSettings(broker_url=url), HOST, None)
    assert (broker.user, broker.password, broker.vhost) == (user, password, vhost)
    assert broker_of(AgentSettings(broker_url=url), HOST, "from-file").password == "from-file"


@pytest.mark.parametrize("url", ["amqp://node-8:pw@127.0.0.1/", "http://127.0.0.1/", "127.0.0.1", "amqp://h:x/", ""])
def test_wrong_broker_url_is_refused_without_its_password(url: str) -> None:
    """Another user, another scheme or no address at all are refused; the password is not shown."""
    with pytest.raises(SettingsError) as wrong:
        broker_of(AgentSettings(broker_url=url), HOST, None)
    assert "pw" not in str(wrong.value)


@pytest.mark.parametrize("seconds", ["30.1", "300", "0"])
def test_device_samples_are_at_most_30_s_apart(seconds: str) -> None:
    """A longer span would hide the peaks that reports are to show: the error says what is allowed."""
    with pytest.raises(SettingsError, match=r"device-s.*0\.1 to 30 seconds"):
        load(AgentSettings, parsed("--device-s", seconds), PREFIX)
    assert load(AgentSettings, parsed("--device-s", "30"), PREFIX).device_s == 30.0


def test_secret_is_its_file_without_the_line_end(tmp_path: Path) -> None:
    """A secret is read from its file, spaces and all; a file that cannot be read is a settings error."""
    (tmp_path / "secret").write_text(" s3cret \r\n", encoding="utf-8")
    assert read_secret("broker_password_file", str(tmp_path / "secret")) == " s3cret "
    assert read_secret("broker_password_file", "") is None
    with pytest.raises(SettingsError, match="broker_password_file"):
        read_secret("broker_password_file", str(tmp_path))


@pytest.mark.parametrize("labels", [{f"k{n}": "v" for n in range(33)}, {"": "v"}, {"k": "v" * 257}, {"k" * 257: "v"}])
def test_labels_beyond_the_limits_are_refused(labels: dict[str, str]) -> None:
    """Labels that no view would take are refused at the start rather than in every roster."""
    with pytest.raises(SettingsError, match="labels"):
        checked_labels(AgentSettings(labels=labels))
    assert checked_labels(AgentSettings(labels={"zone": "a"})) == {"zone": "a"}
