"""TLS towards others: contexts made of files, for each connection anew, so that renewed ones need no restart."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from vmpulse_edges.errors import TlsFilesUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_contract.broker_url import TlsFiles

LEAST: Final = ssl.TLSVersion.TLSv1_2


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a context that checks the other side's certificate and name, and shows ours if there is one.

    Without an authority of our own the system's count. Raises TlsFilesUnusable.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        what = f"broker_ca_file {files.ca_file!r} holds no certificate of an authority"
        raise TlsFilesUnusable(f"{what}: {reason(error)}") from error
    context.minimum_version = LEAST
    if files.cert_file:
        try:
            # Without a password callback OpenSSL would ask on the terminal.
            context.load_cert_chain(files.cert_file, files.key_file or None, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            what = f"broker_cert_file {files.cert_file!r} and its key cannot be used"
            remedy = "both have to be PEM, the key without a password, and of one pair"
            raise TlsFilesUnusable(f"{what}: {reason(error)}; {remedy}") from error
    return context


def reason(error: BaseException) -> str:
    """What OpenSSL or the system has to say."""
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error) or type(error).__name__


def distrust(error: BaseException) -> str | None:
    """Why the other side's certificate was not trusted, from an error or what caused it; None: it was not that."""
    return next((one.verify_message for one in _causes(error) if isinstance(one, ssl.SSLCertVerificationError)), None)


def alert(error: BaseException) -> str | None:
    """What the other side has against our TLS, such as an unknown authority; None: it said nothing of the kind."""
    reasons = (one.reason for one in _causes(error) if isinstance(one, ssl.SSLError) and one.reason)
    return next((reason for reason in reasons if "ALERT" in reason), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on; such chains may have rings."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
