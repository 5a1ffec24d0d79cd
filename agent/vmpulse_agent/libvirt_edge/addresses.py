"""libvirt URIs: what may be shown of one, and which socket it leads to on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, urlsplit, urlunsplit

_SYSTEM_RUN_DIR: Final = Path("/run/libvirt")
_HIDDEN: Final = "***"
_SHOWN_PARAMETERS: Final = frozenset(
    {
        *("auth", "authfile", "command", "keyfile", "known_hosts", "known_hosts_verify", "mode", "name", "netcat"),
        *("no_tty", "no_verify", "pkipath", "proxy", "socket", "sshauth", "tls_priority"),
    }
)
"""The remote driver's URI parameters: names and paths. What is not among them may be a secret."""


class Socket(NamedTuple):
    """A socket on this machine, the daemon that makes it, and the units of systemd that start it."""

    path: Path
    daemon: str
    unit: str


def shown(uri: str) -> str:
    """Give a URI for people and logs: without a password, and without parameters that are not known to be harmless."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return _HIDDEN
    user, at, server = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{colon and ':' + _HIDDEN}{at}{server}"
    query = "&".join(
        f"{key}={quote(value, safe='/:,') if key in _SHOWN_PARAMETERS else _HIDDEN}"
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    text = urlunsplit(SplitResult(parts.scheme, netloc, parts.path, query, ""))
    # urlunsplit drops the empty authority of qemu:///system for schemes it does not know.
    return text.replace(":/", ":///", 1) if "://" in uri and "://" not in text else text


def has_password(uri: str) -> bool:
    """Whether a password stands in it; libvirt would take it for a part of the user's name."""
    try:
        return ":" in urlsplit(uri).netloc.rpartition("@")[0]
    except ValueError:
        return False


def auth_file(uri: str) -> Path | None:
    """The file with credentials that the URI names, if it does."""
    named = _parameter(uri, "authfile")
    return Path(named) if named else None


def is_unix(uri: str) -> bool:
    """Whether it leads to a daemon through a socket on this machine."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return not parts.hostname and transport in {"", "unix"} and parts.scheme != "test"


def sockets(uri: str, *, read_only: bool) -> list[Socket]:
    """Give the sockets that libvirt's client looks for, in its order: the modular daemon's, then the monolithic one's.

    Empty where that is not through a socket, or where it is another user's or starts the daemon itself (session).
    """
    if not is_unix(uri) or (urlsplit(uri).path == "/session" and os.geteuid() != 0):
        return []
    driver = urlsplit(uri).scheme.partition("+")[0]
    suffix = "-ro" if read_only else ""
    named = _parameter(uri, "socket")
    if named:
        return [Socket(Path(named), "the daemon", "its socket")]
    direct = Socket(_SYSTEM_RUN_DIR / f"virt{driver}d-sock{suffix}", f"virt{driver}d", f"virt{driver}d{suffix}.socket")
    legacy = Socket(_SYSTEM_RUN_DIR / f"libvirt-sock{suffix}", "libvirtd", f"libvirtd{suffix}.socket")
    by_mode = {"direct": [direct], "legacy": [legacy]}
    return by_mode.get(_parameter(uri, "mode"), [direct, legacy])


def _parameter(uri: str, name: str) -> str:
    return parse_qs(urlsplit(uri).query).get(name, [""])[-1]
