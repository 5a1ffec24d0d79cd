"""The records of a capture: one for each input of a view, as msgpack arrays. No I/O.

A view is a state machine whose every input has its time with it, so the same inputs give the same state. A capture is a
header, one record for each input in order, and at a clean end a record with the digest of the state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

import msgpack

from vmpulse_consumers.errors import CaptureUnreadable
from vmpulse_contract import limits
from vmpulse_contract.errors import ContractError
from vmpulse_contract.identity import host_id
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = "vmpulse-capture"
VERSION: Final = 1
RECORD_BYTES: Final = limits.MESSAGE_BYTES.maximum + (64 << 10)
"""The largest record: a message, and what is said of it."""
TOO_LONG_BYTES: Final = 128 << 20
"""The greatest length that is told of a message that was too long: beyond it no sender's budget has room for any."""
LATEST_S: Final = 1e10
"""No clock that counts from a machine's start goes so far: 300 years."""
REMEDY: Final = "a capture is what `vmpulse watch --raw FILE` writes"

Argument: TypeAlias = str | bytes | int | None


class RecordKind(StrEnum):
    """What a view was given. The arguments follow the time and the kind, in this order."""

    RECEIVE = "receive"
    """exchange, routing key, user_id or nil, body; of a body that is longer than messages may be, its length"""
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
    """digest of the state, 32 hexadecimal digits; nothing follows"""


class Header(NamedTuple):
    """What a capture begins with. ``began``: the time at which its view was made, on the clock of all records."""

    program: str
    began: float


class Record(NamedTuple):
    """One input.

    ``at``: seconds on the captured view's clock; ``number``: counted from 1; ``offset``: bytes before it.
    """

    at: float
    kind: RecordKind
    arguments: tuple[Argument, ...]
    number: int = 0
    offset: int = 0

    def misfit(self, why: str) -> CaptureUnreadable:
        """The error that says where the capture is damaged: no view was given this, for that reason."""
        return _damage(self.number, self.offset, why)


def write_header(header: Header) -> bytes:
    """Encode the header."""
    packed: bytes = msgpack.packb((MAGIC, VERSION, header.program, header.began))
    return packed


def write_record(at: float, kind: RecordKind, *arguments: Argument) -> bytes:
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
        self._at = 0.0
        self._ended = False
        self.records = 0

    @property
    def position(self) -> int:
        """The bytes of the header and the whole records so far."""
        return int(self._unpacker.tell())

    def feed(self, chunk: bytes) -> Iterator[Header | Record]:
        """Give what has become whole. Raises CaptureUnreadable, which names the record and its offset."""
        offset = self.position
        try:
            self._unpacker.feed(chunk)
            for value in self._unpacker:
                yield self._read(value, offset)
                offset = self.position
        except (ValueError, TypeError, ContractError, msgpack.UnpackException) as error:
            if self._header is None:
                raise CaptureUnreadable(f"it is no capture; {REMEDY}") from error
            raise _damage(self.records + 1, offset, f"{error!s:.160}" or type(error).__name__) from error

    def _read(self, value: object, offset: int) -> Header | Record:
        if self._header is None:
            self._header = _header(value)
            self._at = self._header.began
            return self._header
        if self._ended:
            msg = "it follows the end"
            raise ValueError(msg)
        at, kind, arguments = _record(value)
        if not self._at <= at <= LATEST_S:
            msg = f"its time is {at:.6f}; allowed: {self._at:.6f}, the time of the one before, to {LATEST_S:.0e}"
            raise ValueError(msg)
        self._at, self._ended = at, kind is RecordKind.END
        self.records += 1
        return Record(at, kind, arguments, self.records, offset)


def _damage(number: int, offset: int, why: str) -> CaptureUnreadable:
    return CaptureUnreadable(f"record {number} at byte {offset} is none: {why}; {REMEDY}")


def _header(value: object) -> Header:
    match value:
        case (str() as magic, int() as version, *_) if magic == MAGIC and version != VERSION:
            msg = f"it is a capture of version {version}, and this vmpulse reads version {VERSION}"
            raise CaptureUnreadable(f"{msg}: replay it with the vmpulse that wrote it")
        case (str() as magic, int(), str() as program, float() as began) if magic == MAGIC and 0 <= began <= LATEST_S:
            return Header(program, began)
        case _:
            raise CaptureUnreadable(f"it is no capture; {REMEDY}")


_SHAPES: Final[dict[RecordKind, tuple[tuple[type, ...], ...]]] = {
    RecordKind.RECEIVE: ((str,), (str,), (str, type(None)), (bytes, int)),
    RecordKind.REPLIED: ((int,), (str,), (bytes,)),
    RecordKind.FAILED: ((int,), (str, type(None)), (str,)),
    RecordKind.CANARY: (),
    RecordKind.RECONNECTED: (),
    RecordKind.TICK: (),
    RecordKind.DRAIN: (),
    RecordKind.FORGET: ((str,),),
    RecordKind.END: ((str,),),
}


def _record(value: object) -> tuple[float, RecordKind, tuple[Argument, ...]]:
    match value:
        case (float() as at, str() as name, *rest):
            kind, arguments = RecordKind(name), cast("tuple[Argument, ...]", tuple(rest))
            shape = _SHAPES[kind]
            if len(arguments) != len(shape) or any(
                type(argument) not in types for argument, types in zip(arguments, shape, strict=True)
            ):
                msg = f"{kind} does not have these arguments"
                raise ValueError(msg)
            _check(kind, arguments)
            return at, kind, arguments
        case _:
            msg = "it does not begin with a time and a kind"
            raise ValueError(msg)


def _check(kind: RecordKind, arguments: tuple[Argument, ...]) -> None:
    """Hold arguments to what their names allow. Raises ValueError and BadName."""
    match kind, arguments:
        case RecordKind.RECEIVE, (_, _, _, int() as size):
            shortest = limits.MESSAGE_BYTES.maximum + 1
            if not shortest <= size <= TOO_LONG_BYTES:
                msg = f"a message of {size} bytes is not told of by its length; allowed: {shortest} to {TOO_LONG_BYTES}"
                raise ValueError(msg)
        case RecordKind.REPLIED, (_, str() as verb, _):
            Verb(verb)
        case RecordKind.FORGET, (str() as host,):
            host_id(host)
        case _:
            pass
