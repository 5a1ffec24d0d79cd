"""The address of a broker: checked before anybody connects, and shown without its password."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vmpulse_contract.errors import SettingsError

ALLOWED: Final = "amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://..., where /VHOST may be left out"
DEFAULT_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class TlsFiles(NamedTuple):
    """Files of a TLS connection, all PEM; empty: the system's authorities, and no certificate of ours."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class BrokerUrl(NamedTuple):
    """A broker's address and credentials.

    With a certificate and without a password the certificate is who we are (SASL EXTERNAL).
    """

    scheme: str
    user: str
    password: str
    host: str
    port: int
    vhost: str
    tls: TlsFiles = TlsFiles()

    @property
    def external(self) -> bool:
        """Whether our certificate stands for user and password."""
        return bool(self.tls.cert_file) and not self.password

    @property
    def is_open(self) -> bool:
        """Whether password and messages go over a network that others may listen to."""
        return self.scheme == "amqp" and not is_loopback(self.host)

    def __str__(self) -> str:
        """For people and logs: everything but the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self.user}@{host}:{self.port}/{'' if self.vhost == '/' else quote(self.vhost)}"

    def __repr__(self) -> str:
        return f"BrokerUrl({self})"


def is_loopback(host: str) -> bool:
    """Whether a host, by address or name, is this machine; of other names nobody knows where they lead."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse(setting: str, text: str, password: str | None = None, tls: TlsFiles | None = None) -> BrokerUrl:
    """Read a broker's address.

    Args:
        setting: the setting's name, for the error.
        text: the URL.
        password: replaces the one in the URL, so that a secret can stand in a file of its own.
        tls: for an ``amqps`` URL.

    Raises:
        SettingsError: the password is not shown. Also for TLS files that nothing would come of.
    """
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise SettingsError(setting, "(hidden: it may hold a password)", ALLOWED) from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not parts.username or parts.query or parts.fragment:
        raise SettingsError(setting, _without_password(text), ALLOWED)
    secret = unquote(parts.password or "") if password is None else password
    vhost = unquote(parts.path[1:]) or "/"
    return BrokerUrl(parts.scheme, unquote(parts.username), secret, parts.hostname, port, vhost, _fitting(tls, text))


def _fitting(tls: TlsFiles | None, text: str) -> TlsFiles:
    """Give the TLS files. Raises SettingsError for any beside a URL without TLS, and for a key without certificate."""
    tls = tls or TlsFiles()
    if any(tls) and not text.startswith("amqps://"):
        given = next(f"broker_{name}" for name, value in zip(tls._fields, tls, strict=True) if value)
        raise SettingsError(given, next(filter(None, tls)), "nothing beside a URL without TLS; amqps://... has it")
    if tls.key_file and not tls.cert_file:
        raise SettingsError("broker_key_file", tls.key_file, "nothing without broker_cert_file")
    return tls


def _without_password(text: str) -> str:
    credentials, at, address = text.rpartition("@")
    return f"{credentials.rpartition(':')[0]}:***@{address}" if at and credentials.count(":") > 1 else text
