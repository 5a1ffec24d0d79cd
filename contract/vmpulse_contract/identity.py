"""Names of hosts and VMs: what is one, and how it is written.

A host id is a routing-key word, a broker user and part of a regular expression in the broker's topic permissions, so it
has no dots and no characters that mean something there. A VM id is 16 bytes on the wire and a UUID text for people.
"""

from __future__ import annotations

import re
from typing import Final, NewType
from uuid import UUID

from vmpulse_contract.errors import BadName

HostId = NewType("HostId", str)
VmId = NewType("VmId", bytes)

HOST_ID: Final = re.compile(r"[a-z0-9_-]{1,63}")
VM_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")
HOST_ID_ALLOWED: Final = "1 to 63 of a-z, 0-9, - and _"


def host_id(text: str) -> HostId:
    """Check a host id. Raises BadName with what is allowed."""
    if not HOST_ID.fullmatch(text):
        msg = f"host name {text!r:.100} is not allowed; allowed: {HOST_ID_ALLOWED}"
        raise BadName(msg)
    return HostId(text)


def host_id_from_fqdn(fqdn: str) -> HostId:
    """Give the default id of a host: its lower-case FQDN with dots turned to dashes. Raises BadName."""
    return host_id(fqdn.strip().rstrip(".").lower().replace(".", "-"))


def vm_id(text: str) -> VmId:
    """Parse a VM id from the text form of a UUID, with or without dashes, in any case. Raises BadName."""
    # Not UUID(text) alone: it also takes underscores, spaces and digits of other scripts.
    if not VM_ID.fullmatch(text):
        msg = f"VM id {text!r:.100} is not allowed; allowed: a UUID such as 123e4567-e89b-12d3-a456-426614174000"
        raise BadName(msg)
    return VmId(UUID(text).bytes)


def vm_text(vm: VmId) -> str:
    """Write a VM id for people: the canonical lower-case UUID text."""
    text = vm.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_engine_user(user: str | None) -> bool:
    """Tell whether a broker user is one of the engine's: no host can be called like one, for its name has a dot."""
    return user is not None and "." in user
