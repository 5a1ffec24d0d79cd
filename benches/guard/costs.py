"""What the state machines take, in one process, as multiples of a bare floor: unpacking the same values with msgpack.

A real session and a real view, without a broker, of a host of 40 VMs. Each cost and the floor are measured by turns, in
CPU time of the thread, and of each the least counts: a busy machine adds to a turn and takes nothing away.
"""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from benches.frame import TICK_S, VMS, as_maps, realistic_frame
from tests.consumers.view.back_to_back import Table, vm_number
from vmpulse_contract import stream
from vmpulse_contract.topology import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS: Final = 500
TOGETHER: Final = 8
"""Messages that are taken one after the other, as a queue gives them: caches are warm, and the clock costs little."""
SEED: Final = 1
FLOOR: Final = "floor"
GROWTH_NS: Final = 300_000_000


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Give each cost by the floor, and the bytes of a frame for each VM."""
    costs = Costs()
    for _ in range(rounds):
        costs.turn()
    return costs.ratios() | {"bytes_per_vm": round(len(costs.raw) / VMS, 3)}


class Costs:
    """The least that each has taken so far, in seconds."""

    def __init__(self) -> None:
        ids, self.raw = realistic_frame(SEED)
        frame = stream.read_frame(self.raw)
        self._maps = msgspec.msgpack.encode(as_maps(ids, frame))
        self._least: defaultdict[str, float] = defaultdict(lambda: inf)
        self._table = Table(1, VMS)
        self._table.settle()
        self._turns = 0

    def turn(self) -> None:
        """Measure everything once."""
        self._timed(FLOOR, [lambda: msgspec.msgpack.decode(self._maps)] * TOGETHER)
        self._timed("frame_decode", [lambda: stream.read_frame(self.raw)] * TOGETHER)
        for _ in range(TOGETHER):
            self._tick()
        self._table.host.pump()
        self._receive(Kind.FRAME, "view_frame")
        self._log_in()
        self._table.host.pump()
        self._receive(Kind.CHANGE, "view_change")
        self._table.host.report_devices(self._table.now)
        self._receive(Kind.DEVICES, "view_devices")
        self._table.settle()
        self._table.view.drain_events()

    def _tick(self) -> None:
        """Let a tick pass."""
        table = self._table
        table.now += TICK_S
        table.view.canary(table.now)
        table.view.tick(table.now)
        host, now = table.host, table.now
        for domain in host.domains.values():
            domain.cpu_ns += GROWTH_NS
        host.look(now)
        host.session.tick(now)

    def _log_in(self) -> None:
        """Have another user log in to some VMs."""
        self._turns += 1
        host, now = self._table.host, self._table.now
        for number in range(TOGETHER):
            domain = host.domains[vm_number(1 + (self._turns * TOGETHER + number) % VMS)]
            domain.user = f"user-{self._turns}"
            host.session.section_read(domain.reading(), now)
        host.session.wake(now)

    def _receive(self, kind: Kind, name: str) -> None:
        """Have the view take all that is queued, and measure that if it is all of that kind."""
        table, queue = self._table, self._table.host.queue
        deliveries = [queue.popleft() for _ in range(len(queue))]
        works = [partial(table.receive, delivery) for delivery in deliveries]
        if all(delivery.message.kind is kind for delivery in deliveries):
            self._timed(name, works)
        else:
            for work in works:
                work()

    def _timed(self, name: str, works: Sequence[Callable[[], object]]) -> None:
        began = time.thread_time()
        for work in works:
            work()
        self._least[name] = min(self._least[name], (time.thread_time() - began) / len(works))

    def ratios(self) -> dict[str, float]:
        """Each by the floor."""
        floor = self._least[FLOOR]
        return {name: round(least / floor, 3) for name, least in sorted(self._least.items()) if name != FLOOR}
