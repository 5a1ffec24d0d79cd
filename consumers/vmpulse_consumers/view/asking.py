"""What the view asks hosts: one question at a time for each, no more than hosts and broker can bear in all.

A host is asked for its roster first, since that says what else is missing; then, section by section, for the bodies
whose announced hash is not held. Only to measure its clock it is asked for its own statistics, the smallest answer that
there is: each answer says what the clock shows. Questions are paced twice: each host has an allowance, and the fleet
has one, so that a start which has thousands of hosts to ask is no stampede. A question that failed is put again after a
pause that grows, spread by the host's name: hosts that failed together are not asked together again.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.host import Request
from vmpulse_consumers.view.states import HostState
from vmpulse_contract.sections import BODIED
from vmpulse_contract.verbs import VERB_OF_SECTION, Verb

if TYPE_CHECKING:
    from vmpulse_consumers.view.counts import Counts
    from vmpulse_consumers.view.host import Host
    from vmpulse_contract.identity import VmId

IN_FLIGHT: Final = 64
"""Requests under way overall: at a round trip of 5 ms 12,000 hosts a second could be asked."""
ASKED_S: Final = 1000.0
"""Requests a second overall, one each millisecond: 2,500 hosts are asked within 2.5 s, less than a tick."""
ASKED_BURST: Final = 20.0
HELD_BACK_S: Final = 0.5
"""A host whose allowance is used up is asked again so much later: by then it has gained some."""
RETRY_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Pause after the first, second, ... failed request to a host, at most."""
JITTER: Final = 0.25
"""A pause is shorter by up to this share of it, as the host's name and the request's number have it."""
UNASKED: Final = frozenset({HostState.STOPPED, HostState.LOST, HostState.GONE})
"""Nobody is there to answer."""


class Asking:
    """The requests of a view.

    Args:
        counts: what has been asked, cumulative.
        now: seconds on the view's clock.
    """

    def __init__(self, counts: Counts, now: float) -> None:
        self._counts = counts
        self._waiting: deque[Host] = deque()
        self._allowed = Allowance(ASKED_S, ASKED_BURST, now)
        self._number = 0
        self.in_flight = 0

    # --- wishes -------------------------------------------------------------------------------------------------

    def relist(self, host: Host) -> None:
        """Ask the host for its roster when it may be asked."""
        host.want_roster = True
        self.want(host)

    def remeasure(self, host: Host) -> None:
        """Ask the host what its clock shows when it may be asked."""
        host.want_clock = True
        self.want(host)

    def want(self, host: Host) -> None:
        """Queue the host for a request if it needs one and may have one."""
        if host.in_flight is None and not host.retry_at and not host.queued and _next(host) is not None:
            host.queued = True
            self._waiting.append(host)

    def forget(self, host: Host) -> None:
        """The host is GONE: what is under way to it is not waited for."""
        if host.in_flight is not None:
            host.in_flight = None
            self.in_flight -= 1

    # --- asking -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many hosts wait to be asked."""
        return len(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether so many hosts wait that answers take long: what can wait is better asked later."""
        return len(self._waiting) > IN_FLIGHT

    def due_in(self, now: float) -> float | None:
        """Seconds until ``drain`` would give a request; None: not before something else happens."""
        if not self._waiting or self.in_flight >= IN_FLIGHT:
            return None
        return self._allowed.wait_s(1.0, now)

    def drain(self, now: float) -> list[Request]:
        """Hand out the requests to send now; each must come back through ``answered``."""
        requests = []
        while self._waiting and self.in_flight < IN_FLIGHT and self._allowed.has(1.0, now):
            request = self._ask(self._waiting.popleft(), now)
            if request is not None:
                requests.append(request)
        return requests

    def _ask(self, host: Host, now: float) -> Request | None:
        host.queued = False
        wanted = _next(host)
        if wanted is None or host.in_flight is not None:
            return None
        if not host.asked.take(1.0, now):
            self._counts.held_back += 1
            host.retry_at = now + self._spread(host, HELD_BACK_S)
            return None
        # Only now: a host that is held back, or needs nothing any more, is not in the way of others.
        self._allowed.take(1.0, now)
        verb, vms = wanted
        if verb is Verb.GET_ROSTER:
            host.want_roster = False
            self._counts.relists += 1
        elif verb is Verb.GET_HOST_STATS:
            self._counts.clocks += 1
        else:
            self._counts.repairs += 1
        self._number += 1
        self.in_flight += 1
        host.in_flight = Request(host.id, verb, vms, self._number, now)
        return host.in_flight

    # --- answers ------------------------------------------------------------------------------------------------

    def answered(self, host: Host | None, request: Request) -> bool:
        """A request came back, with an answer or not. Tells whether it is the one that is waited for."""
        if host is None or host.in_flight is None or host.in_flight.number != request.number:
            return False
        host.in_flight = None
        self.in_flight -= 1
        return True

    def failed(self, host: Host, request: Request, code: str, now: float, pause: float | None = None) -> None:
        """Its answer was none: put the question again after a while.

        A host that cannot tell its statistics can tell its roster, and the clock with it.
        """
        self._counts.requests_failed[code] += 1
        self.put_off(host, now, pause)
        if request.verb in {Verb.GET_ROSTER, Verb.GET_HOST_STATS}:
            host.want_roster = True
        self.want(host)

    def put_off(self, host: Host, now: float, pause: float | None = None) -> None:
        """Ask the host nothing for a while, longer each time; *pause*: exactly so long."""
        longest = RETRY_S[min(host.retries, len(RETRY_S) - 1)]
        host.retry_at = now + (self._spread(host, longest) if pause is None else pause)
        host.retries += 1

    def tick(self, host: Host, now: float) -> None:
        """Take up what was put off until now."""
        if host.retry_at and host.retry_at <= now:
            host.retry_at = 0.0
            self.want(host)

    def _spread(self, host: Host, pause: float) -> float:
        """A pause that differs from host to host and from time to time, and yet follows from the inputs alone."""
        lot = zlib.crc32(f"{host.id} {self._number}".encode()) / (1 << 32)
        return pause * (1 - JITTER * lot)


def _next(host: Host) -> tuple[Verb, tuple[VmId, ...]] | None:
    """What to ask the host next: its roster first, for it says what else is missing, and measures the clock too."""
    if host.state in UNASKED:
        return None
    if host.want_roster:
        return Verb.GET_ROSTER, ()
    if host.confirmed:
        if host.want_clock:
            return Verb.GET_HOST_STATS, ()
        for section in BODIED:
            unheld = host.unheld(section)
            if unheld:
                return VERB_OF_SECTION[section], tuple(unheld)
    return None
