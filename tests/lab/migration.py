"""Live migration between two libvirts with an agent each: one owner at every moment, and never Down in between."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import libvirt

from tests.lab import boot_sectors
from tests.lab.lab import HOST, PEER, TICK_S, CheckFailed, Row
from tests.lab.libvirt_pair import AS_ENGINES_DO, SECOND, link, migrate
from tests.lab.private_libvirt import PrivateLibvirt
from tests.lab.sightings import Claim, Sightings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.checks import Bench
    from tests.lab.lab import Lab, Program

WITHIN_S: Final = 2 * TICK_S
READY_S: Final = 15.0
GONE_S: Final = 2 * TICK_S
"""A source that gave up its definition without a word is found at the next tick; twice that on a busy machine."""
MOVED_S: Final = 20.0
SLOW_MIB_S: Final = 1
"""Less than the guest writes meanwhile: such a migration goes on until somebody speeds it up or ends it."""
FAST_MIB_S: Final = 4096
DOWNTIME_MS: Final = 10
ROUNDS: Final = 3
SOURCE: Final = "Migration Source"
DESTINATION: Final = "Migration Destination"
MOVING: Final = frozenset({"Up", SOURCE, DESTINATION})
"""What may be said of a VM that runs all the while."""
BOTH: Final = (HOST, PEER)
POST_COPY_FAILED: Final = (
    [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED],
    [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED],
)
"""A domain's state and reason when the other half did not come."""
TELLING: Final = 'vmpulse_events_total{type="fleet.relist"} 1'
"""In the view's metrics: its picture is built up; before that it tells nothing of VMs."""


class Pair(NamedTuple):
    """The lab's host and a second one, whose agent and libvirt are there only for this check."""

    lab: Lab
    peer: PrivateLibvirt
    there: libvirt.virConnect
    agents: list[Program]

    @property
    def here(self) -> libvirt.virConnect:
        """The lab's own connection: a check may have replaced it."""
        return self.lab.connection

    def on(self, host: str) -> libvirt.virConnect:
        """The connection to a host."""
        return self.there if host == PEER else self.here

    def libvirt_on(self, host: str) -> PrivateLibvirt:
        """A host's libvirt."""
        return self.peer if host == PEER else self.lab.hypervisor

    def restart_peer_agent(self) -> None:
        """Stop the second host's agent in good order and start it again."""
        self.agents.pop().stop()
        self.agents.append(self.lab.start_agent(PEER, self.peer))

    def restart_agent(self) -> None:
        """Do so with the first one's."""
        self.lab.agent.stop()
        self.lab.agent = self.lab.start_agent()

    def host(self, host: str) -> Row:
        """One host's row in the view."""
        row: Row = self.lab.api.get(f"/api/v1/hosts/{host}").raise_for_status().json()
        return row

    def ended(self, host: str, vm: str) -> list[str]:
        """How lives of a VM ended on a host, the last one last."""
        return [stone.get("exitReason") for stone in self.host(host)["tombstones"] if stone["id"] == vm]


class Move:
    """A migration that goes on in a thread of its own; ``end`` waits for it."""

    def __init__(self, domain: libvirt.virDomain, to: PrivateLibvirt, flags: int = 0, *, slow: bool = False) -> None:
        self._domain, self._to, self._flags, self._slow = domain, to, flags, slow
        self.error: libvirt.libvirtError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            migrate(self._domain, self._to, self._flags, bandwidth_mib_s=SLOW_MIB_S if self._slow else None)
        except libvirt.libvirtError as error:
            self.error = error

    @property
    def over(self) -> bool:
        """Whether libvirt is done with it."""
        return not self._thread.is_alive()

    def end(self, *, well: bool) -> None:
        """Wait for its end, and hold it to how that was to be."""
        self._thread.join(MOVED_S)
        if self._thread.is_alive():
            raise CheckFailed(f"libvirt has not ended the migration within {MOVED_S:g} s")
        if (self.error is None) is not well:
            raise CheckFailed(f"the migration was to {'succeed' if well else 'fail'}: {self.error}")


@contextlib.contextmanager
def pair(lab: Lab) -> Iterator[Pair]:
    """Have a second host, linked with the lab's, whose agent is live; it is gone afterwards, with a goodbye."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(PrivateLibvirt(lab.folder / "peer", PEER, SECOND))
        link(lab.hypervisor, peer)
        there = libvirt.open(peer.uri)
        stack.callback(_close, there)
        agents = [lab.start_agent(PEER, peer)]
        stack.callback(lambda: agents.pop().stop())
        two = Pair(lab, peer, there, agents)
        lab.until("the second host is live", lambda: _live(two, PEER), READY_S)
        lab.until("the view tells of VMs", lambda: TELLING in lab.api.get("/metrics").text, READY_S)
        yield two


def _close(connection: libvirt.virConnect) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()


def _live(two: Pair, host: str) -> bool:
    rows = two.lab.api.get("/api/v1/hosts").raise_for_status().json()["hosts"]
    return {"host": host, "state": "live"}.items() <= next((row for row in rows if row["host"] == host), {}).items()


@contextlib.contextmanager
def a_domain(two: Pair, name: str) -> Iterator[libvirt.virDomain]:
    """A domain on the first host that writes to its memory all the time; gone from both hosts afterwards."""
    xml = two.lab.hypervisor.light_domain(name)
    boot_sectors.write(two.lab.hypervisor.root / "disks" / f"{name}.raw", boot_sectors.dirty_memory())
    domain = two.here.defineXML(xml)
    vm = domain.UUIDString()
    try:
        domain.create()
        domain.migrateSetMaxDowntime(DOWNTIME_MS)
        two.lab.until(f"{name} is Up and known", lambda: _known(two.lab.row(vm)), READY_S)
        yield domain
    finally:
        for connection in (two.here, two.there):
            _remove(connection, vm)
    try:
        two.lab.until(f"{name} is gone from the view", lambda: two.lab.row(vm) is None, GONE_S)
    except CheckFailed as error:
        listed = [connection.listAllDomains() for connection in (two.here, two.there)]
        names = [[domain.name() for domain in domains] for domains in listed]
        raise CheckFailed(f"{error}; libvirts have {names}, the view {two.lab.row(vm)}") from error


def _known(row: Row | None) -> bool:
    return row is not None and row["status"] == "Up" and "config" in row["hashes"] and "info" in row["sections"]


def _remove(connection: libvirt.virConnect, vm: str) -> None:
    for action in (libvirt.virDomain.destroy, libvirt.virDomain.undefine):
        with contextlib.suppress(libvirt.libvirtError):
            action(connection.lookupByUUIDString(vm))


def _claims(two: Pair, vm: str, *expected: Claim) -> Callable[[], bool]:
    def holds() -> bool:
        row = two.lab.row(vm)
        return row is not None and set(expected) <= {Claim(claim["host"], claim["status"]) for claim in row["claims"]}

    return holds


def _under_way(two: Pair, vm: str, source: str = HOST, destination: str = PEER) -> None:
    """Wait until both hosts say what they are to the migration."""
    claims = Claim(source, SOURCE), Claim(destination, DESTINATION)
    two.lab.until("both hosts say that it migrates", _claims(two, vm, *claims), WITHIN_S)


def _settled(two: Pair, vm: str, host: str) -> None:
    """Wait until the VM is Up on *host*, and known as well as before."""
    two.lab.until(f"Up on {host}", lambda: (row := two.lab.row(vm)) is not None and up_on(row, host), WITHIN_S)


def up_on(row: Row, host: str) -> bool:
    """Whether the view knows the VM well, on this host, and nobody tells any more that it is coming."""
    return _known(row) and row["host"] == host and not any(claim["status"] == DESTINATION for claim in row["claims"])


def _there_and_back(two: Pair, vm: str, flags: int, *, slowly: bool) -> None:
    """Migrate there and back, and hold the view to everything that it may say of it."""
    lab, began = two.lab, time.monotonic()
    with Sightings(str(lab.api.base_url), vm) as sightings:
        domain = two.here.lookupByUUIDString(vm)
        move = Move(domain, two.peer, flags, slow=slowly)
        if slowly:
            _under_way(two, vm)
            domain.migrateSetMaxSpeed(FAST_MIB_S)
        move.end(well=True)
        _settled(two, vm, PEER)
        lab.until("its end here is told", lambda: two.ended(HOST, vm)[-1:] == ["migration_succeeded"], WITHIN_S)
        elapsed = (lab.row(vm) or {}).get("elapsedTime")
        if elapsed is None or not 0 <= elapsed <= time.monotonic() - began + 1:
            raise CheckFailed(
                f"running for {elapsed} s on the destination, {time.monotonic() - began:.1f} s after the start"
            )
        migrate(two.there.lookupByUUIDString(vm), lab.hypervisor, flags)
        _settled(two, vm, HOST)
        lab.until("its end there is told", lambda: two.ended(PEER, vm)[-1:] == ["migration_succeeded"], WITHIN_S)
    sightings.allow(BOTH, MOVING)
    if slowly:
        sightings.saw(Claim(HOST, SOURCE), Claim(PEER, DESTINATION))
    if sightings.owners != [HOST, PEER, HOST] or sightings.moves != [(HOST, PEER), (PEER, HOST)]:
        raise CheckFailed(f"moves told: {sightings.moves}; seen: {sightings.story()}")
    if flags and len(sightings.configs) != 1:
        raise CheckFailed(f"the configuration's hash changed: {sightings.story()}")


@contextlib.contextmanager
def _mover(bench: Bench) -> Iterator[tuple[Pair, libvirt.virDomain, Sightings]]:
    """A second host, a domain to be moved there, and what is to watch it."""
    with pair(bench.lab) as two, a_domain(two, "mover") as domain:
        yield two, domain, Sightings(str(two.lab.api.base_url), domain.UUIDString())


@contextlib.contextmanager
def _staying(bench: Bench) -> Iterator[tuple[Pair, libvirt.virDomain]]:
    """The block makes migrations of a domain fail; it has to be on the first host all the time, and to be told so."""
    with _mover(bench) as (two, domain, sightings):
        with sightings:
            yield two, domain
            _failed_there(two, domain.UUIDString())
        _it_stays(two, domain.UUIDString(), sightings)


def _half_way(two: Pair, domain: libvirt.virDomain, flags: int = 0) -> Move:
    """Begin a migration that does not end by itself, and wait until both hosts tell of it."""
    move = Move(domain, two.peer, flags, slow=True)
    _under_way(two, domain.UUIDString())
    return move


def _it_stays(two: Pair, vm: str, sightings: Sightings) -> None:
    """Once the watch is over: a migration failed, and the VM was on the first host all the time."""
    sightings.allow({HOST}, MOVING - {DESTINATION})
    if sightings.owners != [HOST] or sightings.moves or len(sightings.configs) != 1:
        raise CheckFailed(f"moves told: {sightings.moves}; seen: {sightings.story()}")
    if [claim["host"] for claim in (two.lab.row(vm) or {})["claims"]] != [HOST]:
        raise CheckFailed(f"claims in the end: {two.lab.row(vm)}")


def _failed_there(two: Pair, vm: str) -> None:
    """Wait until the second host has told how its part ended, and the first that it runs on."""

    def holds() -> bool:
        return two.ended(PEER, vm)[-1:] == ["migration_failed"]

    try:
        two.lab.until("the second host's tombstone says that a migration failed", holds, WITHIN_S)
    except CheckFailed as error:
        raise CheckFailed(f"{error}; it has {two.host(PEER)['tombstones']}") from error
    _settled(two, vm, HOST)


# --- checks -----------------------------------------------------------------------------------------------------------


def a_vm_migrates_there_and_back(bench: Bench) -> None:
    """Both claims are visible, one host owns the VM at every moment, and nobody is told that it is Down."""
    with pair(bench.lab) as two, a_domain(two, "mover") as domain:
        _there_and_back(two, domain.UUIDString(), AS_ENGINES_DO, slowly=True)


def vms_migrate_again_and_again_two_at_once(bench: Bench) -> None:
    """Several rounds of two VMs at once, one with its definition and one without."""
    with pair(bench.lab) as two, a_domain(two, "mover-1") as one, a_domain(two, "mover-2") as other:
        failures: list[Exception] = []

        def rounds(domain: libvirt.virDomain, flags: int) -> None:
            try:
                for _ in range(ROUNDS):
                    _there_and_back(two, domain.UUIDString(), flags, slowly=False)
            except Exception as error:  # noqa: BLE001 - told below
                failures.append(error)

        threads = [threading.Thread(target=rounds, args=each) for each in ((one, AS_ENGINES_DO), (other, 0))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def a_cancelled_migration_moves_nothing(bench: Bench) -> None:
    """It is cancelled midway: the owner stays, and the destination says that a migration failed."""
    with _staying(bench) as (two, domain):
        move = _half_way(two, domain)
        domain.abortJob()
        move.end(well=False)


def a_failing_destination_moves_nothing(bench: Bench) -> None:
    """Its QEMU is killed midway, its libvirtd is, or it refuses: the owner stays."""
    with _staying(bench) as (two, domain):
        vm = domain.UUIDString()
        move = _half_way(two, domain)
        os.kill(two.peer.domain_pid("mover"), signal.SIGKILL)
        move.end(well=False)
        _failed_there(two, vm)
        other = two.there.defineXML(two.peer.light_domain("mover"))
        Move(domain, two.peer).end(well=False)
        other.undefine()
        _settled(two, vm, HOST)
        _daemon_dies_there(two, domain)


def _daemon_dies_there(two: Pair, domain: libvirt.virDomain) -> None:
    vm = domain.UUIDString()
    stones = len(two.ended(PEER, vm))
    move = _half_way(two, domain)
    two.peer.kill()
    move.end(well=False)
    time.sleep(TICK_S)
    two.peer.start()
    two.lab.until("another tombstone there", lambda: len(two.ended(PEER, vm)) > stones, READY_S)


def a_killed_source_libvirtd_moves_nothing(bench: Bench) -> None:
    """The source's libvirtd is killed midway and comes back: the VM runs on there, and is never Down or Unknown."""
    with _staying(bench) as (two, domain):
        lab, move = two.lab, _half_way(two, domain)
        lab.hypervisor.kill()
        move.end(well=False)
        time.sleep(TICK_S)
        lab.hypervisor.start()
        lab.connection = libvirt.open(lab.hypervisor.uri)
        bench.domains = {name: lab.connection.lookupByName(name) for name in bench.names}


def agents_may_restart_during_a_migration(bench: Bench) -> None:
    """Either agent is restarted midway: both say again what they are to the migration, which then succeeds."""
    with _mover(bench) as (two, domain, sightings):
        vm = domain.UUIDString()
        with sightings:
            move = Move(domain, two.peer, slow=True)
            for restart, host in ((two.restart_agent, HOST), (two.restart_peer_agent, PEER)):
                _under_way(two, vm)
                restart()
                two.lab.until(f"{host} is live again", lambda host=host: _live(two, host), READY_S)  # type: ignore[misc]
            _under_way(two, vm)
            domain.migrateSetMaxSpeed(FAST_MIB_S)
            move.end(well=True)
            _settled(two, vm, PEER)
        sightings.allow(BOTH, MOVING)
        if sightings.owners != [HOST, PEER]:
            raise CheckFailed(f"seen: {sightings.story()}")


def a_post_copy_migration_has_one_owner(bench: Bench) -> None:
    """The VM runs on the destination before its memory is there: the owner moves once, and nobody says Down."""
    with _mover(bench) as (two, domain, sightings):
        with sightings:
            move = _half_way(two, domain, AS_ENGINES_DO | libvirt.VIR_MIGRATE_POSTCOPY)
            domain.migrateStartPostCopy()
            move.end(well=True)
            _settled(two, domain.UUIDString(), PEER)
        sightings.allow(BOTH, MOVING | {"Paused"})
        if sightings.owners != [HOST, PEER] or len(sightings.configs) != 1:
            raise CheckFailed(f"seen: {sightings.story()}")


def a_broken_post_copy_leaves_two_halves(bench: Bench) -> None:
    """It breaks after the VM began to run there: the destination owns it, and both halves are shown; none is Down."""
    with _mover(bench) as (two, domain, sightings):
        vm = domain.UUIDString()
        with sightings:
            move = _half_way(two, domain, libvirt.VIR_MIGRATE_POSTCOPY)
            domain.migrateStartPostCopy()
            two.lab.until("it runs there", lambda: _runs(two.there, vm), WITHIN_S)
            domain.abortJobFlags(libvirt.VIR_DOMAIN_ABORT_JOB_POSTCOPY)
            move.end(well=False)
            halves = Claim(HOST, "Paused"), Claim(PEER, "Up")
            two.lab.until("both halves are shown", _claims(two, vm, *halves), WITHIN_S)
            # The destination's QEMU may find out later than the source's; destroyed before, it was just destroyed.
            two.lab.until("its QEMU knows", lambda: _post_copy_failed(two.there, vm), WITHIN_S)
            broken_on = (two.lab.row(vm) or {})["host"]
            two.there.lookupByUUIDString(vm).destroy()
            two.lab.until("the other half is left", _claims(two, vm, Claim(HOST, "Paused")), WITHIN_S)
            two.lab.until("its end is told", lambda: two.ended(PEER, vm) == ["postcopy_migration_failed"], WITHIN_S)
        sightings.allow(BOTH, MOVING | {"Paused"})
        if broken_on != PEER or sightings.owners != [HOST, PEER, HOST]:
            raise CheckFailed(f"on {broken_on} when broken; seen: {sightings.story()}")


def _runs(connection: libvirt.virConnect, vm: str) -> bool:
    return connection.lookupByUUIDString(vm).state()[0] == libvirt.VIR_DOMAIN_RUNNING


def _post_copy_failed(connection: libvirt.virConnect, vm: str) -> bool:
    return connection.lookupByUUIDString(vm).state() in POST_COPY_FAILED


CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (a_vm_migrates_there_and_back,)
SLOW_CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (
    vms_migrate_again_and_again_two_at_once,
    a_cancelled_migration_moves_nothing,
    a_failing_destination_moves_nothing,
    a_killed_source_libvirtd_moves_nothing,
    agents_may_restart_during_a_migration,
    a_post_copy_migration_has_one_owner,
    a_broken_post_copy_leaves_two_halves,
)
