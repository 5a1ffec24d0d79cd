"""Deflated bodies: zlib streams (RFC 1950), which are never inflated beyond the limit of a message."""

from __future__ import annotations

import zlib
from typing import Final

from vmpulse_contract import limits
from vmpulse_contract.errors import MalformedMessage, MessageTooBig

ENCODING: Final = "deflate"
"""What the property ``content_encoding`` says of a deflated body: RFC 9110's name of it, and no other is known."""


def inflate(packed: bytes, where: str) -> bytes:
    """Inflate one whole stream; what would become larger than a message is refused before it does.

    Raises:
        MessageTooBig: it is larger.
        MalformedMessage: it is no stream, is cut off, or something follows it.
    """
    inflater, most = zlib.decompressobj(), limits.MESSAGE_BYTES.maximum
    try:
        raw = inflater.decompress(packed, most + 1)
    except zlib.error as error:
        msg = f"{where}: not a zlib stream: {error!s:.120}"
        raise MalformedMessage(msg) from error
    if len(raw) > most:
        raise MessageTooBig(len(raw), f"{where}, inflated")
    if not inflater.eof or inflater.unused_data:
        msg = f"{where}: not a zlib stream: it is cut off, or something follows it"
        raise MalformedMessage(msg)
    return raw


def decoded(body: bytes, encoding: str | None, where: str) -> bytes:
    """Give a body as it was before it was encoded as its property ``content_encoding`` tells. Raises MessageError."""
    if not encoding:
        return body
    if encoding != ENCODING:
        msg = f"{where}: content_encoding is {encoding!r:.80}; allowed: {ENCODING!r}, or none"
        raise MalformedMessage(msg)
    return inflate(body, where)
