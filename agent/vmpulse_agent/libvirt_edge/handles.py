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
from vmpulse_agent.libvirt_edge.opening import Opener
from vmpulse_agent.libvirt_edge.options import LibvirtOptions, is_test
from vmpulse_agent.libvirt_edge.slots import Slot
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


ASKERS: Final[Callable[[Handles], tuple[Slot, ...]]] = attrgetter("askers")
GUESTS: Final[Callable[[Handles], tuple[Slot, ...]]] = attrgetter("guests")
"""Which of the connections Askers lends."""


class Handles(NamedTuple):
    """The open connections and the flags that this driver takes.

    ``guests`` are for guest agents, none where these cannot be asked; ``refused`` says why, where the setting would
    allow it.
    """

    watch: libvirt.virConnect
    askers: tuple[Slot, ...]
    detail: libvirt.virConnect
    guests: tuple[Slot, ...]
    look_groups: int
    device_groups: int
    nowait: int
    domains: dict[VmId, libvirt.virDomain]
    refused: str | None = None
    registrations: tuple[int, ...] = ()

    def distinct(self) -> list[libvirt.virConnect]:
        """Each open connection once: with the test driver they are the same."""
        found: list[libvirt.virConnect] = []
        for connection in (self.watch, self.detail, *(slot.opened for slot in (*self.askers, *self.guests))):
            if connection is not None and connection not in found:
                found.append(connection)
        return found

    def alive(self) -> bool:
        """Whether all connections stand, as far as this side knows."""
        return all(_is_alive(connection) for connection in self.distinct())


def open_handles(
    options: LibvirtOptions, deliver: Callable[[events.RawEvent], None], lost: Callable[[str], None], askers: int
) -> Held:
    """Open what is always needed; the rest is opened by who needs it.

    Args:
        options: where and how.
        deliver: called in libvirt's event thread for each event.
        lost: called there with the reason when any of the connections breaks.
        askers: how many connections there may be for calls that may hang.

    Raises:
        HypervisorUnavailable: the message says how to mend it.
    """
    opened: list[libvirt.virConnect] = []
    opener = Opener(options)
    try:
        return Held(_open(options, deliver, lost, opened, opener, askers))
    except libvirt.libvirtError as error:
        _close_each(opened)
        raise complaints.unavailable(options.uri, error, opener.refusal) from error


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
    _close_each(handles.distinct())


def _open(  # noqa: PLR0917 - the arguments of open_handles, and what it keeps of them
    options: LibvirtOptions,
    deliver: Callable[[events.RawEvent], None],
    lost: Callable[[str], None],
    opened: list[libvirt.virConnect],
    opener: Opener,
    askers_wanted: int,
) -> Handles:
    def connect(*, read_only: bool = True) -> libvirt.virConnect:
        connection = opener.open(read_only=read_only)
        opened.append(connection)
        _watch_over(connection, options, lost)
        return connection

    watch = connect()
    # The domains of a test connection are its own: another connection would see others.
    apart = not is_test(options.uri)
    askers = tuple(Slot(connect) for _ in range(askers_wanted)) if apart else (Slot(connect, watch),)
    detail = connect() if apart else watch
    guests: tuple[Slot, ...] = ()
    refused = None
    if options.guest_agent and apart:
        guest, refused = _guest_connection(opener, connect, opened)
        if guest is not None:
            write = partial(connect, read_only=False)
            guests = (Slot(write, guest), *(Slot(write) for _ in range(guest_pace.WIDTH - 1)))
    return Handles(
        watch=watch,
        askers=askers,
        detail=detail,
        guests=guests,
        look_groups=_supported(watch, stats.LOOK_GROUPS),
        device_groups=_supported(watch, stats.DEVICE_GROUPS),
        nowait=_supported_nowait(watch),
        domains={},
        refused=refused,
        # Last, so that whatever fails leaves no registration behind.
        registrations=tuple(events.register(watch, deliver)),
    )


def _guest_connection(
    opener: Opener, connect: Callable[..., libvirt.virConnect], opened: list[libvirt.virConnect]
) -> tuple[libvirt.virConnect | None, str | None]:
    """Open the read-write connection, or say why there is none."""
    try:
        connection = connect(read_only=False)
    except libvirt.libvirtError as error:
        return None, complaints.one_line(error, opener.uri)
    refused = _write_refusal(connection)
    if refused is None:
        return connection, None
    opened.remove(connection)
    _close_each([connection])
    return None, refused


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


def _watch_over(connection: libvirt.virConnect, options: LibvirtOptions, lost: Callable[[str], None]) -> None:
    def closed(_connection: libvirt.virConnect, reason: int, _opaque: object) -> None:
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT:
            lost(_CLOSE_REASONS.get(reason, f"closed for reason {reason}"))

    # Drivers that live in our own process support neither and need neither.
    with contextlib.suppress(libvirt.libvirtError):
        connection.setKeepAlive(options.keepalive_interval_s, options.keepalive_count)
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


def _close_each(connections: Iterable[libvirt.virConnect]) -> None:
    for connection in connections:
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()
