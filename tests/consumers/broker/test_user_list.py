"""Lists of hosts and folders of passwords, as people write them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vmpulse_consumers.broker.user_list import PASSWORD_BYTES, defined, passwords_in, read_hosts, wanted_rights
from vmpulse_consumers.errors import BadHostList, PasswordUnusable
from vmpulse_contract.identity import HostId
from vmpulse_edges.broker_definitions import is_password, password_hash


def test_a_list_has_one_host_a_line(tmp_path: Path) -> None:
    """Comments, blanks and empty lines are nothing."""
    file = tmp_path / "hosts"
    file.write_text("# rack 1\nh001\n\n  h002  # spare\n", encoding="utf-8")
    assert read_hosts(file) == ["h001", "h002"]


@pytest.mark.parametrize(
    "text, amiss",
    [
        ("h001\nH002\n", "line 2: host name 'H002' is not allowed; allowed: 1 to 63 of a-z, 0-9, - and _"),
        ("h001\nengine.view\n", "line 2: host name 'engine.view' is not allowed"),
        ("h001\n.*\n", "line 2: host name '.*' is not allowed"),
        ("h001\nh002\nh001\n", "line 3: h001 is there already, in line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, amiss: str) -> None:
    """File, line and what is allowed: a name that means something in a pattern never becomes a user."""
    file = tmp_path / "hosts"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadHostList) as caught:
        read_hosts(file)
    assert str(caught.value).startswith(f"{file}, {amiss}")


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(BadHostList, match="No such file"):
        read_hosts(tmp_path / "no")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadHostList, match="binary cannot be read"):
        read_hosts(tmp_path / "binary")


def test_passwords_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """What is there stays; what is made is random, and nobody else may read it."""
    folder = tmp_path / "new" / "passwords"
    passwords, made = passwords_in(folder, ["h001", "h002"])
    assert made == ["h001", "h002"]
    assert len({*passwords.values()}) == 2
    assert all(len(password) >= PASSWORD_BYTES for password in passwords.values())
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert passwords_in(folder, ["h001", "h002", "h003"]) == (
        {**passwords, "h003": (folder / "h003").read_text(encoding="ascii")},
        ["h003"],
    )


def test_a_password_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    file = tmp_path / "h001"
    file.write_text("secret", encoding="ascii")
    file.chmod(0o644)
    with pytest.raises(PasswordUnusable, match="chmod o-rwx"):
        passwords_in(tmp_path, ["h001"])


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * 2000])
def test_a_password_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, or far too long."""
    file = tmp_path / "h001"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(PasswordUnusable, match="has to hold one password"):
        passwords_in(tmp_path, ["h001"])


def test_a_hash_that_fits_is_kept() -> None:
    """A second run changes nothing; another password gets another hash."""
    rights = wanted_rights([HostId("h001")], "main", simulator=False)
    passwords = dict.fromkeys(rights, "secret")
    known = password_hash("secret")
    kept = {user.name: user.hash for user in defined(rights, passwords, {"h001": known, "engine.view": "no hash"})}
    assert kept["h001"] == known
    assert is_password("secret", kept["engine.view"])
    assert not is_password("another", kept["engine.view"])


def test_the_simulator_is_there_only_when_it_is_asked_for() -> None:
    """It may speak for any host."""
    assert "engine.simulator" not in wanted_rights([], "main", simulator=False)
    assert "engine.simulator" in wanted_rights([], "main", simulator=True)
