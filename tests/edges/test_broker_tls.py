"""TLS to a real broker: who is trusted, who we are, and files that are renewed or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import require_broker
from tests.edges.certificates import Authority, Pair
from vmpulse_consumers.settings import CallSettings
from vmpulse_contract.broker_url import BrokerUrl, TlsFiles, parse
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.rights import engine_rights, host_rights
from vmpulse_edges.amqp_connection import connect
from vmpulse_edges.broker_settings import address_of
from vmpulse_edges.errors import BrokerError, BrokerRefused, TlsFilesUnusable
from vmpulse_edges.tls import client_context
from vmpulse_simulator.broker_files import free_port_numbers
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

HOST = BrokerUser("h001", "host-password", host_rights("h001"))
VIEW = BrokerUser("engine.view", "view-password", engine_rights()["engine.view"])


class Stand:
    """A broker that listens with TLS, and two authorities: its own, and one that it does not know."""

    def __init__(self, folder: Path) -> None:
        (folder / "other").mkdir()
        self.authority, self.other = Authority(folder), Authority(folder / "other", "other")
        (self.port,) = free_port_numbers(1)
        served = self.authority.signs("broker", "IP:127.0.0.1")
        config = f"""\
listeners.ssl.1 = 127.0.0.1:{self.port}
ssl_options.cacertfile = {self.authority.pair.cert}
ssl_options.certfile = {served.cert}
ssl_options.keyfile = {served.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
"""
        self.broker = PrivateBroker(
            root=folder, users=[HOST, VIEW], extra_config=config, plugins=["rabbitmq_auth_mechanism_ssl"]
        )

    def url(self, user: BrokerUser, tls: TlsFiles, host: str = "127.0.0.1", *, password: bool = True) -> BrokerUrl:
        """The address of its TLS port."""
        secret = user.password if password else ""
        return parse("broker_url", f"amqps://{user.name}@{host}:{self.port}/", secret, tls)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The stand, running."""
    require_broker()
    found = Stand(tmp_path_factory.mktemp("tls"))
    with found.broker:
        yield found
        found.broker.kill()


def trusting(stand: Stand, ours: Pair | None = None) -> TlsFiles:
    """Files that trust the broker's authority."""
    cert, key = (str(ours.cert), str(ours.key)) if ours else ("", "")
    return TlsFiles(str(stand.authority.pair.cert), cert, key)


async def test_a_broker_of_a_known_authority_is_trusted(stand: Stand) -> None:
    """With its authority's certificate in a file; TLS 1.2 at least."""
    connection = await connect(stand.url(VIEW, trusting(stand)), "test")
    assert not connection.is_closed
    await connection.close()


async def test_a_broker_of_an_unknown_authority_is_not(stand: Stand) -> None:
    """The system's authorities do not know it, nor does another one: refused, with the setting that would help."""
    for tls in (TlsFiles(), TlsFiles(str(stand.other.pair.cert))):
        with pytest.raises(BrokerRefused, match=r"is not trusted: .*; name .* with broker_ca_file"):
            await connect(stand.url(VIEW, tls), "test")


async def test_a_broker_of_another_name_is_not(stand: Stand) -> None:
    """Its certificate is for 127.0.0.1 and not for localhost."""
    with pytest.raises(BrokerRefused, match="check that the certificate is for 'localhost'"):
        await connect(stand.url(VIEW, trusting(stand), "localhost"), "test")


async def test_a_broker_that_speaks_an_old_tls_is_not(stand: Stand) -> None:
    """TLS 1.1 is refused by our own bound: the same handshake without it succeeds, at OpenSSL's lowest level."""
    async with old_server(stand) as port:
        with pytest.raises(BrokerError):
            await connect(stand.url(VIEW, trusting(stand))._replace(port=port), "test")
        context = client_context(trusting(stand))
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await spoken(context, port)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        assert await spoken(context, port) == "TLSv1.1"


@contextlib.asynccontextmanager
async def old_server(stand: Stand) -> AsyncIterator[int]:
    """A server of the broker's name that speaks TLS 1.1 alone, which RabbitMQ may be set up to do; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served = stand.authority.signs("old-broker", "IP:127.0.0.1")
    context.load_cert_chain(served.cert, served.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def spoken(context: ssl.SSLContext, port: int) -> str:
    """The version of TLS that a handshake comes to."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    version: str = writer.get_extra_info("ssl_object").version()
    writer.close()
    return version


async def test_a_certificate_stands_for_user_and_password(stand: Stand) -> None:
    """SASL EXTERNAL: the broker knows the host by its certificate's name, and holds it to its rights."""
    ours = stand.authority.signs("h001")
    connection = await connect(stand.url(HOST, trusting(stand, ours), password=False), "test")
    channel = await connection.channel()
    await channel.declare_queue("vmpulse.rpc.h001", exclusive=True)
    await connection.close()


async def test_a_certificate_of_another_authority_is_nobody(stand: Stand) -> None:
    """One that anybody could have made lets nobody in; the broker's word on it may be lost with the connection."""
    ours = stand.other.signs("h001")
    with pytest.raises(BrokerError, match=r"refuses our TLS: .*UNKNOWN_CA|reset by peer|ended the connection|closed"):
        await connect(stand.url(HOST, trusting(stand, ours), password=False), "test")


async def test_renewed_files_count_from_the_next_connection_on(stand: Stand, tmp_path: Path) -> None:
    """An authority's file that was wrong is replaced: no restart, and no setting, is needed."""
    file = tmp_path / "authority.pem"
    shutil.copy(stand.other.pair.cert, file)
    url = stand.url(VIEW, TlsFiles(str(file)))
    with pytest.raises(BrokerRefused):
        await connect(url, "test")
    shutil.copy(stand.authority.pair.cert, file)
    await (await connect(url, "test")).close()


@pytest.mark.parametrize("which", ["ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"])
async def test_files_that_are_none_are_named(stand: Stand, tmp_path: Path, which: str, content: bytes | None) -> None:
    """Missing, empty or damaged: one line with the file and what it should be; nobody is asked for a password."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    tls = trusting(stand, stand.authority.signs("h001"))._replace(**{which: str(file)})
    with pytest.raises(TlsFilesUnusable, match=r"broker_(ca|cert)_file"):
        await connect(stand.url(HOST, tls), "test")


def test_files_without_tls_are_refused() -> None:
    """They would do nothing, and who gives them believes that they do."""
    for tls in (TlsFiles(ca_file="a"), TlsFiles(cert_file="b")):
        with pytest.raises(SettingsError, match="without TLS"):
            parse("broker_url", "amqp://h001@broker/", "secret", tls)
    with pytest.raises(SettingsError, match="nothing without broker_cert_file"):
        parse("broker_url", "amqps://h001@broker/", "secret", TlsFiles(key_file="c"))


@pytest.mark.parametrize(
    "url, is_open",
    [
        ("amqp://u:p@127.evil.example/", True),
        ("amqp://u@broker/", True),
        ("amqp://u@10.0.0.1/", True),
        ("amqps://u@broker/", False),
        ("amqp://u@127.0.0.1/", False),
        ("amqp://u@localhost/", False),
        ("amqp://u@[::1]/", False),
    ],
)
def test_who_listens_hears_all_without_tls(url: str, is_open: bool) -> None:  # noqa: FBT001 - what is expected
    """Only loopback is safe without it: programs refuse anything else unless they are told that it may be."""
    assert parse("broker_url", url).is_open is is_open
    assert address_of(CallSettings(broker_url=url, broker_insecure=True), None) == parse("broker_url", url)
    if is_open:
        with pytest.raises(SettingsError, match=r"amqps://\.\.\. beyond loopback; or broker_insecure"):
            address_of(CallSettings(broker_url=url), None)
    else:
        assert address_of(CallSettings(broker_url=url), None) == parse("broker_url", url)
