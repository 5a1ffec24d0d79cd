"""What the parts of the bench hand to the program that started them."""

from __future__ import annotations

import copy
from typing import Final

from msgspec import Struct

from benches.wire.ages import Freshness
from benches.wire.amqp_meter import Breakdown
from benches.wire.floor import Floor
from benches.wire.reader import Reading
from benches.wire.relay import Traffic
from vmpulse_simulator.dynamics import Happened

UNFINISHED: Final = 1 << 20
"""Bytes of AMQP frames that were under way when the counting ended; what connections hold at once is less."""


class Link(Struct, frozen=True):
    """One side's connections to the broker: bytes of both directions, and where they go."""

    bytes: int
    header_bytes: int
    connections: int
    breakdown: Breakdown

    @classmethod
    def counted(cls, traffic: Traffic, breakdown: Breakdown) -> Link:
        """What a relay has counted until now. Raises AssertionError where the breakdown does not add up to it."""
        # A frame of which only a part is through is counted by the relay alone; both go on counting after this.
        assert 0 <= traffic.bytes - breakdown.bytes < UNFINISHED, (traffic.bytes, breakdown.bytes)
        return cls(traffic.bytes, traffic.header_bytes, traffic.connections, copy.deepcopy(breakdown))


class FleetOutcome(Struct, frozen=True):
    """What a run of vmpulse has measured, over so many seconds of fleet time.

    ``stalls``: links whose broker was behind once, so that their agents said more than in life.
    """

    seconds: float
    agents: Link
    view: Link
    reading: Reading
    floor: Floor
    happened: Happened
    stalls: int


class PeerOutcome(Struct, frozen=True):
    """What a peer has measured on some of the hosts, over so many seconds of fleet time.

    ``bytes`` and ``header_bytes`` of both directions; ``messages``: requests, replies and events; ``cpu_s``: of the
    thread that reads, from the request until the reply is objects.
    """

    hosts: int
    seconds: float
    bytes: int
    header_bytes: int
    messages: int
    cpu_s: float
    freshness: Freshness
