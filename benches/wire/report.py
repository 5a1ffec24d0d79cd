"""What the fleet costs on the wire by all of them, and how they compare, as one line of JSON tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from benches.wire.ages import Freshness
from benches.wire.amqp_meter import AROUND, Breakdown
from vmpulse_contract.topology import HEARTBEAT_S, Kind
from vmpulse_simulator.dynamics import Happened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from benches.wire.outcome import FleetOutcome, PeerOutcome

AGENTS: Final = "vmpulse_agent_to_broker"
VIEW: Final = "vmpulse_broker_to_view"
EVENTS: Final = "vmpulse_view_to_workers"
GOALS: Final = {"realistic_xmlrpc": 200.0, "vdsm_today": 40.0, "as_captured": 25.0, "seed_pull_json": 20.0}
"""Ratios that are aimed at."""
FLOOR: Final = "ratio_to_entropy_floor"
FLOOR_GOAL: Final = 1.5
TICK_S: Final = 3.0


class Part(Struct, frozen=True):
    """Messages of one kind on the link to the view, in bytes: their bodies, and what AMQP puts around them."""

    messages: int
    bodies: int
    methods: int
    properties: int
    framing: int


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run.

    - ``bytes``: of both directions, everything above TCP. Of vmpulse each link on its own: all agents' connections, the
      view's two, and of those apart what the view tells engine workers, which no poller does.
    - ``ratios``: a peer's bytes by those of vmpulse between broker and view.
    - ``ratio_to_entropy_floor``: the bodies of frames by their columns, each frame's alone, under zstd at level 19;
      ``ratio_to_floor_with_memory``: by the columns of each host one after the other.
    - ``goals_missed``: what fell short, with the goal.
    - ``freshness``, ``messages``, ``reader_cpu_s_per_minute`` (seconds of CPU in one minute of fleet time) by peer.
    - ``scaled_from_hosts``: of how many hosts a peer's figures were multiplied; all others are the whole fleet's.
    - ``ip_header_bytes``: what IP and TCP would have added at least, not in ``bytes``.
    - ``broker_heartbeats``: bytes that are in vmpulse's figures by arithmetic, since the broker's clock is the wall's.
    - ``vmpulse_parts``: where the bytes between broker and view go; ``acks``, ``heartbeats`` and ``set_up`` beside.
    - ``stalls``: links whose broker was behind once, whose agents then said more than in life.
    - ``gaps``, ``live``: messages that the view missed, and hosts that it saw live at the end.
    """

    hosts: int
    vms: int
    minutes: float
    seed: int
    speed: float
    churn: float
    bytes: dict[str, int]
    ratios: dict[str, float]
    ratio_to_entropy_floor: float
    ratio_to_floor_with_memory: float
    goals_missed: dict[str, float]
    freshness: dict[str, Freshness]
    messages: dict[str, int]
    reader_cpu_s_per_minute: dict[str, float]
    scaled_from_hosts: dict[str, int]
    ip_header_bytes: dict[str, int]
    broker_heartbeats: int
    vmpulse_parts: dict[str, Part]
    acks: int
    heartbeats: int
    set_up: int
    happened: Happened
    relists: int
    repairs: int
    gaps: int
    live: int
    stalls: int


def broker_heartbeats(hosts: int, seconds: float) -> int:
    """Bytes of the heartbeats that a broker on fleet time would have sent to agents.

    RabbitMQ looks twice in a heartbeat's interval whether it has sent anything since it looked last, and sends one if
    not. An agent's connection has a confirm each tick, so of such looks a share finds nothing. The view's connections
    are never silent for so long.
    """
    look_s = HEARTBEAT_S / 2
    empty = max(0.0, (TICK_S - look_s) / TICK_S)
    return round(hosts * seconds / look_s * empty * AROUND)


def parts(breakdown: Breakdown) -> dict[str, Part]:
    """The kinds of messages between broker and view, the largest first."""
    kinds = sorted(breakdown.kinds.items(), key=lambda item: -item[1].bytes)
    return {
        kind: Part(its.messages, its.bodies, its.methods, its.properties, its.framing)
        for kind, its in kinds
        if kind != Kind.EVENT
    }


def made(options: argparse.Namespace, fleet: FleetOutcome, peers: Mapping[str, PeerOutcome]) -> Report:
    """Put the report together; *options* are those of the command line."""
    hosts, minutes = options.hosts, options.minutes
    factors = {name: hosts / peer.hosts for name, peer in peers.items()}
    told = fleet.view.breakdown.of(Kind.EVENT)
    heartbeats = broker_heartbeats(hosts, fleet.seconds)
    to_view = fleet.view.bytes - told.bytes
    everybody = {name: round(peer.bytes * factors[name]) for name, peer in peers.items()}
    ratios = {name: round(count / to_view, 2) for name, count in everybody.items()}
    floor = round(fleet.floor.ratio, 3)
    missed = {name: goal for name, goal in GOALS.items() if ratios.get(name, goal) < goal}
    reading = fleet.reading
    return Report(
        hosts=hosts,
        vms=options.vms,
        minutes=minutes,
        seed=options.seed,
        speed=options.speed,
        churn=options.churn,
        bytes=everybody | {AGENTS: fleet.agents.bytes + heartbeats, VIEW: to_view, EVENTS: told.bytes},
        ratios=ratios,
        ratio_to_entropy_floor=floor,
        ratio_to_floor_with_memory=round(fleet.floor.ratio_with_memory, 3),
        goals_missed=missed | ({FLOOR: FLOOR_GOAL} if floor > FLOOR_GOAL else {}),
        freshness={name: peer.freshness for name, peer in peers.items()} | {VIEW: reading.freshness},
        messages={name: round(peer.messages * factors[name]) for name, peer in peers.items()}
        | {AGENTS: fleet.agents.breakdown.messages, VIEW: fleet.view.breakdown.messages - told.messages},
        reader_cpu_s_per_minute={name: round(peer.cpu_s * factors[name] / minutes, 3) for name, peer in peers.items()}
        | {VIEW: round(reading.cpu_s / minutes, 3)},
        scaled_from_hosts={name: peer.hosts for name, peer in peers.items()},
        ip_header_bytes={name: round(peer.header_bytes * factors[name]) for name, peer in peers.items()}
        | {AGENTS: fleet.agents.header_bytes, VIEW: fleet.view.header_bytes},
        broker_heartbeats=heartbeats,
        vmpulse_parts=parts(fleet.view.breakdown),
        acks=fleet.view.breakdown.acks,
        heartbeats=fleet.view.breakdown.heartbeats,
        set_up=fleet.view.breakdown.set_up,
        happened=fleet.happened,
        relists=reading.relists,
        repairs=reading.repairs,
        gaps=reading.gaps,
        live=reading.live,
        stalls=fleet.stalls,
    )
