"""The world of the state machine: what there is, what was seen of it, and what is under way.

Nothing here reads a clock. Wall clocks come in at one place alone, the tombstones that an agent keeps over its restart:
``SimpleHost.keep_tombstones`` lets the clock jump over that.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from tests.consumers.view.back_to_back import SimpleHost, Table, vm_number
from tests.consumers.view.subscriber import SubscribedView, Subscriber
from tests.consumers.view.test_memory import Shelf

if TYPE_CHECKING:
    from vmpulse_consumers.view import Request
    from vmpulse_consumers.view.memory import Batch
    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_contract.sections import Section

HOSTS, VMS = 2, 3
NUMBERS = st.integers(1, HOSTS * VMS)
TICK_S = 3.0


class Reply(NamedTuple):
    """An answer that is still under way."""

    request: Request
    raw: bytes


class Seen(NamedTuple):
    """What the last step left of a host."""

    epoch: int
    seq: int
    roster_as_of: int
    running: dict[VmId, int]
    """The start tokens of the VMs whose status was known."""


class World(RuleBasedStateMachine):
    """Two hosts, a broker, a view with a store, and a subscriber."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(HOSTS, VMS)
        self.shelf = Shelf()
        self.unwritten: list[Batch] = []
        """What the store was given and has not written yet, oldest first."""
        self.words = 0
        self.place_view()
        self.table.view.canary(self.table.now)
        self.unheard = False

    def place_view(self) -> None:
        """A view that knows nothing yet takes its place, and all that was seen and asked was another's."""
        table = self.table
        self.subscriber = Subscriber()
        table.view = SubscribedView(table.now, self.subscriber)
        table.view.memory.keeping = True
        table.delivered.clear()
        table.confirmed.clear()
        self.unheard = True
        """Its canary has not come yet."""
        self.asked: list[Request] = []
        self.replies: list[Reply] = []
        self.forgotten: list[Request] = []
        """Nobody will ever say anything of these."""
        self.disowned: set[int] = set()
        """Numbers of requests to hosts that were forgotten meanwhile: nobody waits for these."""
        self.seen: dict[HostId, Seen] = {}
        self.shown: defaultdict[tuple[HostId, int, VmId, Section], int] = defaultdict(int)
        self.sampled: defaultdict[tuple[HostId, int, VmId], int] = defaultdict(int)
        """When the device statistics that were held last were sampled, in ms."""
        self.spoke_at: dict[HostId, float] = {}
        self.remembered: set[HostId] = set()
        """Hosts of which what an earlier view knew may still be shown."""
        self.proved_at = self.graced_from = table.now
        self.two: dict[VmId, float] = {}
        """Since when two hosts have said that they run a VM, be they heard or not."""
        self.doubted: dict[VmId, float] = {}
        """Since when two hosts that are heard have said that they run a VM."""
        self.split: set[VmId] = set()

    # --- helpers ------------------------------------------------------------------------------------------------

    def host_of(self, number: int) -> SimpleHost:
        return list(self.table.hosts.values())[(number - 1) // VMS]

    def other_than(self, host: SimpleHost) -> SimpleHost:
        return next(other for other in self.table.hosts.values() if other is not host)

    def place_of(self, number: int) -> SimpleHost:
        """Where a VM runs, or is defined, or else where it was at first."""
        places = [host for host in self.table.hosts.values() if vm_number(number) in host.domains]
        domains = {host: host.domains[vm_number(number)] for host in places}
        places.sort(key=lambda host: (not domains[host].runs, not domains[host].token))
        return places[0] if places else self.host_of(number)

    def new_word(self) -> str:
        """A word never said before, so that each hash stands for one moment."""
        self.words += 1
        return f"word-{self.words}"

    def lives(self, host: SimpleHost) -> bool:
        """Whether the host has an agent."""
        return host.id not in self.table.dead

    def all_hosts_tick(self, seconds: float) -> None:
        self.table.now += seconds
        for host in self.table.hosts.values():
            if self.lives(host):
                host.tick(self.table.now)
