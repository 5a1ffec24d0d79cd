"""Settings of the agent: one frozen object, built at the entry point."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from vmpulse_contract import broker_url, limits
from vmpulse_contract.broker_url import BrokerUrl
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.identity import HOST_ID_ALLOWED, HostId, host_id, host_id_from_fqdn
from vmpulse_edges.broker_settings import CaFile, CertFile, Insecure, KeyFile, PasswordFile, address_of
from vmpulse_edges.logs import LogFormat, LogLevel

PREFIX: Final = "VMPULSE_AGENT_"

LONGEST_SPAN_S: Final = 30.0
"""Rates are told with their extremes among samples: with larger spans a peak would drown in its span's mean."""

Seconds = Annotated[float, Meta(ge=0.1, le=86400, extra={"allowed": "0.1 to 86400 seconds"})]


class AgentSettings(Struct, frozen=True, kw_only=True):
    """Settings of ``vmpulse-agent``."""

    uri: Annotated[str, Meta(min_length=1, description="the hypervisor, as a libvirt URI")] = "qemu:///system"
    libvirt_user: Annotated[
        str, Meta(description="user for a libvirt that asks for one (SASL), through a socket or over the network")
    ] = ""
    libvirt_password_file: Annotated[
        str, Meta(description="file with that user's password, read at each connection that asks for it; empty: none")
    ] = ""
    run_dir: Annotated[
        str,
        Meta(description="where libvirt's qemu driver keeps its pid files; they tell one life of a VM from the next"),
    ] = "/run/libvirt/qemu"
    guest_agent: Annotated[
        bool,
        Meta(
            description="ask guest agents; that needs a read-write connection to libvirt",
            extra={"allowed": "true or false"},
        ),
    ] = True
    guest_exec_apps: Annotated[
        bool,
        Meta(
            description="run guests' package managers through their agents, for appsList; it taints the domains",
            extra={"allowed": "true or false"},
        ),
    ] = False
    host: Annotated[
        str, Meta(description=f"this host's name, {HOST_ID_ALLOWED}; empty: the lower-case FQDN with dots as dashes")
    ] = ""
    labels: Annotated[
        dict[str, str],
        Meta(description="labels of this host, such as cluster=a,zone=b", extra={"allowed": "key=value,key=value"}),
    ] = {}
    broker_url: Annotated[
        str,
        Meta(
            description="the broker; its user is named like the host, and may be left out",
            extra={"allowed": broker_url.ALLOWED},
        ),
    ] = "amqp://127.0.0.1:5672/"
    broker_password_file: PasswordFile = ""
    broker_ca_file: CaFile = ""
    broker_cert_file: CertFile = ""
    broker_key_file: KeyFile = ""
    broker_insecure: Insecure = False
    tick_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="seconds between two looks, and two frames",
            extra={"allowed": "0.1 to 3600 seconds"},
        ),
    ] = 3.0
    refresh_s: Annotated[Seconds, Meta(description="seconds in which every section is read again, event or not")] = (
        300.0
    )
    device_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=LONGEST_SPAN_S,
            description="seconds between two readings of device statistics, in which a peak may hide",
            extra={"allowed": f"0.1 to {LONGEST_SPAN_S:.0f} seconds"},
        ),
    ] = 15.0
    device_report_s: Annotated[Seconds, Meta(description="seconds between two reports of device statistics")] = 300.0
    damping_s: Annotated[Seconds, Meta(description="a section is announced at most once in so many seconds")] = 3.0
    unresponsive_after_s: Annotated[
        Seconds, Meta(description="a VM whose monitor is silent for so long gets monitorResponse -1")
    ] = 60.0
    tombstone_s: Annotated[Seconds, Meta(description="how long the end of a VM's life stays in the roster")] = 3600.0
    state_dir: Annotated[
        str, Meta(description="folder that keeps tombstones over a restart; empty: they are not kept")
    ] = ""
    metrics_host: Annotated[str, Meta(description="address of the metrics and of /healthz")] = "127.0.0.1"
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | Literal[""],
        Meta(
            description="port of the metrics and of /healthz; 0: any free one; empty: they are not served",
            extra={"allowed": "0 to 65535, or empty"},
        ),
    ] = 9178
    log_level: Annotated[LogLevel, Meta(description="least severity logged")] = LogLevel.INFO
    log_format: Annotated[LogFormat, Meta(description="text for people, json for machines")] = LogFormat.TEXT


def host_of(settings: AgentSettings, fqdn: str) -> HostId:
    """Give the host's id. Raises BadName, a wrong name being this host's to correct."""
    return host_id(settings.host) if settings.host else host_id_from_fqdn(fqdn)


def broker_of(settings: AgentSettings, host: HostId, password: str | None) -> BrokerUrl:
    """Give the broker's address for this host.

    Raises:
        SettingsError: the URL is none, or its user is not named like the host: the broker would refuse each message.
    """
    text = settings.broker_url
    scheme, separator, rest = text.partition("://")
    if separator and "@" not in rest.partition("/")[0]:
        text = f"{scheme}://{host}@{rest}"
    url = address_of(settings, password, text)
    if url.user != host:
        raise SettingsError("broker_url", str(url), f"a broker user named like the host, {host}, or none in the URL")
    return url


def checked_labels(settings: AgentSettings) -> dict[str, str]:
    """Give the labels. Raises SettingsError for one beyond the contract's limits."""
    labels, most = settings.labels, limits.TEXT_CHARACTERS.maximum
    if len(labels) > limits.LABELS_PER_HOST.maximum:
        raise SettingsError("labels", f"{len(labels)} labels", f"at most {limits.LABELS_PER_HOST.maximum} labels")
    for key, value in labels.items():
        if not key or len(key) > most or len(value) > most:
            raise SettingsError("labels", f"{key}={value}", f"keys and values of 1 to {most} characters")
    return labels
