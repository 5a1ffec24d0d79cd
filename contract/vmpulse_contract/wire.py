"""The door: bytes in, checked objects out, and back.

Every reader goes through ``read``: size first, then msgpack under explicit limits, then shape and types by msgspec. So a
message is refused before it costs more than its own length. Maps of the wire are read leniently (unknown fields are
passed over, arrays may be longer than we know), so that hosts can be upgraded one by one.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgpack
import msgspec

from vmpulse_contract import limits
from vmpulse_contract.errors import MalformedMessage, MessageTooBig, MistypedMessage, TextTooLong, UnknownVersion

VERSION: Final = 1
"""Wire version; the first element of every stream body and a field of every request and reply."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_CANONICAL: Final = msgspec.msgpack.Encoder(order="sorted")

T = TypeVar("T")


def write(message: object) -> bytes:
    """Encode a message of the contract. Raises MessageTooBig if no reader would take it."""
    return _bounded(_ENCODER.encode(message), type(message).__name__)


def write_canonical(value: object) -> bytes:
    """Encode so that equal content gives equal bytes on every host: map keys and Struct fields sorted."""
    return _bounded(_CANONICAL.encode(value), type(value).__name__)


def _bounded(raw: bytes, where: str) -> bytes:
    if len(raw) > limits.MESSAGE_BYTES.maximum:
        raise MessageTooBig(len(raw), where)
    return raw


def unpack(raw: bytes) -> object:
    """Unpack one msgpack value under the limits of the contract.

    Raises:
        MessageTooBig: before anything is unpacked.
        MalformedMessage: truncated, trailing bytes, nesting or counts beyond the limits, invalid UTF-8.
    """
    size = len(raw)
    if size > limits.MESSAGE_BYTES.maximum:
        raise MessageTooBig(size, "message")
    try:
        # An element takes at least one byte, so no honest count is larger than the message itself; without these
        # bounds five bytes can announce an array of 2^32 elements.
        return msgpack.unpackb(
            raw,
            use_list=False,
            strict_map_key=False,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=size,
            max_map_len=size,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        # TypeError: a map key that cannot be hashed. ValueError covers UnicodeDecodeError, ExtraData and StackError.
        msg = f"not a msgpack message within limits: {type(error).__name__}: {error!s:.120}"
        raise MalformedMessage(msg) from error


def shape(value: object, kind: type[T]) -> T:
    """Give *value* the type *kind*. Raises MistypedMessage with the path of the first fault."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        msg = f"not a {kind.__name__}: {error!s:.200}"
        raise MistypedMessage(msg) from error


def read(raw: bytes, kind: type[T]) -> T:
    """Unpack and shape a body that has no version of its own (a section). Raises MessageError."""
    return shape(unpack(raw), kind)


def read_stream(raw: bytes, kind: type[T]) -> T:
    """Unpack and shape a stream body, whose first element is the wire version. Raises MessageError."""
    value = unpack(raw)
    if not isinstance(value, tuple) or not value:
        msg = f"not a {kind.__name__}: a stream body is an array that begins with version, epoch, seq"
        raise MistypedMessage(msg)
    if value[0] != VERSION:
        raise UnknownVersion(value[0], VERSION)
    return shape(value, kind)


def read_envelope(raw: bytes, kind: type[T]) -> T:
    """Unpack and shape a request or reply, a map with a ``version`` field. Raises MessageError."""
    value = unpack(raw)
    if not isinstance(value, dict):
        msg = f"not a {kind.__name__}: a map is expected"
        raise MistypedMessage(msg)
    if value.get("version") != VERSION:
        raise UnknownVersion(value.get("version"), VERSION)
    return shape(value, kind)


def check_texts(value: object, where: str) -> None:
    """Raise TextTooLong if any text in a message, map keys included, is longer than texts may be."""
    if isinstance(value, str):
        if len(value) > limits.TEXT_CHARACTERS.maximum:
            raise TextTooLong(len(value), where)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            check_texts(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, tuple):
        for item in value:
            check_texts(item, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_texts(key, where)
            check_texts(item, where)
