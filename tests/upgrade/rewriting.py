"""Golden messages as other versions would say them: with the additions of a later minor version, or of the next one.

No reader or writer of ours is used: values are unpacked, added to and packed again, by what docs/contract.md allows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import xxhash

LATER: Final = {"deep": [1, None, {"er": b"\x00"}]}
"""What stands in a field, or at the end of an array, that only a newer version knows."""
COLLECTIONS: Final = {"labels", "disks", "network", "vms"}
"""Maps by names or ids, not of fields."""
LATER_WORDS: Final = {"session": "Dreaming", "boot": "z", "action": "revive", "code": "too_early"}
"""Fields with an enumerated value that only a newer version knows."""
LATER_STATUS, LATER_REASON, LATER_GOODBYE = 42, 77, "evacuated"
ROSTER, VMS, HASHES, TOMBSTONES = 3, 3, 6, 7
"""Where a message has its roster, and a roster its VMs, hashes and tombstones."""
CHANGE_HASHES, CHANGE_TOMBSTONES = 7, 8
"""Where the difference of a roster has its hashes and tombstones; it is where a message would have its roster."""
STATUSES, EXIT_REASON, REASON, DEFLATED = 7, 3, 3, 4
"""Where a frame, a tombstone, a goodbye and device statistics have theirs."""
HASH_BYTES: Final = 8


def unpacked(raw: bytes) -> Any:
    """The value of a message."""
    return msgpack.unpackb(raw, strict_map_key=False)


def packed(value: Any) -> bytes:
    """The bytes of a value."""
    raw: bytes = msgpack.packb(value)
    return raw


def next_version(raw: bytes) -> bytes:
    """The same message in contract version 2."""
    value = unpacked(raw)
    value["version" if isinstance(value, dict) else 0] = 2
    return packed(value)


def newer(messages: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give golden messages as an agent of a later minor version would say them; hashes and digests go with contents."""
    values = {name: unpacked(raw) for name, raw in messages.items()}
    adding = _Adding()
    for value in values.values():
        adding.learn_hashes(value)
    for name, value in values.items():
        if _tells_roster(name):
            adding.learn_digest(_roster_of(value))
    return {name: packed(adding.message(name, value)) for name, value in values.items()}


def _tells_roster(name: str) -> bool:
    return "roster" in name.split("_")


def _roster_of(value: Any) -> list[Any]:
    roster: list[Any] = value["roster"] if isinstance(value, dict) else value[ROSTER]
    return roster


def _hash(body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(b"\x01\x00" + body) or 1


def _is_body(value: Any) -> bool:
    """Whether bytes are the body of a section, that is a map of fields."""
    try:
        body = unpacked(value) if isinstance(value, bytes) else None
    except (ValueError, msgpack.UnpackException):
        return False
    return isinstance(body, dict) and bool(body) and all(isinstance(key, str) for key in body)


def _is_list(value: list[Any]) -> bool:
    """Whether an array holds any number of things of one kind; else each place of it has a meaning."""
    kinds = {type(item) for item in value}
    known = kinds - {type(None)}
    return not kinds or (len(known) == 1 and known <= {str, bytes, list, dict})


class _Adding:
    """Adds to values; knows which hash or digest becomes which, once it has learnt them."""

    def __init__(self) -> None:
        self._becomes: dict[int, int] = {}

    def learn_hashes(self, value: Any) -> None:
        """Learn the hashes of all bodies in a message."""
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            if _is_body(child):
                self._becomes[_hash(child)] = _hash(self._body(child))
            self.learn_hashes(child)

    def learn_digest(self, roster: list[Any]) -> None:
        """Learn the digest of all that a roster announces."""
        before, after = (
            xxhash.xxh3_64_intdigest(b"\x01" + roster[VMS] + hashes)
            for hashes in (roster[HASHES], self._hashes(roster[HASHES]))
        )
        self._becomes[before] = after

    def message(self, name: str, value: Any) -> Any:
        """Give a message with all additions."""
        if _tells_roster(name):
            self._ended_otherwise(_roster_of(value), HASHES, TOMBSTONES)
        elif name == "rosterChange":
            self._ended_otherwise(value[ROSTER], CHANGE_HASHES, CHANGE_TOMBSTONES)
        elif name == "frame_sixth":
            value[STATUSES] = bytes([1, LATER_STATUS])
        elif name == "goodbye":
            value[REASON] = LATER_GOODBYE
        elif name.startswith("devices"):
            value[DEFLATED] = zlib.compress(packed(self._added(unpacked(zlib.decompress(value[DEFLATED])), "vms")))
        return self._added(value)

    def _ended_otherwise(self, said: list[Any], hashes: int, tombstones: int) -> None:
        said[hashes] = self._hashes(said[hashes])
        for tombstone in said[tombstones]:
            tombstone[EXIT_REASON] = LATER_REASON

    def _hashes(self, hashes: bytes) -> bytes:
        numbers = (int.from_bytes(hashes[at : at + HASH_BYTES], "little") for at in range(0, len(hashes), HASH_BYTES))
        return b"".join(self._becomes.get(number, number).to_bytes(HASH_BYTES, "little") for number in numbers)

    def _body(self, body: bytes) -> bytes:
        return packed(dict(sorted(self._added(unpacked(body)).items())))

    def _added(self, value: Any, name: object = None) -> Any:
        match value:
            case dict():
                added = {key: LATER_WORDS.get(key) or self._added(item, key) for key, item in value.items()}
                return added if name in COLLECTIONS else added | {"later": LATER}
            case list():
                items = [self._added(item) for item in value]
                return items if _is_list(value) else [*items, LATER]
            case bytes() if _is_body(value):
                return self._body(value)
            case int():
                return self._becomes.get(value, value)
            case _:
                return value
