"""Section bodies as packed bytes, of which common ones are one object for all VMs that have the same.

VMs without a guest agent say the same few bytes of themselves, the whole fleet over; a body with a name or an address
in it is its VM's alone. A table of all bodies costs more than the sharing saves, so an equal one is looked for among
those that were held last: what is common is soon there again. Bodies are compared byte by byte: xxh3 is no
cryptographic hash, and guests choose the content.
"""

from __future__ import annotations

from typing import Final

PLACES: Final = 4096
"""One body in a thousand is found there four times in five, though all between have come to places of their own."""
LARGEST: Final = 4096
"""Bytes; so much of each place may stay after nobody holds it any more, 16 MiB in all. What is common is small."""


class Bodies:
    """The bodies that were held last, each in the place that its hash gives."""

    def __init__(self) -> None:
        self._recent = [b""] * PLACES

    def shared(self, value: int, body: bytes) -> bytes:
        """Give a body, whose hash is *value*, as the object of an equal one if there is one, or as it is."""
        place = value % PLACES
        known = self._recent[place]
        if known == body:
            return known
        if len(body) <= LARGEST:
            self._recent[place] = body
        return body
