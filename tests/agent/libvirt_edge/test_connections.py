"""Ways to a libvirt: modular, monolithic and read-only sockets, user and password, TLS; what is said where none is."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from uuid import UUID

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.libvirt_edge.following import following
from tests.lab import libvirt_access
from tests.lab.libvirt_access import ADDRESS, READ_ONLY, SECRET, USER, WRITABLE, activated, inside, probed, reconfigure
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.commands.assembly import libvirt_options
from vmpulse_agent.errors import HypervisorError, HypervisorRefused
from vmpulse_agent.hypervisor import ConnectionBack, ConnectionLost
from vmpulse_agent.libvirt_edge import LibvirtOptions, addresses
from vmpulse_agent.settings import AgentSettings
from vmpulse_contract.errors import SettingsError

Test = TypeVar("Test", bound=Callable[..., object])
WHY_NOT = missing() or libvirt_access.missing()


def lab_marks(test: Test) -> Test:
    """Mark a test that needs a private libvirt."""
    skip = pytest.mark.skipif(WHY_NOT is not None, reason=f"private libvirt: {WHY_NOT}")
    marked: Test = pytest.mark.lab(skip(pytest.mark.timeout(60)(test)))
    return marked


HOST = ("--host", "h1", "--metrics-port", "0", "--broker-url", "amqp://127.0.0.1:1/")
NAME = "a"
WRONG = "not-the-" + SECRET


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own folder: its path may be too long for a socket."""
    with TemporaryDirectory(prefix="lv") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def silent() -> Iterator[PrivateLibvirt]:
    """Namespaces without a daemon: whoever looks for libvirt at its default sockets finds none."""
    with TemporaryDirectory(prefix="lv") as path, PrivateLibvirt(Path(path) / "n") as node:
        node.terminate()
        yield node


@pytest.fixture(scope="module")
def asking() -> Iterator[PrivateLibvirt]:
    """A daemon with one running domain that asks for user and password everywhere."""
    with TemporaryDirectory(prefix="lv") as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SASL_CONF_PATH", f"{path}/sasl2")
        with libvirt_access.sasl_node(Path(path) / "n") as node:
            admin = libvirt.open(node.uri)
            admin.createXML(node.light_domain(NAME, uuid=UUID(int=1)))
            admin.close()
            libvirt_access.sasl_config(Path(path) / "sasl2", "scram-sha-256")
            reconfigure(node, auth_unix_ro="sasl", auth_unix_rw="sasl", auth_tcp="sasl")
            yield node


@pytest.fixture
def strict(asking: PrivateLibvirt, request: pytest.FixtureRequest) -> PrivateLibvirt:
    """That daemon, started anew with the password as it was, and with the mechanism that the test names."""
    asking.terminate()
    libvirt_access.sasl_config(asking.root.parent / "sasl2", getattr(request, "param", "scram-sha-256"))
    asking.start()
    probed(asking.uri)
    return asking


@pytest.fixture
def options(strict: PrivateLibvirt, folder: Path) -> LibvirtOptions:
    """As the agent would have to be set."""
    (folder / "password").write_text(SECRET + "\n")
    return LibvirtOptions(
        uri=strict.uri, run_dir=strict.run_dir, user=USER, password_file=folder / "password", retry_first_s=0.05
    )


def said(node: PrivateLibvirt, *arguments: str, files: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the agent's program inside the node's network."""
    command = inside(node, sys.executable, "-m", "vmpulse_agent", *arguments, *HOST, files=files)
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


def finding(done: subprocess.CompletedProcess[str], what: str) -> str:
    """What ``check`` says of one thing, with its remedy."""
    lines = done.stdout.splitlines()
    at = [number for number, line in enumerate(lines) if line[6:20].strip() == what]
    assert at, done.stdout + done.stderr
    return "\n".join(lines[at[0] : at[0] + 2])


async def refusal(options: LibvirtOptions) -> str:
    """Why there is no connection: one line, without the password."""
    with pytest.raises(HypervisorRefused) as caught:
        async with following(options):
            pass
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


# --- sockets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["virtqemud", "libvirt"])
@lab_marks
def test_daemon_is_named(silent: PrivateLibvirt, name: str) -> None:
    """The default URI finds the modular and the monolithic daemon's sockets, and the check says which."""
    with activated(silent, name, WRITABLE, READ_ONLY):
        done = said(silent, "check", files=True)
    assert finding(done, "libvirt").startswith("ok"), done.stdout
    daemon = finding(done, "daemon")
    assert f"libvirtd at /run/libvirt/{name}-sock; libvirtd at /run/libvirt/{name}-sock-ro" in daemon
    assert "may be asked" in finding(done, "guest agents")


@lab_marks
def test_what_to_start_is_said(silent: PrivateLibvirt) -> None:
    """Without a socket both are named with what starts them; without the read-only one, that one."""
    none = finding(said(silent, "check", files=True), "libvirt")
    assert none.startswith("FAIL")
    assert "there is no /run/libvirt/virtqemud-sock-ro or /run/libvirt/libvirt-sock-ro" in none
    assert "systemctl start virtqemud-ro.socket" in none
    assert "systemctl start libvirtd-ro.socket" in none
    with activated(silent, "virtqemud", WRITABLE):
        half = finding(said(silent, "check", files=True), "libvirt")
    assert "there is /run/libvirt/virtqemud-sock, but no read-only socket" in half


@lab_marks
def test_read_only_socket_alone(silent: PrivateLibvirt) -> None:
    """Where the read-write socket is not there, the agent works, and says once what it lacks."""
    with activated(silent, "virtqemud", READ_ONLY):
        done = said(silent, "sample", "--once", files=True)
        allowed = said(silent, "sample", "--once", "--guest-agent", "false", files=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("guest agents may not be asked") == 1
    assert "libvirt-sock': No such file" in done.stderr
    assert (allowed.returncode, allowed.stderr) == (0, "")


# --- user and password -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", ["scram-sha-256", "digest-md5"], indirect=True)
@lab_marks
async def test_sasl_through_a_socket(options: LibvirtOptions, caplog: pytest.LogCaptureFixture) -> None:
    """With user and password every connection opens, the one for guest agents too; the log shows no password."""
    caplog.set_level(logging.DEBUG)
    async with following(options) as follower:
        assert [domain.answered for domain in (await follower.hypervisor.look()).domains] == [True]
        assert follower.hypervisor.asks_guests
    assert SECRET not in caplog.text


@lab_marks
async def test_refusals_say_what_to_mend(options: LibvirtOptions, folder: Path) -> None:
    """A wrong password, none, and one that cannot be read are told apart."""
    (folder / "wrong").write_text(WRONG)
    assert "user or password are wrong; mend libvirt_user" in await refusal(
        options._replace(password_file=folder / "wrong")
    )
    assert "set libvirt_user and libvirt_password_file" in await refusal(options._replace(password_file=None))
    assert "set libvirt_user and libvirt_password_file" in await refusal(options._replace(user=""))
    unreadable = await refusal(options._replace(password_file=folder / "none"))
    assert "mend libvirt_password_file" in unreadable
    assert "none" in unreadable


@lab_marks
async def test_auth_file(options: LibvirtOptions, folder: Path) -> None:
    """An auth file of libvirt's works by the URI alone; a wrong or missing one is named."""
    file = folder / "auth.conf"
    bare = options._replace(user="", password_file=None, uri=f"{options.uri}&authfile={file}")
    text = "[credentials-a]\nauthname={}\npassword={}\n[auth-libvirt-default]\ncredentials=a\n"
    with pytest.raises(HypervisorError, match="its auth file cannot be read"):
        async with following(bare):
            pass
    file.write_text(text.format(USER, WRONG))
    assert f"see user and password for this host in {file}" in await refusal(bare)
    file.write_text(text.format(USER, SECRET))
    async with following(bare) as follower:
        assert (await follower.hypervisor.look()).domains


@lab_marks
async def test_password_may_change(strict: PrivateLibvirt, options: LibvirtOptions) -> None:
    """While the password is wrong the daemon is asked less and less; a new one in the file needs no restart."""
    assert options.password_file is not None
    quick = options._replace(retry_first_s=0.2)
    async with following(quick) as follower:
        libvirt_access.set_password(strict.root.parent / "sasl2", WRONG)
        await asyncio.to_thread(strict.restart)
        await follower.until(lambda event: isinstance(event, ConnectionLost))
        before, began = libvirt_access.refusals(strict), time.monotonic()
        # Doubling pauses from 0.2 s on, each halved at the most: the fifth comes no earlier than 1.5 s after the first.
        await asyncio.sleep(1.4)
        assert time.monotonic() - began < 10
        assert 1 <= libvirt_access.refusals(strict) - before <= 5
        with pytest.raises(HypervisorError, match="user or password are wrong"):
            await follower.hypervisor.look()
        options.password_file.write_text(WRONG)
        await follower.until(lambda event: isinstance(event, ConnectionBack))
        assert (await follower.hypervisor.look(states_only=True)).domains


@pytest.mark.parametrize("strict", ["digest-md5"], indirect=True)
@lab_marks
def test_sasl_over_tcp(strict: PrivateLibvirt, options: LibvirtOptions, folder: Path) -> None:
    """Over the network the domain is there, without what needs the host's files; a wrong password is one line."""
    uri = ("--uri", f"qemu+tcp://{ADDRESS}/system", "--libvirt-user", USER, "--libvirt-password-file")
    done = said(strict, "sample", "--once", *uri, str(options.password_file))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frame"]["count"] == 1
    (folder / "wrong").write_text(WRONG)
    refused = said(strict, "sample", "--once", *uri, str(folder / "wrong"))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "user or password are wrong" in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr


@lab_marks
def test_mechanism_that_does_not_encrypt(strict: PrivateLibvirt, options: LibvirtOptions) -> None:
    """Without TLS libvirt takes none, and the error says what to take."""
    uri = ("--uri", f"qemu+tcp://{ADDRESS}/system", "--libvirt-user", USER, "--libvirt-password-file")
    refused = said(strict, "sample", "--once", *uri, str(options.password_file))
    assert refused.returncode == 1
    assert "take qemu+tls:// or" in refused.stderr


# --- TLS -------------------------------------------------------------------------------------------------------------


@lab_marks
def test_tls(folder: Path) -> None:
    """Certificates of one authority let us in; other ones, none, and nobody who listens are told apart."""
    ours, others = folder / "pki", folder / "others"
    for place in (ours, others):
        libvirt_access.authority(place)
        libvirt_access.certificates(place)
    with PrivateLibvirt(folder / "n", address=ADDRESS) as node:
        server = {"key_file": f"{ours}/serverkey.pem", "cert_file": f"{ours}/servercert.pem", "auth_tls": "none"}
        reconfigure(node, listen_tls=1, ca_file=f"{ours}/cacert.pem", **server)
        probed(node.uri)
        uri = f"qemu+tls://{ADDRESS}/system?pkipath="
        assert said(node, "sample", "--once", "--uri", f"{uri}{ours}").returncode == 0
        other = said(node, "sample", "--once", "--uri", f"{uri}{others}")
        assert other.returncode == 1
        assert "both sides need certificates of one authority" in other.stderr
        none = said(node, "sample", "--once", "--uri", f"{uri}{folder}/none")
        assert "a certificate cannot be read" in none.stderr
        nobody = said(node, "sample", "--once", "--uri", f"qemu+tls://{ADDRESS}:9/system?pkipath={ours}")
        assert "nobody answers there" in nobody.stderr


# --- URIs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri,shown",
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+unix:///system?socket=/run/a-sock", "qemu+unix:///system?socket=/run/a-sock"),
        ("qemu+tls://u@h:1/system?pkipath=/a/b", "qemu+tls://u@h:1/system?pkipath=/a/b"),
        ("qemu+tls://u:s3cret@h/system?token=s3cret#s3cret", "qemu+tls://u:***@h/system?token=***"),
        ("test:///default", "test:///default"),
        ("qemu://[s3cret", "***"),
    ],
)
def test_uri_is_shown_without_secrets(uri: str, shown: str) -> None:
    """What libvirt itself knows stays readable; the rest may be a secret."""
    assert addresses.shown(uri) == shown


@given(st.text(max_size=60))
def test_any_uri_can_be_shown(uri: str) -> None:
    """Whatever was set, an error about it can be written."""
    assert isinstance(addresses.shown(uri), str)
    assert isinstance(addresses.has_password(uri), bool)


def test_password_in_the_uri_is_refused() -> None:
    """It is no use to libvirt, and the error does not repeat it."""
    with pytest.raises(SettingsError, match="libvirt_password_file") as caught:
        libvirt_options(AgentSettings(uri="qemu+tls://u:s3cret@h/system"))
    assert "s3cret" not in str(caught.value)
