"""The running view: state machine, stream, requests and clock put together. No logic of its own."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.amqp_events import EventPublisher
from vmpulse_consumers.amqp_requests import Requests
from vmpulse_consumers.amqp_stream import Stream
from vmpulse_consumers.errors import NotApplied
from vmpulse_consumers.events.log import EventLog
from vmpulse_consumers.events.teller import Backlog, Teller
from vmpulse_consumers.rejections import Rejections
from vmpulse_consumers.view import HostState, View
from vmpulse_consumers.view.events import BrokerEvent, HostEvent, HostTrouble, RelistEvent, VmSplitBrain
from vmpulse_contract.errors import HostDidNotAnswer, MessageError, UnknownVersion, VerbError
from vmpulse_contract.identity import vm_text

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from vmpulse_consumers.amqp_stream import Delivered
    from vmpulse_consumers.store import Keeper
    from vmpulse_consumers.view import Request
    from vmpulse_consumers.view.events import Event
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.topology import Queue

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
CANARY_S: Final = 1.0
"""Silence is counted up to the last canary, so this is how exactly it is known."""
PACE_S: Final = 0.01
"""Requests that are paced go out some at a time, so far apart."""
BURIALS: Final = 100
"""Poison on its way to vmpulse.dead at a time; what a flood brings beyond that is counted and let go."""


class ViewService:
    """One view at work.

    Args:
        url: the broker, with an engine user.
        name: the view's name; views of one name share a queue, one consumes and the others stand by.
        keeper: keeps what outlives the view; None: nothing does.
        make_view: makes the view for a time on its clock.
        queue: another than the one of views of that name; such a view watches, and tells nobody anything.
    """

    def __init__(
        self,
        url: BrokerUrl,
        name: str,
        *,
        keeper: Keeper | None = None,
        make_view: Callable[[float], View] = View,
        queue: Queue | None = None,
    ) -> None:
        self.name = name
        self.instance = secrets.token_hex(4)
        self.view = make_view(self.clock())
        self.keeper = keeper
        self.teller = Teller(name, EventLog(self.instance))
        self.backlog = Backlog(self.teller)
        self.publisher = EventPublisher(url, self.teller, lambda: self.view.broker_ok)
        self._watches = queue is not None
        beside = None if self._watches else self.publisher.session
        self.requests = Requests(url, f"vmpulse.view.{name} requests", beside=beside)
        self.stream = Stream(
            url, name, self.instance, self.view, rejected=self._rejected, applied=self.applied, queue=queue
        )
        self.ticked_at = self.clock()
        """When the clock loop last went round: whether the view is alive, for a watchdog."""
        self.restored = asyncio.Event()
        """Set once the view may be read."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._burials = 0
        self._rejections = Rejections()
        self._sending: asyncio.TimerHandle | None = None

    @staticmethod
    def clock() -> float:
        """The monotonic clock that all times of the view are on, seconds."""
        return asyncio.get_running_loop().time()

    async def restore(self) -> None:
        """Take up what a view before this one has kept; to be called before ``run``, and before anybody reads the view.

        Raises StoreUnusable, StoreInUse and StoreTooNew.
        """
        if self.keeper is not None:
            await self.keeper.restore(self.view, self.clock, self._alive)
        self.restored.set()

    async def run(self) -> None:
        """Serve until cancelled. Raises BrokerRefused if the broker refuses us at the start."""
        async with asyncio.TaskGroup() as group:
            if self.keeper is not None:
                group.create_task(self.keeper.run(self.view))
            group.create_task(self.requests.run())
            group.create_task(self.stream.run())
            group.create_task(self.backlog.run())
            group.create_task(self._tick_loop())
            group.create_task(self._canary_loop())

    def _alive(self) -> None:
        self.ticked_at = self.clock()

    async def _tick_loop(self) -> None:
        while True:
            self.view.tick(self.clock())
            self._alive()
            self.applied()
            await asyncio.sleep(TICK_S)

    async def _canary_loop(self) -> None:
        while True:
            await self.requests.up.wait()
            self._send()
            # One that is sent before the queue is there is lost, and the next comes a second later.
            await self.stream.consumed.wait()
            await self.requests.canary(self.name, self.instance)
            await asyncio.sleep(CANARY_S)

    def applied(self) -> None:
        """The view was given something: tell what has happened, and send the requests that it wants sent now."""
        if self.view.has_events:
            events = self.view.drain_events()
            for event in events:
                _log(event)
            self.backlog.tell(events)
        self._send()

    def _send(self) -> None:
        """Send the requests that are due, and come back for those that are paced.

        Without a connection nothing is handed out: each would fail at once, and its host be put off for nothing.
        """
        due_in = self.view.requests_due_in(self.clock())
        if due_in is None or not self.requests.up.is_set():
            return
        if due_in <= 0:
            for request in self.view.drain_requests(self.clock()):
                self._spawn(self._ask(request))
            due_in = self.view.requests_due_in(self.clock())
        if due_in is not None and self._sending is None:
            # Some at a time: a timer for each would cost more than it spreads.
            self._sending = asyncio.get_running_loop().call_later(max(due_in, PACE_S), self._send_again)

    def _send_again(self) -> None:
        self._sending = None
        self._send()

    async def _ask(self, request: Request) -> None:
        try:
            reply = await self.requests.ask(request.host, request.verb, request.vms)
            self.view.replied(request, reply, self.clock())
        except (VerbError, MessageError) as error:
            untold = self._rejections.untold(request.host, self.clock())
            if untold is not None:
                more = _and_more(untold, request.host)
                log.info("host %s: %s was not answered: %s%s", request.host, request.verb, error, more)
            self.view.request_failed(request, error, self.clock())
        except Exception:  # a fault of ours must cost this one answer, not all that this host is ever asked
            log.exception("host %s: the answer to %s was not applied", request.host, request.verb)
            self.view.request_failed(request, HostDidNotAnswer("its answer was not applied"), self.clock())
        self.applied()

    def _rejected(self, message: Delivered, error: MessageError) -> None:
        sender = message.header.properties.user_id
        untold = self._rejections.untold(sender, self.clock())
        if untold is not None:
            more = _and_more(untold, sender or "no user")
            ours = error.__cause__ if isinstance(error, NotApplied) else None
            why = _of_version(sender, error) if isinstance(error, UnknownVersion) else error
            words = "rejected a message with routing key %r: %s: %s%s"
            log.warning(words, message.routing_key, error.reason, why, more, exc_info=ours)
        if self._watches:
            return
        if self._burials >= BURIALS:
            self.view.counts.unburied += 1
            return
        self._burials += 1
        self._spawn(self._bury(message, error))

    async def _bury(self, message: Delivered, error: MessageError) -> None:
        try:
            if not await self.requests.bury(message, error):
                self.view.counts.unburied += 1
        finally:
            self._burials -= 1

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _and_more(untold: int, sender: str) -> str:
    return f" (and {untold:,} more of {sender} since the last line)" if untold else ""


def _of_version(host: str | None, error: UnknownVersion) -> str:
    """Say which side has to be upgraded; the host's name was checked before the version was read."""
    remedy = {None: "it is no agent of vmpulse", True: "upgrade the view", False: "upgrade the host's agent"}
    return f"host {host} speaks contract version {error.shown}, this view {error.allowed}: {remedy[error.newer]}"


def _log(event: Event) -> None:
    """Log what becomes of hosts and of the broker; what becomes of each VM is for subscribers."""
    match event:
        case HostEvent(host, state, was):
            alarming = state in {HostState.LATE, HostState.LOST}
            log.log(logging.WARNING if alarming else logging.INFO, "host.%s: %s (was %s)", state, host, was)
        case HostTrouble(host, trouble, detail):
            log.warning("host.%s: %s: %s", trouble, host, detail)
        case VmSplitBrain(vm, _, hosts, begun):
            words = "vm.split_brain: %s runs on %s" if begun else "vm.split_brain is over: %s runs on %s"
            log.warning(words, vm_text(vm), " and ".join(hosts) or "none of them")
        case BrokerEvent(back):
            words = "broker.back" if back else "broker.lost: our own canary is missing; no host is judged by it"
            log.warning(words)
        case RelistEvent(reason):
            log.info("fleet.relist: %s", reason)
        case _:
            pass
