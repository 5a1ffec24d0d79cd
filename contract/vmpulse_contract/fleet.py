"""Fleet events: what the view tells engine workers, on ``vmpulse.fleet`` and by the HTTP API's event stream.

Unlike what hosts publish, these are for programs in any language: a body is JSON, and its attributes are those of
CloudEvents 1.0. In AMQP they travel as headers, named as CloudEvents' AMQP binding names application properties
(``cloudEvents_`` and the attribute, its binary content mode); on the event stream the event travels as one JSON object
(its structured mode, JSON format).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

from msgspec import Struct

SPEC_VERSION: Final = "1.0"
"""Of CloudEvents."""
CONTENT_TYPE: Final = "application/json"
HEADER_PREFIX: Final = "cloudEvents_"


class EventType(StrEnum):
    """What has happened. Also the first two words of the routing key."""

    VM_APPEARED = "vm.appeared"
    VM_STATUS = "vm.status"
    VM_SECTION = "vm.section"
    VM_MIGRATED = "vm.migrated"
    VM_SPLIT_BRAIN = "vm.split_brain"
    VM_SPLIT_BRAIN_OVER = "vm.split_brain_over"
    VM_GONE = "vm.gone"
    HOST_LIVE = "host.live"
    HOST_LATE = "host.late"
    HOST_LOST = "host.lost"
    HOST_STOPPED = "host.stopped"
    HOST_GONE = "host.gone"
    BROKER_LOST = "broker.lost"
    BROKER_BACK = "broker.back"
    FLEET_RELIST = "fleet.relist"
    """Read everything anew: what happened before this event was not, or not wholly, told."""


class EventData(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What an event says. Which fields are there depends on its type; statuses are VDSM's names.

    ``previous_...`` is what was told before. ``content`` is the section's body, with the seed's names; absent for
    ``config``, and where it is too big to be told. ``hash`` is 16 hexadecimal digits. ``hosts`` are all that say they
    run the VM.
    """

    vm: str | None = None
    name: str | None = None
    host: str | None = None
    status: str | None = None
    state: str | None = None
    previous_status: str | None = None
    previous_state: str | None = None
    previous_host: str | None = None
    hosts: tuple[str, ...] | None = None
    section: str | None = None
    hash: str | None = None
    content: Any = None
    exit_code: str | None = None
    exit_reason: str | None = None
    reason: str | None = None


class CloudEvent(Struct, frozen=True, kw_only=True):
    """One fleet event in CloudEvents' JSON format.

    ``id`` is also the token to resume after it; it is unique together with ``source``, and a repeat has the same.
    ``subject`` is the VM or host that it is about, or the view. ``time`` is RFC 3339, by the view's wall clock and for
    people: order is that of delivery.
    """

    id: str
    source: str
    type: EventType
    subject: str
    time: str
    data: EventData
    specversion: Literal["1.0"] = SPEC_VERSION
    datacontenttype: str = CONTENT_TYPE

    def headers(self) -> dict[str, str]:
        """The attributes as AMQP headers; ``datacontenttype`` is the message's content_type."""
        attributes = {
            "specversion": self.specversion,
            "id": self.id,
            "source": self.source,
            "type": self.type.value,
            "subject": self.subject,
            "time": self.time,
        }
        return {f"{HEADER_PREFIX}{name}": value for name, value in attributes.items()}


def source(view: str) -> str:
    """Give the ``source`` of a view's events, a URI reference."""
    return f"/vmpulse/view/{view}"
