"""Golden bytes: what is on the wire today is what other languages' readers were written against.

A folder holds those of one contract version. They are frozen: hosts that say them are out there, and tests/upgrade
plays them against today's view. An addition gets a file of its own beside them; a message that today's code writes
otherwise since then is still read, and is left out of ``test_bytes_written``. The files of new messages are written
from the repository's root by

    python -c "from tests.contract.test_golden import renew; renew()"

which touches no file that is there. Where the bytes of a message are meant to change although it has been said by
nobody yet, name it: ``renew("frame")``; anything else is a new version, as docs/contract.md says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.contract import golden_life as life
from tests.contract import golden_messages as golden
from vmpulse_contract import device_columns, device_door, devices, roster_change, stream, verbs, wire
from vmpulse_contract.columns import Sparse
from vmpulse_contract.devices import PackedDevices
from vmpulse_contract.verbs import Verb

GOLDEN: Final = Path(__file__).parent / "golden" / str(wire.VERSION)
VERB_OF_REPLY: Final = {
    "roster": Verb.GET_ROSTER,
    "list": Verb.LIST,
    "runtime": Verb.GET_ALL_RUNTIME_STATS,
    "info": Verb.GET_CONF_INFO,
    "config": Verb.GET_CONFIG,
    "status": Verb.GET_STATUS,
    "details": Verb.GET_GUEST_DETAILS,
    "devices": Verb.GET_ALL_DEVICE_STATS,
    "host": Verb.GET_HOST_STATS,
}
"""The second word of an answer's file -> the verb that it answers."""


class Golden(NamedTuple):
    """One message, and the reader that gives it back."""

    message: object
    read: Callable[[bytes], object]


class Frozen(Exception):
    """A golden file would change."""


def _replies(said: dict[str, verbs.AnyReply], ending: str = "") -> dict[str, Golden]:
    return {
        f"reply_{name}{ending}": Golden(reply, partial(verbs.read_reply, VERB_OF_REPLY[name]))
        for name, reply in said.items()
    }


MESSAGES: Final = {
    "roster_first": Golden(life.ROSTER_MESSAGE_FIRST, stream.read_roster),
    "frame_first": Golden(life.FRAME_FIRST, stream.read_frame),
    **{name: Golden(change, stream.read_change) for name, change in life.CHANGES.items()},
    "frame_sixth": Golden(life.FRAME_SIXTH, stream.read_frame),
    "roster": Golden(golden.ROSTER_MESSAGE, stream.read_roster),
    "rosterChange": Golden(golden.ROSTER_CHANGE, roster_change.read_roster_change),
    "change": Golden(golden.CHANGE, stream.read_change),
    "frame": Golden(golden.FRAME, stream.read_frame),
    "frame_40": Golden(golden.BIG_FRAME, stream.read_frame),
    "goodbye": Golden(golden.GOODBYE, stream.read_goodbye),
    "devices": Golden(golden.PACKED_DEVICES, partial(wire.read_stream, kind=PackedDevices)),
    "devices_columns": Golden(golden.PACKED_COLUMNS, partial(wire.read_stream, kind=PackedDevices)),
    "request": Golden(verbs.Request(vms=(golden.A,)), verbs.read_request),
    "request_deflate": Golden(verbs.Request(vms=(golden.A,), deflate=True), verbs.read_request),
    **_replies(life.REPLIES_FIRST, "_first"),
    **_replies({**life.REPLIES, "list": golden.LIST, "status": golden.STATUS_REPLY}),
    "reply_error": Golden(life.REPLY_ERROR, partial(wire.read_envelope, kind=verbs.Reply)),
}


def renew(*meant: str, folder: Path = GOLDEN) -> None:
    """Write the files of new messages, and anew those that are *meant* to change. Raises Frozen if others would."""
    raw = {name: wire.write(message) for name, (message, _) in MESSAGES.items()}
    there = {name: (folder / f"{name}.bin").read_bytes() for name in raw if (folder / f"{name}.bin").exists()}
    changed = sorted(name for name in there.keys() - set(meant) if there[name] != raw[name])
    if changed:
        msg = f"{', '.join(changed)} would change; see Changing it in docs/contract.md"
        raise Frozen(msg)
    for name, message in raw.items():
        (folder / f"{name}.bin").write_bytes(message)


def test_frozen_files_are_not_renewed(tmp_path: Path) -> None:
    """A file whose message has changed is written anew when it is named, and otherwise nothing is written."""
    renew(folder=tmp_path)
    (tmp_path / "frame.bin").write_bytes(b"as it was said")
    (tmp_path / "roster.bin").unlink()
    with pytest.raises(Frozen, match=r"^frame would change"):
        renew("roster", folder=tmp_path)
    assert not (tmp_path / "roster.bin").exists()
    renew("frame", folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in GOLDEN.iterdir()
    }


def test_devices_read() -> None:
    """The records in the golden file are those that were packed."""
    assert devices.read_devices((GOLDEN / "devices.bin").read_bytes()) == golden.DEVICES


def test_device_columns_read() -> None:
    """The columns in the golden file are those that were packed: each field has its place, and keeps it."""
    assert device_door.read_columns((GOLDEN / "devices_columns.bin").read_bytes()) == golden.DEVICE_COLUMNS
    packed = zlib.decompress(device_columns.pack_columns(golden.DEVICE_COLUMNS).vms)
    assert packed == zlib.decompress(golden.PACKED_COLUMNS.vms)


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_written(name: str) -> None:
    """Each message is written as the bytes of its file."""
    assert wire.write(MESSAGES[name].message).hex(" ") == (GOLDEN / f"{name}.bin").read_bytes().hex(" ")


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_read(name: str) -> None:
    """The bytes of each file are read as its message."""
    assert MESSAGES[name].read((GOLDEN / f"{name}.bin").read_bytes()) == MESSAGES[name].message


def test_no_file_is_left_over() -> None:
    """Each golden file belongs to a message."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(MESSAGES)


def test_every_verb_has_an_answer() -> None:
    """There is an answer to each verb."""
    assert set(VERB_OF_REPLY.values()) == set(Verb)
    assert all({f"reply_{name}", f"reply_{name}_first"} & MESSAGES.keys() for name in VERB_OF_REPLY)


def test_the_golden_frame_uses_every_form() -> None:
    """The frame of 40 VMs holds columns of bytes of several widths and columns with exceptions."""
    kinds = {len(column) if isinstance(column, bytes) else type(column) for column in golden.BIG_FRAME.columns}
    assert kinds == {20, 80, Sparse}
