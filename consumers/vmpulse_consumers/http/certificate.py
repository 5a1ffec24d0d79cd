"""The certificate of the HTTP API: TLS 1.2 at least, and renewed files without a restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from vmpulse_consumers.errors import CertificateUnusable
from vmpulse_edges.tls import LEAST, reason

log = logging.getLogger(__name__)

LOOK_S: Final = 30.0
"""Certificates are renewed days before they end."""


class Certificate:
    """A certificate and its key.

    Args:
        cert_file: PEM, with the chain below it.
        key_file: PEM, without a password; empty: it is in *cert_file*.

    Raises:
        CertificateUnusable: they cannot be read, or are none, or no pair.
    """

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._cert_file = cert_file
        self._key_file = key_file or None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = LEAST
        self._stamps = self._now()
        self._load()

    async def keep(self) -> None:
        """Take up renewed files until cancelled; those that cannot be used are logged, and the old ones stay."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take the files up if they have changed; connections that are open stay as they are."""
        stamps = self._now()
        if stamps == self._stamps:
            return
        try:
            # Into a context of its own first: a pair that does not fit would leave half of it in ours.
            Certificate(self._cert_file, self._key_file or "")
            self._load()
            self._stamps = stamps
            log.info("certificate %s was renewed", self._cert_file)
        except CertificateUnusable as error:
            log.error("%s; the one before stays", error)  # noqa: TRY400 - the message says it all

    def _now(self) -> tuple[int, ...]:
        found = []
        for file in filter(None, (self._cert_file, self._key_file)):
            try:
                found.append(Path(file).stat().st_mtime_ns)
            except OSError:
                found.append(0)
        return tuple(found)

    def _load(self) -> None:
        try:
            # Without a password callback OpenSSL would ask on the terminal.
            self.context.load_cert_chain(self._cert_file, self._key_file, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            remedy = "both have to be PEM, the key without a password, and of one pair"
            raise CertificateUnusable(
                f"http_cert_file {self._cert_file!r} and its key cannot be used: {reason(error)}; {remedy}"
            ) from error
