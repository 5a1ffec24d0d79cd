"""Opening the connections to one libvirt, and what its driver can do. Everything here blocks: for lanes only."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar

import libvirt

from vmpulse_agent.errors import HypervisorUnavailable
from vmpulse_agent.libvirt_edge import complaints, events, guest_pace, stats
from vmpulse_agent.libvirt_edge.opening import Opener, close_each
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_test
from vmpulse_agent.libvirt_edge.slots import Openings, Slot
from vmpulse_contract.identity import VmId

T = TypeVar("T")

# No domain is both, so a probe asks nothing of any domain.
_NO_DOMAIN: Final = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT
)
_CLOSE_REASONS: Final = {
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "the daemon has closed the connection",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "the daemon does not answer keepalives",
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "the connection broke",
}
GRANT_SHARE: Final = 0.5
"""Of the connect deadline: how long it is waited for whether guest agents may be asked."""
ASKERS: Final[Callable[[Handles], tuple[Slot, ...]]] = attrgetter("askers")
GUESTS: Final[Callable[[Handles], tuple[Slot, ...]]] = attrgetter("guests")
"""Which of the connections Askers lends."""


class Plan(NamedTuple):
    """What is to be opened, and how.

    ``deliver`` is called in libvirt's event thread for each event, ``lost`` there with the reason when any of the
    connections breaks. ``askers``: how many connections there may be for calls that may hang. ``openings`` are for
    them, ``guest_openings`` for those to ask guests through: one kind must not wait for the other.
    """

    options: LibvirtOptions
    deliver: Callable[[events.RawEvent], None]
    lost: Callable[[str], None]
    askers: int
    openings: Openings
    guest_openings: Openings


class GuestAccess:
    """Whether guest agents may be asked through the read-write connections; *slots* are none where nobody may."""

    def __init__(self, slots: tuple[Slot, ...]) -> None:
        self._slots = slots
        self.refused: str | None = None
        """Why not, where the setting would allow it."""

    @property
    def granted(self) -> bool:
        """Whether they may."""
        return bool(self._slots) and self.refused is None

    def find_out(self, wait_s: float) -> None:
        """Ask the daemon, unless it has granted it. It may refuse now and grant later: polkit may be starting."""
        if not self._slots:
            return
        try:
            self._slots[0].get(wait_s)
        except HypervisorUnavailable as error:
            self.refused = str(error)
        else:
            self.refused = None


class Handles(NamedTuple):
    """The open connections and the flags that this driver takes. ``guests`` are for guest agents, if ``access``."""

    watch: libvirt.virConnect
    askers: tuple[Slot, ...]
    detail: libvirt.virConnect
    guests: tuple[Slot, ...]
    access: GuestAccess
    look_groups: int
    device_groups: int
    nowait: int
    domains: dict[VmId, libvirt.virDomain]
    registrations: tuple[int, ...] = ()

    def alive(self) -> bool:
        """Whether all connections stand, as far as this side knows."""
        opened = (slot.opened for slot in (*self.askers, *self.guests))
        return all(_is_alive(one) for one in _distinct((self.watch, self.detail, *opened)))

    def retire(self) -> list[libvirt.virConnect]:
        """Give each open connection once, to be closed: with the test driver they are the same."""
        return _distinct((self.watch, self.detail, *(slot.retire() for slot in (*self.askers, *self.guests))))


def open_handles(plan: Plan) -> Held:
    """Open what is always needed; the rest is opened by who needs it.

    Raises:
        HypervisorUnavailable: the message says how to mend it.
    """
    opened: list[libvirt.virConnect] = []
    try:
        held = Held(_open(plan, opened))
    except BaseException as error:
        close_each(opened)
        if isinstance(error, libvirt.libvirtError):
            raise complaints.unavailable(plan.options.uri, error) from error
        raise
    try:
        # A daemon that asks polkit, and polkit hangs, must not keep us from all the rest.
        held.handles.access.find_out(GRANT_SHARE * plan.options.connect_deadline_s)
    except BaseException:
        held.close()
        raise
    return held


class Askers:
    """Hands each call that may hang a connection of its own.

    Two calls at once on one connection are no good where the first hangs: before libvirt 10.2 its client may lose the
    wake-up for the second, which then waits for the first or for the next keepalive ("fix race in waking up client
    event loop").
    """

    def __init__(self, among: Callable[[Handles], tuple[Slot, ...]] = ASKERS) -> None:
        self._among = among
        self._lock = threading.Lock()
        self._calls: Counter[int] = Counter()

    @contextlib.contextmanager
    def one(self, handles: Handles) -> Iterator[libvirt.virConnect]:
        """Lend the least used one: one that is free, as there are as many as lanes' threads that need one."""
        slots = self._among(handles)
        if not slots:
            raise HypervisorUnavailable("there is no connection for such calls")
        with self._lock:
            index = min(range(len(slots)), key=self._calls.__getitem__)
            self._calls[index] += 1
        try:
            yield slots[index].get()
        finally:
            with self._lock:
                self._calls[index] -= 1


class Held:
    """Open handles in use by several threads, closed when asked and no earlier than the last of them is done.

    libvirt frees a connection at its close, whatever other threads still do with it; and a call that is stuck cannot be
    told to stop.
    """

    def __init__(self, handles: Handles) -> None:
        self.handles = handles
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def use(self, work: Callable[[Handles], T]) -> T:
        """Do *work* with the handles. Raises HypervisorUnavailable once they are being closed."""
        with self._lock:
            if self._closing:
                raise HypervisorUnavailable("the connection has been closed")
            self._users += 1
        try:
            return work(self.handles)
        finally:
            self._leave()

    def close(self) -> None:
        """Close now, or have the last user do it."""
        with self._lock:
            now, self._closing = self._users == 0 and not self._closing, True
        if now:
            _close_handles(self.handles)

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and self._users == 0
        if last:
            _close_handles(self.handles)


def _close_handles(handles: Handles) -> None:
    """Callbacks and domains hold references to their connection, so they go first."""
    handles.domains.clear()
    for registration in handles.registrations:
        with contextlib.suppress(libvirt.libvirtError):
            handles.watch.domainEventDeregisterAny(registration)
    close_each(handles.retire())


def _open(plan: Plan, opened: list[libvirt.virConnect]) -> Handles:
    def first() -> libvirt.virConnect:
        opened.append(connection := _connect(plan))
        return connection

    watch = first()
    # The domains of a test connection are its own: another connection would see others.
    apart = not is_test(plan.options.uri)
    # The first look needs one of them.
    asker = Slot(partial(_connect, plan), plan.openings, first() if apart else watch)
    more = (Slot(partial(_connect, plan), plan.openings) for _ in range(plan.askers - 1 if apart else 0))
    width = guest_pace.WIDTH if plan.options.guest_agent and apart else 0
    guests = tuple(Slot(partial(_connect_writing, plan), plan.guest_openings) for _ in range(width))
    return Handles(
        watch=watch,
        askers=(asker, *more),
        detail=first() if apart else watch,
        guests=guests,
        access=GuestAccess(guests),
        look_groups=_supported(watch, stats.LOOK_GROUPS),
        device_groups=_supported(watch, stats.DEVICE_GROUPS),
        nowait=_supported_nowait(watch),
        domains={},
        # Last, so that whatever fails leaves no registration behind.
        registrations=tuple(events.register(watch, plan.deliver)),
    )


def _connect(plan: Plan) -> libvirt.virConnect:
    """Open a read-only connection. Raises HypervisorUnavailable."""
    opener = Opener(plan.options)
    try:
        connection = opener.open(read_only=True)
    except libvirt.libvirtError as error:
        raise complaints.unavailable(plan.options.uri, error, opener.refusal) from error
    _watch_over(connection, plan)
    return connection


def _connect_writing(plan: Plan) -> libvirt.virConnect:
    """Open a connection that guest agents may be asked through. Raises HypervisorUnavailable, and says why."""
    try:
        connection = Opener(plan.options).open(read_only=False)
    except libvirt.libvirtError as error:
        raise HypervisorUnavailable(complaints.one_line(error, plan.options.uri)) from error
    refused = _write_refusal(connection)
    if refused is not None:
        close_each([connection])
        raise HypervisorUnavailable(refused)
    _watch_over(connection, plan)
    return connection


def _write_refusal(connection: libvirt.virConnect) -> str | None:
    """Why nothing may be asked that takes read-write access; None: it may.

    A read-only socket lets read-write connections in and refuses only what they ask. This asks for the XML of no
    configuration in a format that does not exist: nothing but the refusal to ask at all tells anything.
    """
    try:
        connection.domainXMLFromNative("none", "")
    except libvirt.libvirtError as error:
        denied = error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED
        return complaints.one_line(error) if denied else None
    return None


def _watch_over(connection: libvirt.virConnect, plan: Plan) -> None:
    def closed(_connection: libvirt.virConnect, reason: int, _opaque: object) -> None:
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT:
            plan.lost(_CLOSE_REASONS.get(reason, f"closed for reason {reason}"))

    # Drivers that live in our own process support neither and need neither.
    with contextlib.suppress(libvirt.libvirtError):
        connection.setKeepAlive(plan.options.keepalive_interval_s, plan.options.keepalive_count)
    with contextlib.suppress(libvirt.libvirtError):
        connection.registerCloseCallback(closed, None)


def _supported(connection: libvirt.virConnect, groups: Iterable[int]) -> int:
    """Those of the statistics groups that the driver has, and STATE, which it has or libvirtError is raised.

    STATE costs nothing, and keeps the sum from being 0, which means "all groups" to libvirt.
    """
    state = libvirt.VIR_DOMAIN_STATS_STATE
    connection.getAllDomainStats(state, _NO_DOMAIN)
    enforce = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS | _NO_DOMAIN
    return state | sum(_accepted(connection, groups, enforce))


def _accepted(connection: libvirt.virConnect, groups: Iterable[int], flags: int) -> Iterator[int]:
    for group in groups:
        with contextlib.suppress(libvirt.libvirtError):
            connection.getAllDomainStats(group, flags)
            yield group


def _supported_nowait(connection: libvirt.virConnect) -> int:
    """NOWAIT, new in libvirt 4.5, where the driver knows it."""
    nowait = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    try:
        connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, nowait | _NO_DOMAIN)
    except libvirt.libvirtError:
        return 0
    return nowait


def _is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return connection.isAlive() == 1
    except libvirt.libvirtError:
        # Not every driver can tell.
        return True


def _distinct(connections: Iterable[libvirt.virConnect | None]) -> list[libvirt.virConnect]:
    found: list[libvirt.virConnect] = []
    for connection in connections:
        if connection is not None and connection not in found:
            found.append(connection)
    return found
