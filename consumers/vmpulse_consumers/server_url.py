"""Addresses of HTTP servers that are asked: checked before anybody connects, trusted, and told no secret in clear."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from vmpulse_contract.broker_url import is_loopback
from vmpulse_contract.errors import SettingsError
from vmpulse_edges.tls import LEAST, reason


def checked(setting: str, url: str, allowed: str) -> str:
    """Read a server's address; gives it without a slash at its end. Raises SettingsError, which says what is *allowed*.

    Args:
        setting: the name of what it comes from, for the error.
        url: http or https, with a host, and without user and path.
        allowed: how one looks.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(setting, url, allowed) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.username is not None:
        raise SettingsError(setting, url, allowed)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SettingsError(setting, url, allowed)
    return f"{parts.scheme}://{parts.netloc}"


def refuse_clear(setting: str, url: str, secret: str) -> None:
    """Raise SettingsError if a *secret*, named as people do, would go over a network that others may listen to."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        ways = "loopback, as through an ssh tunnel; or --insecure, where something else protects the way"
        raise SettingsError(setting, url, f"https://..., since http:// would send {secret} in clear; {ways}")


def trusting(setting: str, ca_file: str) -> ssl.SSLContext:
    """Make a context that trusts the authority in a PEM file, or the system's if it is empty. Raises SettingsError."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(setting, ca_file, f"a readable PEM file with an authority ({reason(error)})") from error
    context.minimum_version = LEAST
    return context
