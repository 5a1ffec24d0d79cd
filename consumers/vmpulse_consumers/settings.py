"""Settings of the engine side's programs: one frozen object each, built at the entry point."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from vmpulse_contract import broker_url
from vmpulse_edges.broker_settings import CaFile, CertFile, Insecure, KeyFile, PasswordFile
from vmpulse_edges.logs import LogFormat, LogLevel

VIEW_PREFIX = "VMPULSE_VIEW_"
CLI_PREFIX = "VMPULSE_"

Name = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9_-]{1,40}$",
        description="the view's name: views of one name share a queue, one works and the others stand by",
        extra={"allowed": "1 to 40 of a-z, 0-9, - and _"},
    ),
]
Port = Annotated[
    int,
    Meta(ge=0, le=65535, description="port of the HTTP API; 0: any free one", extra={"allowed": "0 to 65535"}),
]
Url = Annotated[str, Meta(description="the broker", extra={"allowed": broker_url.ALLOWED})]


class ViewSettings(Struct, frozen=True, kw_only=True):
    """Settings of ``vmpulse view``."""

    broker_url: Url = "amqp://engine.view@127.0.0.1:5672/"
    broker_password_file: PasswordFile = ""
    broker_ca_file: CaFile = ""
    broker_cert_file: CertFile = ""
    broker_key_file: KeyFile = ""
    broker_insecure: Insecure = False
    name: Name = "main"
    store: Annotated[
        str,
        Meta(
            description="file that keeps what outlives the view, such as /var/lib/vmpulse/view.db; empty: nothing does",
            extra={"allowed": "a path in a folder that exists and is writable"},
        ),
    ] = ""
    http_host: Annotated[str, Meta(description="address of the HTTP API")] = "127.0.0.1"
    http_port: Port = 8080
    http_cert_file: Annotated[
        str, Meta(description="file with the HTTP API's certificate, PEM: it is served with TLS then; empty: without")
    ] = ""
    http_key_file: Annotated[
        str, Meta(description="file with that certificate's key, PEM; empty: it is in http_cert_file")
    ] = ""
    http_tokens_file: Annotated[
        str, Meta(description="file with who may ask the HTTP API for what, by `vmpulse token`; empty: all may all")
    ] = ""
    insecure: Annotated[
        bool,
        Meta(
            description="serve the HTTP API beyond loopback without TLS or without tokens",
            extra={"allowed": "true or false"},
        ),
    ] = False
    log_level: Annotated[LogLevel, Meta(description="least severity logged")] = LogLevel.INFO
    log_format: Annotated[LogFormat, Meta(description="text for people, json for machines")] = LogFormat.TEXT


class CallSettings(Struct, frozen=True, kw_only=True):
    """Settings of ``vmpulse call``."""

    broker_url: Url = "amqp://engine.cli@127.0.0.1:5672/"
    broker_password_file: PasswordFile = ""
    broker_ca_file: CaFile = ""
    broker_cert_file: CertFile = ""
    broker_key_file: KeyFile = ""
    broker_insecure: Insecure = False


class CaptureSettings(Struct, frozen=True, kw_only=True):
    """Settings of ``vmpulse watch --raw``: it reads and asks what a view does, so it needs a view's user."""

    broker_url: Url = "amqp://engine.view@127.0.0.1:5672/"
    broker_password_file: PasswordFile = ""
    broker_ca_file: CaFile = ""
    broker_cert_file: CertFile = ""
    broker_key_file: KeyFile = ""
    broker_insecure: Insecure = False
