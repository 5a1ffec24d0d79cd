"""Asks a program of ours over HTTP whether it is well: for container health checks, so it starts fast."""

from __future__ import annotations

import http.client
from typing import Final
from urllib.parse import urlsplit

from vmpulse_contract.errors import SettingsError

TIMEOUT_S: Final = 3.0
ANSWER_BYTES: Final = 4096
ALLOWED: Final = "http://HOST:PORT or https://HOST:PORT with a port from 1 to 65535, without a path"


def ask(setting: str, url: str, path: str) -> tuple[bool, str]:
    """Ask. Gives whether all is well, and the answer's text or why there is none.

    Args:
        setting: what the address was given as, for the error.
        url: the program's address.
        path: what to ask for; 200 is well.

    Raises:
        SettingsError: the address is none.
    """
    connection = _connection(*_address(setting, url))
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read(ANSWER_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"nothing answers at {url}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    if reply.status in {http.client.OK, http.client.SERVICE_UNAVAILABLE}:
        return reply.status == http.client.OK, text
    return False, f"{url}{path} answers with HTTP status {reply.status}; check the address"


def one_line(text: str) -> str:
    """Put an answer of several lines into one, without what a terminal would obey."""
    parts = (line.strip() for line in text.splitlines())
    return "; ".join("".join(filter(str.isprintable, part)) for part in parts if part)


def _connection(scheme: str, host: str, port: int) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    import ssl  # noqa: PLC0415 - it takes longer to load than all else here

    # Nothing secret is sent, and a check asks loopback, which no certificate names.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - as said
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _address(setting: str, url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        usual = http.client.HTTPS_PORT if parts.scheme == "https" else http.client.HTTP_PORT
        port = usual if parts.port is None else parts.port
    except ValueError as error:
        raise SettingsError(setting, url, ALLOWED) from error
    strange = parts.scheme not in {"http", "https"} or parts.username is not None or parts.path not in {"", "/"}
    if strange or not parts.hostname or not port:
        raise SettingsError(setting, url, ALLOWED)
    return parts.scheme, parts.hostname, port
