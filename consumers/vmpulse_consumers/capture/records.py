"""The records of a capture: one for each input of a view, as msgpack arrays. No I/O.

A view is a state machine whose every input has its time with it, so the same inputs give the same state. A capture is a
header, one record for each input in order, and at a clean end a record with the digest of the state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgpack

from vmpulse_consumers.errors import CaptureUnreadable
from vmpulse_contract import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = "vmpulse-capture"
VERSION: Final = 1
RECORD_BYTES: Final = limits.MESSAGE_BYTES.maximum + (64 << 10)
"""The largest record: a message, and what is said of it."""


class RecordKind(StrEnum):
    """What a view was given. The arguments follow the time and the kind, in this order."""

    RECEIVE = "receive"
    """exchange, routing key, user_id or nil, body"""
    REPLIED = "replied"
    """the request's number, verb, reply"""
    FAILED = "failed"
    """the request's number, the error's code or nil, its text"""
    CANARY = "canary"
    RECONNECTED = "reconnected"
    TICK = "tick"
    DRAIN = "drain"
    FORGET = "forget"
    """host"""
    END = "end"
    """digest of the state, 16 hexadecimal digits"""


class Header(NamedTuple):
    """What a capture begins with. ``began``: the time at which its view was made, on the clock of all records."""

    program: str
    began: float


class Record(NamedTuple):
    """One input. ``at``: seconds on the captured view's clock."""

    at: float
    kind: RecordKind
    arguments: tuple[str | bytes | int | None, ...]


def write_header(header: Header) -> bytes:
    """Encode the header."""
    packed: bytes = msgpack.packb((MAGIC, VERSION, header.program, header.began))
    return packed


def write_record(at: float, kind: RecordKind, *arguments: str | bytes | int | None) -> bytes:
    """Encode one record."""
    packed: bytes = msgpack.packb((at, kind.value, *arguments))
    return packed


class Reading:
    """Reads a capture from chunks of bytes, in bounded memory: a file may come from anybody."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            use_list=False,
            strict_map_key=True,
            max_buffer_size=2 * RECORD_BYTES,
            max_str_len=RECORD_BYTES,
            max_bin_len=RECORD_BYTES,
            max_array_len=16,
            max_map_len=0,
            max_ext_len=0,
        )
        self._header: Header | None = None
        self.records = 0

    @property
    def position(self) -> int:
        """The bytes of whole records so far."""
        return int(self._unpacker.tell())

    def feed(self, chunk: bytes) -> Iterator[Header | Record]:
        """Give what has become whole. Raises CaptureUnreadable, which names the record and its offset."""
        try:
            self._unpacker.feed(chunk)
            for value in self._unpacker:
                if self._header is None:
                    self._header = _header(value)
                    yield self._header
                else:
                    self.records += 1
                    yield _record(value)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            where = f"record {self.records} before byte {self.position}"
            remedy = "a capture is what `vmpulse watch --raw` wrote"
            raise CaptureUnreadable(f"{where} is none: {error!s:.120}; {remedy}") from error


def _header(value: object) -> Header:
    match value:
        case (str() as magic, int() as version, str() as program, float() as began) if magic == MAGIC:
            if version != VERSION:
                msg = f"it is a capture of version {version}, and this vmpulse reads version {VERSION}"
                raise CaptureUnreadable(f"{msg}: replay it with the vmpulse that wrote it, {program:.40}")
            return Header(program, began)
        case _:
            raise CaptureUnreadable("it is no capture; a capture is what `vmpulse watch --raw FILE` writes")


_SHAPES: Final[dict[RecordKind, tuple[tuple[type, ...], ...]]] = {
    RecordKind.RECEIVE: ((str,), (str,), (str, type(None)), (bytes,)),
    RecordKind.REPLIED: ((int,), (str,), (bytes,)),
    RecordKind.FAILED: ((int,), (str, type(None)), (str,)),
    RecordKind.CANARY: (),
    RecordKind.RECONNECTED: (),
    RecordKind.TICK: (),
    RecordKind.DRAIN: (),
    RecordKind.FORGET: ((str,),),
    RecordKind.END: ((str,),),
}


def _record(value: object) -> Record:
    match value:
        case (float() as at, str() as name, *arguments):
            kind = RecordKind(name)
            shape = _SHAPES[kind]
            if len(arguments) != len(shape) or not all(map(isinstance, arguments, shape)):
                msg = f"{kind} does not have these arguments"
                raise ValueError(msg)
            return Record(at, kind, cast("tuple[str | bytes | int | None, ...]", tuple(arguments)))
        case _:
            msg = "it does not begin with a time and a kind"
            raise ValueError(msg)
