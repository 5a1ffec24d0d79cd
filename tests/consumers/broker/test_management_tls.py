"""`vmpulse broker` towards a management API that is served with TLS, and one that is not, beyond loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_broker
from tests.consumers.broker.operating import ADMIN, Operator
from tests.edges.certificates import Authority
from vmpulse_simulator.broker_files import free_port_numbers
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


class Stand:
    """A node whose management API listens with TLS as well, an authority that signed it, and one that did not."""

    def __init__(self, folder: Path) -> None:
        (folder / "other").mkdir()
        self.authority, self.other = Authority(folder), Authority(folder / "other", "other")
        served = self.authority.signs("broker", "IP:127.0.0.1")
        (port,) = free_port_numbers(1)
        config = f"""\
management.ssl.ip = 127.0.0.1
management.ssl.port = {port}
management.ssl.cacertfile = {self.authority.pair.cert}
management.ssl.certfile = {served.cert}
management.ssl.keyfile = {served.key}
"""
        self.broker = PrivateBroker(root=folder, users=[ADMIN], management=True, extra_config=config)
        self.url = f"https://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The stand, running."""
    require_broker()
    found = Stand(tmp_path_factory.mktemp("management"))
    with found.broker:
        yield found
        found.broker.kill()


@pytest.fixture
def towards(tmp_path: Path, stand: Stand) -> Operator:
    """Whoever runs the commands towards it, with a list of one host."""
    found = Operator(tmp_path, stand.broker)
    found.list("h001")
    return found


def test_an_authority_of_ones_own_is_trusted(stand: Stand, towards: Operator) -> None:
    """The definitions go out and come back over https, and nothing differs."""
    secure = ("--management-url", stand.url, "--management-ca-file", str(stand.authority.pair.cert))
    done = towards.apply(*secure)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    checked = towards.run("check", *secure)
    assert (checked.returncode, f"{stand.url}: 6 users, nothing differs" in checked.stderr) == (0, True), checked.stderr


@pytest.mark.parametrize("action", ["check", "guard"])
@pytest.mark.parametrize("named", ["nobody", "other"])
def test_a_management_api_of_another_authority_is_not_spoken_to(
    stand: Stand, towards: Operator, action: str, named: str
) -> None:
    """The system's authorities did not sign it, nor did the one that is named; the line says which option helps."""
    other = ("--management-ca-file", str(stand.other.pair.cert)) if named == "other" else ()
    done = towards.run(action, "--management-url", stand.url, *other)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "is not trusted: " in done.stderr
    assert "name the file of its authority with --management-ca-file" in done.stderr


def test_no_password_goes_beyond_loopback_in_clear(stand: Stand, towards: Operator) -> None:
    """An http address that is not known to be this machine is refused, unless --insecure takes it upon itself."""
    # Resolved to 127.0.0.1, and no spelling of loopback that we know.
    beyond = ("--management-url", f"http://127.1:{stand.broker.ports.management}")
    assert towards.apply().returncode == 0
    for action in ("check", "guard"):
        done = towards.run(action, *beyond)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "https://..., since http:// would send the administrator's password in clear" in done.stderr
        assert "or --insecure, where something else protects the way" in done.stderr
    done = towards.run("check", *beyond, "--insecure")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_an_authoritys_file_that_is_none_is_named(towards: Operator) -> None:
    """With the option that names it."""
    done = towards.run("check", "--management-ca-file", "/no/such/file")
    assert done.returncode == 2
    assert "setting --management-ca-file: '/no/such/file' is not allowed; allowed: a readable PEM file" in done.stderr
