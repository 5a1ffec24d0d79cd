"""Runs the pollers one after the other, each through the same fleet time. Started by the bench as a program."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benches.program import EXIT_TOLD
from benches.wire.ages import Ages
from benches.wire.outcome import PeerOutcome
from benches.wire.peers.calls import JsonCodec, XmlCodec
from benches.wire.peers.engine import CAPTURED_CYCLE_S, CAPTURED_VMS, Recipe, XmlRpcEngine
from benches.wire.peers.exporter import Prometheus
from benches.wire.peers.http_wire import Relays
from benches.wire.peers.seed import SeedEngine
from benches.wire.peers.stomp import StompEngine
from benches.wire.peers.world import BEGINS_AT, Size, World
from benches.wire.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.wire.peers.peer import Peer

CAPTURED: Final = Recipe(cycle_s=CAPTURED_CYCLE_S, fake=True)
PEERS: Final[dict[str, Callable[[Ages], Peer]]] = {
    "as_captured": lambda ages: XmlRpcEngine(msgspec.structs.replace(CAPTURED, vms=CAPTURED_VMS), ages),
    "as_captured_all_vms": lambda ages: XmlRpcEngine(CAPTURED, ages),
    "as_claimed": lambda ages: XmlRpcEngine(Recipe(), ages),
    "realistic_xmlrpc": lambda ages: XmlRpcEngine(Recipe(today=True), ages),
    "vdsm_today": StompEngine,
    "seed_pull_xml": lambda ages: SeedEngine(XmlCodec(), ages),
    "seed_pull_json": lambda ages: SeedEngine(JsonCodec(), ages),
    "prometheus_3s_gzip": Prometheus,
}
"""The pollers by their names in the report."""


def measured(make: Callable[[Ages], Peer], size: Size, seconds: float) -> PeerOutcome:
    """Let one poller ask for so many seconds of fleet time."""
    ages = Ages()
    peer = make(ages)
    world = World(size, peer.sample_s)
    with Relays() as relays:
        peer.connect(world, relays)
        cycle = 0
        while cycle * peer.cycle_s <= seconds:
            world.advance(BEGINS_AT + cycle * peer.cycle_s)
            peer.ask(cycle)
            cycle += 1
        world.advance(max(world.now, BEGINS_AT + seconds))
        messages, cpu_s = peer.read()
        peer.close()
        traffic = [relay.traffic for relay in relays.all]
    return PeerOutcome(
        hosts=len(world.hosts),
        seconds=seconds,
        bytes=sum(each.bytes for each in traffic),
        header_bytes=sum(each.header_bytes for each in traffic),
        messages=messages,
        cpu_s=cpu_s,
        freshness=ages.freshness(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.wire.peers")
    for name in ("hosts", "vms", "seed", "asked"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("minutes", "churn"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TOLD))
    size, outcomes = Size(options.hosts, options.vms, options.seed, options.asked, options.churn), {}
    for name, make in PEERS.items():
        began = time.monotonic()
        outcomes[name] = measured(make, size, options.minutes * 60)
        say(f"{name}: {outcomes[name].bytes / 1e6:.1f} MB of {size.asked} hosts after {time.monotonic() - began:.0f} s")
    options.result.write_bytes(msgspec.json.encode(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
