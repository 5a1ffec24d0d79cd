"""Asking guest agents beside everything else, at the pace of guest_pace: no read ever waits for a guest.

Belongs to the event loop; the calls themselves block, each in a thread and on a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge import guest_agent
from vmpulse_agent.libvirt_edge.guest_memory import GuestMemory
from vmpulse_agent.libvirt_edge.guest_pace import GuestPace, Question, Topic
from vmpulse_contract.identity import vm_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vmpulse_agent.libvirt_edge.connection import Connection
    from vmpulse_agent.libvirt_edge.guest_agent import GuestFacts
    from vmpulse_agent.libvirt_edge.handles import Askers, Handles
    from vmpulse_agent.libvirt_edge.threads import Lane
    from vmpulse_agent.measures import Mended
    from vmpulse_contract.identity import VmId

log = logging.getLogger(__name__)

HANG_POLL_S: Final = 1.0
"""How often it is looked whether a call that hangs has ended."""
ANSWER_DEADLINE_S: Final = 6.0
"""libvirt gives up an agent that does not take part in the handshake after 5 s. What takes longer than that hangs."""
APPS_DEADLINE_S: Final = 30.0
"""A package list is made by a program in the guest."""


class GuestAsking:
    """Keeps what guests have said of themselves up to date.

    Args:
        connection: to libvirt.
        lane: threads, as many as guest_pace.WIDTH.
        askers: lends each call a connection.
        changed: called when a guest says something new, has not answered its first question, or has not answered for
            so long that what it said is told no more.
        mended: where it is counted what had to be taken out of answers.
    """

    def __init__(
        self,
        connection: Connection,
        lane: Lane,
        askers: Askers,
        changed: Callable[[VmId], None],
        mended: Mended,
    ) -> None:
        self._connection = connection
        self._lane = lane
        self._askers = askers
        self._changed = changed
        self._mended = mended
        topics = set(Topic) if connection.options.guest_exec_apps else set(Topic) - {Topic.APPS}
        self._pace = GuestPace(topics)
        self._memory = GuestMemory()
        self._lives: dict[VmId, int] = {}
        self._silent: frozenset[VmId] = frozenset()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        """A call has."""
        self._loop: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def start(self) -> None:
        """Begin to ask."""
        self._loop = asyncio.create_task(self._ask_for_ever())

    async def stop(self) -> None:
        """Ask no more. Calls that hang end when they do."""
        tasks = [*self._asking, *([] if self._loop is None else [self._loop])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what is known ------------------------------------------------------------------------------------------

    def facts(self, vm: VmId) -> GuestFacts | None:
        """What the guest has said since its channel opened, as far as it is still told; None: nothing yet."""
        return self._memory.facts(vm)

    def pending(self, vm: VmId) -> bool:
        """Whether the guest has been told to be asked, and has neither answered nor failed to yet."""
        return self._pace.pending(vm)

    async def settle(self, deadline_s: float) -> None:
        """Wait until each guest has answered or failed to, or until the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._pace.unjudged() and self._connection.asks_guests:
                    self._ended.clear()
                    await self._ended.wait()

    # --- what happens -------------------------------------------------------------------------------------------

    def channel(self, vm: VmId, domain_id: int, *, connected: bool) -> None:
        """Take note of the state of a guest agent's channel, as the XML tells it, in this life of the domain."""
        if not connected or self._lives.get(vm) != domain_id:
            self._pace.closed(vm)
            self._memory.forget(vm)
            self._lives.pop(vm, None)
        if connected and not self._pace.open(vm):
            self._lives[vm] = domain_id
            self._pace.opened(vm, self._now())
            self._wake.set()

    def keep_only(self, present: Collection[VmId]) -> None:
        """Forget guests whose domains have ended without a word."""
        self._pace.keep_only(present)
        self._memory.keep_only(present)
        for vm in [vm for vm in self._lives if vm not in present]:
            del self._lives[vm]

    def silent(self, vms: frozenset[VmId]) -> None:
        """Take note of the domains whose monitor hangs: their agents do not answer either, so they are not asked."""
        self._silent = vms

    def back(self) -> None:
        """The connection is back: guests may be asked again, or no more."""
        self._memory.excuse_all(self._now())
        self._wake.set()

    # --- asking -------------------------------------------------------------------------------------------------

    async def _ask_for_ever(self) -> None:
        while True:
            self._wake.clear()
            pause = self._begin_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _begin_due(self) -> float | None:
        """Begin what is due; gives the seconds until something may be due again, None: not before it is woken."""
        if not self._connection.asks_guests:
            return None
        self._let_go_of_ended()
        if barred := self._pace.barred():
            hanging = {question.vm for question in self._pace.hanging()}
            self._memory.excuse_topics(barred, self._now(), but=hanging)
        for vm in self._memory.lapse(self._now()):
            self._changed(vm)
        while (question := self._pace.next(self._now())) is not None:
            if question.vm in self._silent:
                self._excuse(question)
                continue
            task = asyncio.create_task(self._ask(question))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        pauses = [HANG_POLL_S] if self._pace.hanging() else []
        due = self._pace.next_at()
        if due is not None:
            pauses.append(max(0.0, due - self._now()))
        return min(pauses, default=None)

    def _let_go_of_ended(self) -> None:
        for question in self._pace.hanging():
            if not self._lane.busy(_key(question)):
                self._pace.failed(question, self._now())

    async def _ask(self, question: Question) -> None:
        first = self._pace.pending(question.vm)
        try:
            self._answered(question, await self._call(question))
            first = False
        except HypervisorTimeout:
            self._pace.hangs(question)
        except HypervisorError as error:
            log.debug("the guest agent of %s gave nothing: %s", vm_text(question.vm), error)
            self._failed(question, error)
        except Exception:
            # Whatever a guest may have brought about, it must not cost the guest's place for ever.
            log.exception("what the guest agent of %s said could not be taken in", vm_text(question.vm))
            self._pace.failed(question, self._now())
        self._wake.set()
        self._ended.set()
        if first:
            self._changed(question.vm)

    async def _call(self, question: Question) -> GuestFacts:
        """Raises HypervisorError."""
        return await self._connection.call(
            self._lane,
            _key(question),
            lambda handles: self._ask_one(handles, question),
            APPS_DEADLINE_S if Topic.APPS in question.topics else ANSWER_DEADLINE_S,
            discard=lambda found: self._answered(question, found),
        )

    def _ask_one(self, handles: Handles, question: Question) -> GuestFacts:
        """For the lane. Raises libvirtError."""
        with self._askers.one(handles) as connection:
            return guest_agent.ask(connection.lookupByUUID(question.vm), question.topics, self._mended)

    def _answered(self, question: Question, found: GuestFacts) -> None:
        """Take in an answer, even one that came late; not one of a life or an agent that is over."""
        current = self._pace.current(question)
        self._pace.answered(question, self._now())
        if not current:
            return
        self._wake.set()
        if self._memory.heard(question.vm, found, self._now()):
            self._changed(question.vm)

    def _failed(self, question: Question, error: HypervisorError) -> None:
        """Nobody is to blame for a domain that does not run, nor for a connection that was lost."""
        away = isinstance(error, HypervisorUnavailable) or not self._connection.asks_guests
        if away or _not_running(error):
            self._excuse(question)
        else:
            self._pace.failed(question, self._now())

    def _excuse(self, question: Question) -> None:
        self._pace.postponed(question, self._now())
        if self._pace.current(question):
            self._memory.excuse(question.vm, self._now())


def _key(question: Question) -> tuple[str, VmId]:
    return ("guest", question.vm)


def _not_running(error: HypervisorError) -> bool:
    cause = error.__cause__
    return isinstance(cause, libvirt.libvirtError) and cause.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
