"""One host at work: asks the hypervisor, feeds the session, hands its messages to the broker link. An edge: thin.

The loops of a host run side by side and each survives a failing hypervisor: the tick goes on, with ages that grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import structs

from vmpulse_agent import answers
from vmpulse_agent.allowance import Allowance
from vmpulse_agent.answers import Encoded
from vmpulse_agent.change_schedule import ChangeKey
from vmpulse_agent.errors import HypervisorError
from vmpulse_agent.hypervisor import (
    BalloonChanged,
    ConnectionBack,
    ConnectionLost,
    HypervisorEvent,
    LifecycleEvent,
    SectionsStale,
)
from vmpulse_agent.measures import HostMeasures
from vmpulse_agent.session import URGENT_BURST, URGENT_GAP_S, Outgoing, Policy, Session
from vmpulse_contract import limits, sections, verbs, wire
from vmpulse_contract.errors import (
    BadRequest,
    HypervisorFailed,
    MessageError,
    NotAllowed,
    ReplyFailed,
    UnknownVerb,
    UnknownVersion,
    VerbError,
)
from vmpulse_contract.identity import HostId, VmId, is_engine_user
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import HostFacts, Tombstone
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vmpulse_agent.hypervisor import Hypervisor
    from vmpulse_contract.verbs import AnyReply, Request

log = logging.getLogger(__name__)

ALL_SECTIONS: Final = frozenset(Section)
VERBS: Final = frozenset(map(str, Verb))
READERS: Final = 4
"""Sections of so many domains are read at a time: enough that one slow guest agent holds nobody up."""
RETRY_S: Final = 1.0
REREAD_S: Final = 2.0
CONFIG_S: Final = 4.0
"""An asker waits 5 s (topology.REQUEST_EXPIRATION_MS)."""
CATCH_UP_S: Final = 0.5
CATCH_UPS: Final = 4
"""A daemon that is back first works off what it was asked before, and domains that it is busy with are passed over: as
often at most they are looked at again so much later, and not only with the next tick.
"""
DEVICE_GAP_S: Final = 1.0
"""Rates over a shorter span say little, and a burst of starts is sampled once."""


class Timing(NamedTuple):
    """How often a host looks and reads, in seconds."""

    tick_s: float = 3.0
    refresh_s: float = 300.0
    device_s: float = 15.0
    device_report_s: float = 300.0


class Publisher(Protocol):
    """What a host needs from the broker link."""

    def publish(self, agent: HostAgent, message: Outgoing) -> None:
        """Send one message. Confirms of changes go to ``agent.confirmed`` or ``agent.refused``.

        Device statistics go by their number to ``agent.devices_told``, or to ``agent.devices_lost`` if they never came.
        """

    async def attach(self, agent: HostAgent) -> None:
        """Begin to serve the host: its rpc queue now, and ``agent.link_up`` as soon as messages can be sent."""

    async def detach(self, agent: HostAgent) -> None:
        """Send what was handed over, then stop serving the host and give up its rpc queue."""


class HostAgent:
    """The agent of one host.

    Args:
        host: the host's id.
        hypervisor: where to look.
        publisher: the broker link.
        facts: what rosters say of the host, completed with the hypervisor's own facts.
        timing: how often to look.
        policy: the session's damping and the like.
        tombstones: those kept from before, already on this epoch's clock (negative ``ended_ms``).
        phase_s: when within a tick this host looks, so that a fleet does not publish in one burst.
        report_phase_s: how long after its start it first reports devices; None: at random within one period, so that
            the hosts of a fleet that start together do not go on reporting together.
        on_tombstones: called with all tombstones when one was added, to keep them over a restart.
    """

    def __init__(
        self,
        host: HostId,
        hypervisor: Hypervisor,
        publisher: Publisher,
        *,
        facts: HostFacts,
        timing: Timing | None = None,
        policy: Policy | None = None,
        tombstones: Iterable[Tombstone] = (),
        phase_s: float = 0.0,
        report_phase_s: float | None = None,
        on_tombstones: Callable[[Sequence[Tombstone], int], None] | None = None,
    ) -> None:
        self.host = host
        self.hypervisor = hypervisor
        self.publisher = publisher
        self.timing = timing or Timing()
        self.held = answers.Held()
        self.measures = HostMeasures(self._now())
        self.session = Session(host, secrets.randbits(63) | 1, facts, self._now(), policy)
        self.session.tombstones.extend(tombstones)
        self._phase_s = phase_s
        self._report_phase_s = (
            random.uniform(0, self.timing.device_report_s)  # noqa: S311 - spreading, not secrecy
            if report_phase_s is None
            else report_phase_s
        )
        self._on_tombstones = on_tombstones
        self._tombstones_seen = self._last_tombstone()
        self._timer: asyncio.TimerHandle | None = None
        self._look_wanted = asyncio.Event()
        self._host_wanted = asyncio.Event()
        self._tick_wanted = asyncio.Event()
        self._catch_ups = 0
        self._to_read: dict[VmId, frozenset[Section]] = {}
        self._to_reread: dict[VmId, frozenset[Section]] = {}
        self._read_wanted = asyncio.Event()
        self._devices_wanted = asyncio.Event()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the host until cancelled; then say goodbye and leave the link. Raises HypervisorUnavailable."""
        await self.hypervisor.open(self._notified)
        try:
            await self._first_look()
            await self.publisher.attach(self)
            self.session.begin(self._now())
            self._pump()
            await self._serve()
        except asyncio.CancelledError:
            self.session.goodbye()
            self._pump()
            raise
        finally:
            self._cancel_timer()
            await self.publisher.detach(self)
            await self.hypervisor.close()

    def crash(self) -> None:
        """Say nothing more, not even goodbye, like a process that was killed: for simulators, before they cancel."""
        self.session.disconnected()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_loop())
            group.create_task(self._urgent_look_loop())
            group.create_task(self._refresh_loop())
            group.create_task(self._device_loop())
            group.create_task(self._report_loop())
            group.create_task(self._host_loop())
            for _ in range(READERS):
                group.create_task(self._read_loop())

    async def _first_look(self) -> None:
        """Look and read until both have worked once: before that the host has nothing true to say (promise A2)."""
        while not await self._look():
            self.measures.advanced_at = self._now()
            await asyncio.sleep(RETRY_S)
        self.session.facts = await self._facts()
        await self._sample_host()  # the first roster says how big the host is
        unread = self.session.drain_unread()
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._read_each(unread))
        await self.hypervisor.settle()
        self.measures.advanced_at = self._now()
        while self._to_read:
            await self._read(*self._to_read.popitem())

    async def _read_each(self, unread: list[VmId]) -> None:
        while unread:
            await self._read(unread.pop(), ALL_SECTIONS)
            self.measures.advanced_at = self._now()

    async def _facts(self) -> HostFacts:
        facts = self.session.facts
        try:
            known = await self.hypervisor.facts()
        except HypervisorError as error:
            log.warning("host facts could not be read: %s", error)
            return facts
        return structs.replace(
            facts,
            host_uuid=known.host_uuid,
            hypervisor_version=known.hypervisor_version,
            libvirt_version=known.libvirt_version,
        )

    # --- loops --------------------------------------------------------------------------------------------------

    async def _tick_loop(self) -> None:
        period = self.timing.tick_s
        due = self._now() + self._phase_s
        while True:
            # A hypervisor that is back is looked at at once: what was not known must not wait for another tick.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._tick_wanted.wait()
            self._tick_wanted.clear()
            began = self._now()
            self._host_wanted.set()
            await self._look()
            self.session.tick(self._now())
            self._pump()
            self.measures.advanced_at = self._now()
            self.measures.ticks.add(self.measures.advanced_at - began)
            if self._catch_ups and self._behind(began):
                self._catch_ups -= 1
                asyncio.get_running_loop().call_later(CATCH_UP_S, self._tick_wanted.set)
            if began >= due:
                due = max(due + period, self._now())

    def _behind(self, began: float) -> bool:
        """Whether a look that began then has left values of some running VM as they were."""
        return any(row.token and row.sampled_at < began for row in self.session.ledger.order)

    async def _urgent_look_loop(self) -> None:
        """Look again as soon as the hypervisor has announced something, rather than at the next tick.

        At most 5 times a second, for a guest may reset itself as often as it likes; and only at states, which costs no
        monitor an answer.
        """
        allowance = Allowance(URGENT_GAP_S, URGENT_BURST)
        while True:
            await self._look_wanted.wait()
            await asyncio.sleep(max(0.0, allowance.next_at() - self._now()))
            allowance.take(self._now())
            self._look_wanted.clear()
            await self._look(states_only=True)
            self._pump()

    async def _look(self, *, states_only: bool = False) -> bool:
        try:
            look = await self.hypervisor.look(states_only=states_only)
        except HypervisorError as error:
            if not self.session.counters.looks_failed % 20:
                log.warning("could not look at the hypervisor, nothing follows for its VMs: %s", error)
            self.session.look_failed(self._now())
            return False
        before = self.session.counters.vms_refused
        self.session.looked(look, self._now())
        if self.session.counters.vms_refused > before:
            most = limits.VMS_PER_HOST
            log.error("the hypervisor has %d VMs, of which %d are told: %s", len(look.domains), most.maximum, most.why)
        self._keep_tombstones()
        return True

    async def _refresh_loop(self) -> None:
        """Read every section again now and then, for what no event announces; spread over the whole period."""
        while True:
            order = list(self.session.ledger.order)
            pause = self.timing.refresh_s / (len(order) or 1)
            for row in order:
                await asyncio.sleep(pause)
                self._want_read(row.vm, ALL_SECTIONS)
            if not order:
                await asyncio.sleep(pause)

    async def _read_loop(self) -> None:
        while True:
            while not self._to_read:
                self._read_wanted.clear()
                await self._read_wanted.wait()
            vm = next(iter(self._to_read))
            wanted = self._to_read.pop(vm)
            if await self._read(vm, wanted):
                self._pump()
            else:
                self._want_read_later(vm, wanted)

    async def _read(self, vm: VmId, wanted: frozenset[Section]) -> bool:
        """Read sections of one domain into the session. Tells whether that need not be tried again."""
        life = self._life(vm)
        try:
            reading = await self.hypervisor.read(vm, wanted)
        except HypervisorError as error:
            log.debug("sections of a domain could not be read: %s", error)
            return self._life(vm) is None
        if self._life(vm) != life:
            return False  # what was read may be of the life that ended meanwhile
        self.session.section_read(reading, self._now())
        return True

    def _life(self, vm: VmId) -> int | None:
        row = self.session.ledger.rows.get(vm)
        return row.token if row is not None else None

    def _want_read(self, vm: VmId, wanted: frozenset[Section]) -> None:
        self._to_read[vm] = self._to_read.get(vm, frozenset()) | wanted
        self._read_wanted.set()

    def _want_read_later(self, vm: VmId, wanted: frozenset[Section]) -> None:
        """Read (again) in a moment: what an event made stale must not wait for a refresh. One timer for each VM."""
        if vm not in self._to_reread:
            asyncio.get_running_loop().call_later(REREAD_S, self._reread, vm)
        self._to_reread[vm] = self._to_reread.get(vm, frozenset()) | wanted

    def _reread(self, vm: VmId) -> None:
        self._want_read(vm, self._to_reread.pop(vm))

    async def _device_loop(self) -> None:
        """Sample devices now and then, and soon after a life began: a new VM is not without for a whole period."""
        while True:
            began = self._now()
            try:
                sample = await self.hypervisor.device_sample()
                self.session.devices_sampled(sample, self._now())
                self._pump()
            except HypervisorError as error:
                log.debug("device statistics could not be read: %s", error)
            with contextlib.suppress(TimeoutError):
                # The period is from start to start, for what a peak hides in is the span between two samples.
                async with asyncio.timeout_at(began + self.timing.device_s - DEVICE_GAP_S):
                    await self._devices_wanted.wait()
            await asyncio.sleep(DEVICE_GAP_S)
            self._devices_wanted.clear()

    async def _report_loop(self) -> None:
        """Report devices now and then, each host at moments of its own."""
        due = self._now() + self._report_phase_s
        while True:
            await asyncio.sleep(max(0.0, due - self._now()))
            self.session.report_devices(self._now())
            self._pump()
            due = max(due + self.timing.device_report_s, self._now())

    async def _host_loop(self) -> None:
        """Sample the host beside each look: a moment of its own would wake the process once more in each tick."""
        while True:
            await self._host_wanted.wait()
            self._host_wanted.clear()
            await self._sample_host()
            self._pump()

    async def _sample_host(self) -> None:
        try:
            self.held.host = await self.hypervisor.host_stats()
        except HypervisorError as error:
            log.debug("host statistics could not be read: %s", error)
            self.session.host_sampled(None, self._now())
        else:
            self.session.host_sampled(self.held.host, self._now())

    # --- events -------------------------------------------------------------------------------------------------

    def _notified(self, event: HypervisorEvent) -> None:
        match event:
            case LifecycleEvent():
                self.session.lifecycle(event, self._now())
                self._look_wanted.set()
                self._want_read(event.vm, frozenset({Section.INFO, Section.CONFIG, Section.STATUS}))
            case SectionsStale():
                self._want_read(event.vm, event.sections)
                if event.settling:
                    self._want_read_later(event.vm, event.sections)
            case BalloonChanged():
                self.session.balloon_changed(event.vm, event.kib, self._now())
                self._pump()
            case ConnectionLost():
                log.warning("the hypervisor is away, nothing follows for its VMs: %s", event.why)
                self.measures.away_since, self.measures.away_why = self._now(), event.why
            case ConnectionBack():
                log.info("the hypervisor is back")
                self.measures.away_since = None
                self._catch_ups = CATCH_UPS
                self._tick_wanted.set()
                for row in self.session.ledger.order:
                    self._want_read(row.vm, ALL_SECTIONS)

    # --- the broker link ----------------------------------------------------------------------------------------

    def link_up(self) -> None:
        """The link takes messages (again)."""
        self.session.connected(self._now())
        self._pump()

    def link_down(self) -> None:
        """The link takes no messages."""
        self.session.disconnected()
        self._pump()

    def confirmed(self, change: ChangeKey, seq: int) -> None:
        """The broker has confirmed a change event."""
        self.session.confirmed(change, seq)

    def refused(self, change: ChangeKey, seq: int) -> None:
        """The broker has refused a change event."""
        self.session.refused(change, seq, self._now())
        self._pump()

    def devices_told(self, number: int) -> None:
        """The broker has taken a message of device statistics."""
        self.session.devices_told(number)

    def devices_lost(self, number: int) -> None:
        """A message of device statistics never came to the broker: the next sample is said in its place."""
        self.session.devices_lost(number, self._now())
        self._pump()

    def _pump(self) -> None:
        """Hand over what the session wants said, note what it wants read, and arm the timer for what it put off."""
        for vm in self.session.drain_unread():
            self._want_read(vm, ALL_SECTIONS)
            self._devices_wanted.set()
        for message in self.session.drain():
            self.publisher.publish(self, message)
        self._cancel_timer()
        due = self.session.wake_at()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        self.session.wake(self._now())
        self._pump()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _last_tombstone(self) -> Tombstone | None:
        return self.session.tombstones[-1] if self.session.tombstones else None

    def _keep_tombstones(self) -> None:
        newest = self._last_tombstone()
        if self._on_tombstones is not None and newest is not self._tombstones_seen:
            self._tombstones_seen = newest
            self._on_tombstones(list(self.session.tombstones), self.session.monotonic_ms(self._now()))

    # --- verbs --------------------------------------------------------------------------------------------------

    async def answer(self, verb: str, body: bytes, user: str | None) -> Encoded:
        """Answer one request, always: with the reply or with the error that says why there is none."""
        self.measures.requests[verb if verb in VERBS else "unknown"] += 1
        try:
            return await self._answer(verb, body, user)
        except VerbError as error:
            return self._failure(error)
        except MessageError as error:
            log.warning("a reply to %.40s could not be made: %s", verb, error)
            return self._failure(ReplyFailed(str(error)))

    def _failure(self, error: VerbError) -> Encoded:
        self.measures.requests_failed[error.code] += 1
        return Encoded(answers.failure(self.session, error), None)

    async def _answer(self, verb_text: str, body: bytes, user: str | None) -> Encoded:
        if not is_engine_user(user):
            raise NotAllowed(f"only engine users are answered, their names have a dot in them; asked by {user!r:.80}")
        try:
            verb = Verb(verb_text)
        except ValueError:
            raise UnknownVerb(f"{verb_text[:40]!r} is no verb; allowed: {', '.join(Verb)}") from None
        request = _asked(body)
        vms = [VmId(vm) for vm in request.vms]
        if verb is Verb.GET_CONFIG and self.session.ready:
            reply: AnyReply = await self._config_reply(vms)
        else:
            reply = answers.answer(self.session, self.held, verb, vms, self._now())
        return answers.encoded(wire.write(reply), deflate=request.deflate is True)

    async def _config_reply(self, vms: list[VmId]) -> verbs.SectionReply:
        """Read the XML again and give it only where it still hashes to what was announced."""
        bodies: dict[VmId, bytes] = {}
        failed: HypervisorError | None = None
        room = limits.MESSAGE_BYTES.maximum
        with contextlib.suppress(TimeoutError):
            # What the hypervisor does not give before the asker stops waiting is named in ``remaining``.
            async with asyncio.timeout(CONFIG_S):
                for vm in vms or list(self.session.ledger.rows):
                    try:
                        body = await self._announced_config(vm)
                    except HypervisorError as error:
                        failed = error
                        continue
                    room -= len(body or b"")
                    if room <= 0:
                        break
                    if body is not None:
                        bodies[vm] = body
        if failed is not None and not bodies:
            raise HypervisorFailed(str(failed)) from failed
        self._pump()
        return answers.section_reply(self.session, Section.CONFIG, vms, self._now(), bodies)

    async def _announced_config(self, vm: VmId) -> bytes | None:
        """The configuration of one VM as it is now, if that is what was announced. Raises HypervisorError."""
        if vm not in self.session.ledger.rows:
            return None
        reading = await self.hypervisor.read(vm, frozenset({Section.CONFIG}))
        row = self.session.ledger.rows.get(vm)
        if reading.config is None or row is None:
            return None
        self.session.section_read(reading, self._now())
        told = sections.section_hash(Section.CONFIG, reading.config) == row.announced[Section.CONFIG]
        return reading.config if told else None


def _asked(body: bytes) -> Request:
    """Read a request. Raises BadRequest if it is none."""
    try:
        return verbs.read_request(body)
    except UnknownVersion as error:
        remedy = "upgrade the agent, or ask in its version" if error.newer else "upgrade the one that asks"
        words = f"this agent speaks contract version {error.allowed}, the request {error.shown}: {remedy}"
        raise BadRequest(words) from error
    except MessageError as error:
        raise BadRequest(str(error)) from error
