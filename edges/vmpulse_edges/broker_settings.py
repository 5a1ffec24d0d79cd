"""The settings of a broker connection that programs of both sides share, and the address that they add up to."""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from msgspec import Meta

from vmpulse_contract import broker_url
from vmpulse_contract.broker_url import BrokerUrl, TlsFiles
from vmpulse_contract.errors import SettingsError

BEYOND_LOOPBACK: Final = "amqps://... beyond loopback; or broker_insecure, where something else protects what is said"
PasswordFile = Annotated[
    str, Meta(description="file with the broker's password, instead of one in broker_url; empty: none")
]
CaFile = Annotated[str, Meta(description="file with the broker's authority, PEM; empty: the system's authorities")]
CertFile = Annotated[
    str, Meta(description="file with our certificate, PEM; without a password it stands for one; empty: none")
]
KeyFile = Annotated[str, Meta(description="file with the certificate's key, PEM; empty: it is in broker_cert_file")]

Insecure = Annotated[
    bool,
    Meta(
        description="speak to a broker beyond loopback without TLS, where something else protects what is said",
        extra={"allowed": "true or false"},
    ),
]


class BrokerSettings(Protocol):
    """Settings that name a broker."""

    @property
    def broker_url(self) -> str:
        """Its address."""

    @property
    def broker_ca_file(self) -> str:
        """Its authority's certificate."""

    @property
    def broker_cert_file(self) -> str:
        """Our certificate."""

    @property
    def broker_key_file(self) -> str:
        """The key of that."""

    @property
    def broker_insecure(self) -> bool:
        """Whether a broker beyond loopback may do without TLS."""


def address_of(settings: BrokerSettings, password: str | None, url: str | None = None) -> BrokerUrl:
    """Give the broker's address with its TLS files.

    *password* is the password file's content, if one is set; *url* stands in for the setting. Raises SettingsError,
    also for an address at which others could listen, unless the settings say that they may.
    """
    tls = TlsFiles(settings.broker_ca_file, settings.broker_cert_file, settings.broker_key_file)
    address = broker_url.parse("broker_url", settings.broker_url if url is None else url, password, tls)
    if address.is_open and not settings.broker_insecure:
        raise SettingsError("broker_url", str(address), BEYOND_LOOPBACK)
    return address
