"""The address of a broker: checked before anybody connects, and shown without its password."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vmpulse_contract.errors import SettingsError

ALLOWED: Final = "amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://..., where /VHOST may be left out"
DEFAULT_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class BrokerUrl(NamedTuple):
    """A broker's address and credentials."""

    scheme: str
    user: str
    password: str
    host: str
    port: int
    vhost: str

    def __str__(self) -> str:
        """For people and logs: everything but the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self.user}@{host}:{self.port}/{'' if self.vhost == '/' else quote(self.vhost)}"

    def __repr__(self) -> str:
        return f"BrokerUrl({self})"


def parse(setting: str, text: str, password: str | None = None) -> BrokerUrl:
    """Read a broker's address.

    Args:
        setting: the setting's name, for the error.
        text: the URL.
        password: replaces the one in the URL, so that a secret can stand in a file of its own.

    Raises:
        SettingsError: the password is not shown.
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
    return BrokerUrl(parts.scheme, unquote(parts.username), secret, parts.hostname, port, vhost)


def _without_password(text: str) -> str:
    credentials, at, address = text.rpartition("@")
    return f"{credentials.rpartition(':')[0]}:***@{address}" if at and credentials.count(":") > 1 else text
