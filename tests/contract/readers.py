"""Every reader of the contract, with messages that it accepts: the tables that the hostile tests run through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from tests.contract import wirelings
from vmpulse_contract import device_columns, device_door, devices, roster_change, sections, stream, verbs
from vmpulse_contract.errors import MessageError, VerbError
from vmpulse_contract.sections import BODIED
from vmpulse_contract.verbs import Verb


class Reader(NamedTuple):
    """One reader: what it is called, how it reads, and messages for it (body bytes for a section)."""

    name: str
    read: Callable[[bytes], object]
    messages: st.SearchStrategy[Any]
    is_body: bool = False
    is_envelope: bool = False
    is_reply: bool = False

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What hostile bytes may end in; anything else is a fault of the reader."""
        return (MessageError, VerbError) if self.is_reply else (MessageError,)

    def __repr__(self) -> str:
        return self.name


READERS: Final = (
    Reader("frame", stream.read_frame, wirelings.frames()),
    Reader("roster", stream.read_roster, wirelings.roster_messages),
    Reader("roster change", roster_change.read_roster_change, wirelings.roster_change_messages),
    Reader("change", stream.read_change, wirelings.changes()),
    Reader("goodbye", stream.read_goodbye, wirelings.goodbyes),
    Reader("devices", devices.read_devices, wirelings.device_maps.map(wirelings.pack_map)),
    Reader("device columns", device_door.read_columns, wirelings.device_messages.map(device_columns.pack_columns)),
    Reader("request", verbs.read_request, wirelings.requests, is_envelope=True),
    *(
        Reader(verb, partial(verbs.read_reply, verb), wirelings.replies(verb), is_envelope=True, is_reply=True)
        for verb in Verb
    ),
    *(
        Reader(section.label, partial(sections.decode, section), wirelings.bodies(section), is_body=True)
        for section in BODIED
    ),
)
