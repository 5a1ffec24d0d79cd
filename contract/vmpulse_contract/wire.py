"""The door: bytes in, checked objects out, and back.

Every reader goes through ``unpack`` and ``shape``: size first, then msgpack under explicit limits, then shape and types
by msgspec. So a message is refused before it costs more than its own length. Unknown fields of maps are passed over and
arrays may be longer than we know, so that hosts can be upgraded one by one; types are never guessed.
"""

from __future__ import annotations

from types import NoneType
from typing import Final, TypeVar

import msgpack
import msgspec

from vmpulse_contract import limits
from vmpulse_contract.errors import MalformedMessage, MessageTooBig, MistypedMessage, TextTooLong, UnknownVersion

VERSION: Final = 1
"""Wire version; the first element of every stream body and a field of every request and reply."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_CANONICAL: Final = msgspec.msgpack.Encoder(order="sorted")

_WITHOUT_TEXT: Final = frozenset({NoneType, bool, int, float})

T = TypeVar("T")


def write(message: object) -> bytes:
    """Encode a message of the contract.

    Raises:
        MessageTooBig: no reader would take it.
        MistypedMessage: a text that is not Unicode (a guest may say so in JSON), or an integer beyond 64 bits.
    """
    return _encode(_ENCODER, message)


def write_canonical(value: object) -> bytes:
    """Encode so that equal content gives equal bytes on every host: map keys and Struct fields sorted.

    Raises as ``write`` does.
    """
    return _encode(_CANONICAL, value)


def _encode(encoder: msgspec.msgpack.Encoder, value: object) -> bytes:
    where = type(value).__name__
    try:
        raw = encoder.encode(value)
    except (UnicodeEncodeError, OverflowError) as error:
        msg = f"not a {where} that msgpack can hold: {error!s:.120}"
        raise MistypedMessage(msg) from error
    if len(raw) > limits.MESSAGE_BYTES.maximum:
        raise MessageTooBig(len(raw), where)
    return raw


def _map(pairs: list[tuple[object, object]]) -> dict[object, object]:
    """Build a map, refusing repeated keys: two readers could believe different ones of them.

    Keys are texts or bytes (``strict_map_key``), whose hashes are salted. Numbers and arrays of them hash predictably,
    and 30,000 colliding keys in half a MiB kept a reader busy for 10 s.
    """
    built = dict(pairs)
    if len(built) != len(pairs):
        msg = "a map repeats a key"
        raise ValueError(msg)
    return built


def _no_extension(code: int, _data: bytes) -> object:
    # max_ext_len=0 lets extensions of no bytes through to here.
    msg = f"extension types are not used: {code}"
    raise ValueError(msg)


def unpack(raw: bytes, *, maps: bool = True) -> object:
    """Unpack one msgpack value under the limits of the contract. *maps*: whether one in it is read by anybody.

    In a message that has none but what a newer sender may have added, they may repeat a key: they cost a third then.

    Raises:
        MessageTooBig: before anything is unpacked.
        MalformedMessage: truncated, trailing bytes, nesting or counts beyond the limits, invalid UTF-8, extensions,
            a map that repeats a key.
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
            strict_map_key=True,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=size,
            max_map_len=size,
            max_ext_len=0,
            object_pairs_hook=_map if maps else None,
            ext_hook=_no_extension,
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        # ValueError: ours, UnicodeDecodeError, ExtraData and StackError.
        msg = f"not a msgpack message within limits: {type(error).__name__}: {error!s:.120}"
        raise MalformedMessage(msg) from error


def shape(value: object, kind: type[T]) -> T:
    """Give *value* the type *kind*. Raises MistypedMessage with the path of the first fault."""
    try:
        # builtin_types: msgpack has bytes of its own, so a text is not to be read as base64 where bytes are expected.
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        msg = f"not a {kind.__name__}: {error!s:.200}"
        raise MistypedMessage(msg) from error


def read(raw: bytes, kind: type[T]) -> T:
    """Unpack and shape a body that has no version of its own (a section). Raises MessageError."""
    return shape(unpack(raw), kind)


def read_stream(raw: bytes, kind: type[T], *, maps: bool = False) -> T:
    """Unpack and shape a stream body, whose first element is the wire version. Raises MessageError.

    *maps*: whether *kind* has any.
    """
    value = unpack(raw, maps=maps)
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
        _check_fields(value, where)
    elif isinstance(value, tuple):
        for item in value:
            # Lists of applications are nearly all that is checked here: a call for each cost 5 % of a simulated fleet.
            if type(item) is not str or len(item) > limits.TEXT_CHARACTERS.maximum:
                check_texts(item, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_texts(key, where)
            check_texts(item, where)


def _check_fields(value: msgspec.Struct, where: str) -> None:
    for name in value.__struct_fields__:
        item = getattr(value, name)
        # Statistics are numbers, most of them absent: a call and a path for each took a tenth of a view's time.
        if type(item) not in _WITHOUT_TEXT:
            check_texts(item, f"{where}.{name}")
