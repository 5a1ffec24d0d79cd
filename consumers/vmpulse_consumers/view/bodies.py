"""Section bodies as packed bytes, shared among all VMs that have the same.

Guests of one image have the same applications, so a fleet holds far fewer bodies than VMs. Bodies are compared byte by
byte (a dictionary does that on equal hashes): xxh3 is no cryptographic hash, and guests choose the content.
"""

from __future__ import annotations


class Bodies:
    """The shared bodies, each kept for as long as somebody holds it."""

    def __init__(self) -> None:
        self._shared: dict[bytes, bytes] = {}
        self._holders: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._shared)

    def take(self, body: bytes) -> bytes:
        """Hold a body: gives the one object that all holders share."""
        shared = self._shared.setdefault(body, body)
        self._holders[shared] = self._holders.get(shared, 0) + 1
        return shared

    def release(self, body: bytes | None) -> None:
        """Let go of a body that ``take`` gave; None is nobody's."""
        if body is None:
            return
        left = self._holders[body] - 1
        if left:
            self._holders[body] = left
        else:
            del self._holders[body], self._shared[body]
