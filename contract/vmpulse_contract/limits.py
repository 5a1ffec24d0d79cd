"""Every bound of the wire, with the reason for its number.

A guest is hostile and a host may be: nothing is read without a bound (promise A5). The breach of each limit has an
error of its own in errors.py, but for two: nesting is a MalformedMessage, and a body too big to be pushed is just asked
for.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Limit(NamedTuple):
    """One bound: what it counts, the largest allowed count, and why that number."""

    name: str
    maximum: int
    why: str


MESSAGE_BYTES: Final = Limit(
    "message bytes",
    1 << 20,
    "1 MiB: a roster of 4,096 VMs with 256 tombstones takes 0.3 MiB; a view may hold thousands of messages in flight",
)
VMS_PER_HOST: Final = Limit("VMs per host", 4096, "several times what any host runs; its roster still fits one message")
IDS_PER_REQUEST: Final = Limit("VM ids per request", 4096, "all VMs of a host")
TOMBSTONES_PER_HOST: Final = Limit("tombstones per host", 256, "an hour of 4 power cycles a minute")
APPS_PER_VM: Final = Limit("applications per VM", 4096, "a full distribution has about 3,000 packages")
INTERFACES_PER_VM: Final = Limit("interfaces per VM", 256, "container hosts show a veth for each container")
ADDRESSES_PER_INTERFACE: Final = Limit("addresses per interface", 64, "more is a load balancer or an attack")
LABELS_PER_HOST: Final = Limit("labels per host", 32, "labels multiply in every list and metric")
TEXT_CHARACTERS: Final = Limit("characters per text", 256, "longest legal FQDN is 253, package names stay under 200")
BODY_BYTES: Final = Limit(
    "section body bytes",
    896 << 10,
    "7/8 of a message: what a reply holds besides its one body, up to 4,096 ids, takes less than the rest",
)
BODY_PUSH_BYTES: Final = Limit(
    "section body bytes in a change event",
    64 << 10,
    "larger bodies are fetched by verb, so that one talkative guest cannot fill the stream's queue",
)
DEVICE_STATS_BYTES: Final = Limit(
    "device statistics bytes per VM",
    64 << 10,
    "hundreds of disks and cards; by columns a number is 8 bytes and a text 5 more than it has, also where columns "
    "that are all alike take none: whoever reads a record has them all",
)
DEVICES_PER_VM: Final = Limit(
    "disks, cards or file systems per VM",
    1024,
    "more than any VM has; columns that are all alike would claim any number in no bytes",
)
DEVICES_PER_MESSAGE: Final = Limit(
    "disks, cards or file systems per message", 65_536, "16 bytes each, which is less than any of them takes"
)
NESTING: Final = Limit("nesting levels", 1024, "the C unpacker of msgpack refuses deeper input by itself")

TABLE: Final = (
    MESSAGE_BYTES,
    VMS_PER_HOST,
    IDS_PER_REQUEST,
    TOMBSTONES_PER_HOST,
    APPS_PER_VM,
    INTERFACES_PER_VM,
    ADDRESSES_PER_INTERFACE,
    LABELS_PER_HOST,
    TEXT_CHARACTERS,
    BODY_BYTES,
    BODY_PUSH_BYTES,
    DEVICE_STATS_BYTES,
    DEVICES_PER_VM,
    DEVICES_PER_MESSAGE,
    NESTING,
)
"""All limits, in the order in which the documentation lists them."""
