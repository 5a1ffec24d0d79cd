"""What the lab breaks: QEMU, libvirtd and what is asked of them; everything else has to go on as if nothing were."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import libvirt

from tests.lab import guest_image, guests
from tests.lab.lab import TICK_S, UNRESPONSIVE_S, CheckFailed
from tests.lab.watch import Watch, loop_rounds, steadily
from vmpulse_agent.libvirt_edge import stats
from vmpulse_agent.libvirt_edge.lanes import lanes
from vmpulse_agent.measures import Calls
from vmpulse_agent.metrics_server import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.lab.checks import Bench
    from tests.lab.lab import Lab

FRESH_S: Final = TICK_S + 0.75
"""The greatest age of values that are read each tick; the tick in which a hung domain is found takes 0.3 s longer.

What libvirt itself takes for a look, and how late the watch's own readings were, is the machine's and comes on top.
"""
BACK_S: Final = TICK_S + 0.75
"""One tick after its return a domain or a daemon is read again; the machine's share comes on top here as well."""
STOPPED_S: Final = 9.0
"""How long a fault lasts: three ticks, so that the third is the rule and not the discovery."""
LONG_S: Final = 25.0
"""Longer than libvirt's keepalives are waited for (15 s): the connections are given up, and opened again."""
RSS_MIB: Final = 120.0
"""What an agent may take at 100 domains, whatever goes on."""
ASKED_AT_ONCE: Final = lanes(Calls()).probe.width
"""By probes; others that hang only age, as nobody can be spared to ask them."""
HERD: Final = 20
HERD_STOPPED: Final = 8
"""More than there are threads for probes."""
CROWD: Final = 100
GUEST_NUMBER: Final = 90
GUEST_FAULT_S: Final = 12.0
"""Sections are read again meanwhile, and eagerly so soon after a start."""
CYCLES: Final = 200
CYCLES_S: Final = 60.0
STARTERS: Final = 4
ENDERS: Final = 10


def threads_allowed() -> int:
    """The most threads that an agent may have: those of its lanes, and what the package's table does not show.

    The loop's own, libvirt's events, two that open and close connections, the server of the metrics and its
    connections, and those in which asyncio looks names up.
    """
    resolvers = min(32, (os.cpu_count() or 1) + 4)
    return sum(lane.width for lane in lanes(Calls())) + 2 + 1 + 2 + CONNECTIONS + resolvers


@contextlib.contextmanager
def watched(bench: Bench, what: str) -> Iterator[Watch]:
    """Watch while the block breaks something; then hold the agent to its bounds and note what was measured."""
    before = loop_rounds(bench.lab)
    with Watch(bench.lab) as watch:
        yield watch
    after = loop_rounds(bench.lab)
    over = after.over - before.over
    bench.say(
        f"      {what}: {watch.most_threads} threads, {watch.most_mib:.0f} MiB, loop blocked for at most "
        f"{after.blocked_s_max * 1000:.0f} ms, without a CPU for {(after.starved_s - before.starved_s) * 1000:.0f} ms"
    )
    if over > 0:
        raise CheckFailed(f"{over:g} rounds of the agent's loop took over 50 ms, {after.blocked_s_max:.3f} s at most")
    if watch.most_threads > threads_allowed():
        raise CheckFailed(f"the agent had {watch.most_threads} threads, allowed are {threads_allowed()}")
    if watch.most_mib > RSS_MIB:
        raise CheckFailed(f"the agent took {watch.most_mib:.0f} MiB, allowed are {RSS_MIB:g}")


@contextlib.contextmanager
def herd(bench: Bench, count: int) -> Iterator[dict[str, str]]:
    """That many light domains more, transient ones; gives their names by id. All are fresh when the block begins."""
    lab, names = bench.lab, [f"herd-{number}" for number in range(count)]
    began = time.monotonic()
    with ThreadPoolExecutor(STARTERS) as pool:
        domains = list(pool.map(lambda name: lab.connection.createXML(lab.hypervisor.light_domain(name)), names))
    known = {domain.UUIDString(): domain.name() for domain in domains}
    bench.say(f"      {count} domains started in {time.monotonic() - began:.0f} s")
    try:
        lab.until("the herd is up and read", lambda: _all_fresh(bench, known), 10 * TICK_S)
        yield known
    finally:
        began = time.monotonic()
        with ThreadPoolExecutor(ENDERS) as pool:
            list(pool.map(lambda vm: _destroy(bench, vm), known))
        bench.say(f"      and destroyed in {time.monotonic() - began:.0f} s")
    lab.until("the herd is gone", lambda: not known.keys() & lab.rows().keys(), 2 * TICK_S)


def _all_fresh(bench: Bench, vms: Collection[str]) -> bool:
    rows = bench.lab.rows()
    return all(rows.get(vm, {}).get("freshness") == "fresh" for vm in vms)


def _destroy(bench: Bench, vm: str) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        bench.lab.connection.lookupByUUIDString(vm).destroy()


def _running(bench: Bench) -> dict[str, str]:
    """Names of the bench's own domains by id, once all of them are fresh: the check before may have begun an epoch."""
    known = {domain.UUIDString(): name for name, domain in bench.domains.items()}
    bench.lab.until("all domains are read", lambda: _all_fresh(bench, known), 3 * TICK_S)
    return known


def _assert_fresh(watch: Watch, vms: Collection[str], since: float, until: float, bulk_s: float) -> None:
    """Values stayed as fresh as the limit and the machine allow; *bulk_s*: what libvirt takes for a look.

    The tick of a discovery looks twice: at all, and then at those that are well.
    """
    age, limit_s = watch.oldest(vms, since, until), FRESH_S + 2 * bulk_s + watch.lateness(since, until)
    if age > limit_s:
        raise CheckFailed(f"values of domains that were well became {age:.2f} s old; allowed: {limit_s:.2f} s")


def _assert_back(watch: Watch, what: str, returned: float, took: float, bulk_s: float) -> None:
    """All was read again within a tick of its return, as far as the machine allows."""
    limit_s = BACK_S + bulk_s + watch.lateness(returned, returned + took)
    if took > limit_s:
        raise CheckFailed(f"read again only {took:.2f} s after {what}; allowed: {limit_s:.2f} s")


def _assert_aged(watch: Watch, vms: Collection[str], since: float, until: float) -> None:
    for vm in vms:
        age = watch.oldest({vm}, since, until)
        if age < until - since - TICK_S / 2:
            raise CheckFailed(f"{vm} was not read for {until - since:.1f} s, yet its age was {age:.1f} s at most")


# --- QEMU ---------------------------------------------------------------------------------------------------------


def _stop_some(bench: Bench, known: dict[str, str], count: int, what: str) -> None:
    lab, hung = bench.lab, dict(list(known.items())[:count])
    bulk_s = _bulk_s(bench)
    with watched(bench, what) as watch:
        with lab.hypervisor.hung(*hung.values()):
            began = time.monotonic()
            told = min(count, ASKED_AT_ONCE)
            lab.until("monitorResponse is -1", lambda: _responses(bench, hung)[-1] >= told, UNRESPONSIVE_S + 3 * TICK_S)
            time.sleep(max(0.0, began + STOPPED_S - time.monotonic()))
            ended = time.monotonic()
        back = watch.fresh_after(known, ended, FRESH_S + bulk_s, 2 * TICK_S)
    bench.say(
        f"      {what}: the others were {watch.oldest(known.keys() - hung.keys(), began):.1f} s old at most, "
        f"all were back after {back:.1f} s"
    )
    _assert_aged(watch, hung, began, ended)
    _assert_fresh(watch, known.keys() - hung.keys(), began, ended + back, bulk_s)
    _assert_back(watch, "they went on", ended, back, bulk_s)
    lab.until("monitorResponse is 0 again", lambda: _responses(bench, hung)[0] == count, 2 * TICK_S)


def _responses(bench: Bench, vms: Collection[str]) -> Counter[int | None]:
    rows = [bench.lab.row(vm) or {} for vm in vms]
    return Counter(row.get("sections", {}).get("status", {}).get("monitorResponse") for row in rows)


def a_stopped_qemu_costs_only_itself(bench: Bench) -> None:
    """SIGSTOP of one QEMU: the others stay fresh, it ages and gets monitorResponse -1, and SIGCONT brings it back."""
    _stop_some(bench, _running(bench), 1, "one QEMU stopped")


def eight_stopped_of_twenty_cost_only_themselves(bench: Bench) -> None:
    """The same when more are stopped than there are threads to probe them."""
    with herd(bench, HERD) as known:
        _stop_some(bench, known, HERD_STOPPED, f"{HERD_STOPPED} of {HERD} QEMUs stopped")


def a_domain_destroyed_while_it_is_asked(bench: Bench) -> None:
    """A domain hangs, so that looks and samples hang in it, and is destroyed: it alone goes, with its true reason."""
    lab, known = bench.lab, _running(bench)
    bulk_s = _bulk_s(bench)
    domain = lab.connection.createXML(lab.hypervisor.light_domain("victim"))
    vm = domain.UUIDString()
    lab.until("the victim is read", lambda: _all_fresh(bench, [vm]), 2 * TICK_S)
    with watched(bench, "a domain destroyed while it was asked") as watch:
        began = time.monotonic()
        with lab.hypervisor.hung("victim"):
            time.sleep(TICK_S + 0.5)
            domain.destroy()
        lab.until("it is gone from the view", lambda: vm not in lab.rows(), TICK_S)
        time.sleep(TICK_S)
    _assert_fresh(watch, known, began, time.monotonic(), bulk_s)
    reasons = [stone.get("exitReason") for stone in lab.host().get("tombstones", []) if stone["id"] == vm]
    if reasons != ["admin_shutdown"]:
        raise CheckFailed(f"its tombstones say {reasons}")


# --- libvirtd -----------------------------------------------------------------------------------------------------


def _libvirtd_away(
    bench: Bench, seconds: float, what: str, leave: Callable[[], None], back: Callable[[], None]
) -> None:
    known, bulk_s = _running(bench), _bulk_s(bench)
    with watched(bench, what) as watch:
        began = time.monotonic()
        leave()
        time.sleep(seconds)
        back()
        ended = time.monotonic()
        took = watch.fresh_after(known, ended, FRESH_S + bulk_s, 15.0)
    bench.say(f"      {what}: all were read again {took:.1f} s after its return")
    _assert_aged(watch, known, began, ended)
    _assert_back(watch, "libvirtd's return", ended, took, bulk_s)


def a_stopped_libvirtd_ages_all_and_loses_none(bench: Bench) -> None:
    """SIGSTOP of libvirtd: all ages grow, no VM is gone or Down, and SIGCONT makes all fresh within one tick."""
    send = bench.lab.hypervisor.send
    _libvirtd_away(bench, STOPPED_S, "libvirtd stopped", lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))


def a_libvirtd_stopped_for_long_is_connected_to_anew(bench: Bench) -> None:
    """The same for longer than keepalives are waited for: connections are opened anew, in one tick all the same."""
    send = bench.lab.hypervisor.send
    _libvirtd_away(
        bench, LONG_S, "libvirtd stopped for long", lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)
    )


def a_restarted_libvirtd_is_back_within_a_tick(bench: Bench) -> None:
    """SIGTERM of libvirtd, as for an upgrade, and its return: no VM is gone or Down, all fresh within one tick."""
    hypervisor = bench.lab.hypervisor
    _libvirtd_away(bench, TICK_S, "libvirtd ended by SIGTERM", hypervisor.terminate, hypervisor.start)
    _reconnect(bench)


def a_killed_libvirtd_is_back_within_a_tick(bench: Bench) -> None:
    """SIGKILL of libvirtd for a minute, so that every back-off has reached its end: back within one tick."""
    hypervisor = bench.lab.hypervisor
    _libvirtd_away(bench, 60.0, "libvirtd killed for a minute", hypervisor.kill, hypervisor.start)
    _reconnect(bench)


def _reconnect(bench: Bench) -> None:
    """The bench's own handles went with the daemon."""
    bench.lab.connection = libvirt.open(bench.lab.hypervisor.uri)
    bench.domains = {name: bench.lab.connection.lookupByName(name) for name in bench.domains}


# --- many ---------------------------------------------------------------------------------------------------------


def two_hundred_domains_a_minute_come_and_go(bench: Bench) -> None:
    """200 definitions a minute, one in ten started, and undefined again: the view ends as libvirt does, all fresh."""
    lab, known, bulk_s = bench.lab, _running(bench), _bulk_s(bench)
    numbers = iter(range(CYCLES))

    def cycle() -> None:
        number = next(numbers)
        xml = lab.hypervisor.light_domain(f"churn-{number}")
        if number % 10:
            lab.connection.defineXML(xml).undefine()
            return
        domain = lab.connection.createXML(xml) if number % 20 else lab.connection.defineXML(xml)
        if not number % 20:
            domain.create()
            domain.undefine()
        threading.Timer(2.0, domain.destroy).start()

    with watched(bench, f"{CYCLES} domains in {CYCLES_S:g} s") as watch:
        began = time.monotonic()
        steadily(cycle, CYCLES, CYCLES_S)
        ended = time.monotonic()
        lab.until("the view has what libvirt has", lambda: lab.rows().keys() == _listed(lab), 3 * TICK_S)
    bench.say(f"      they took {ended - began:.0f} s; the others were {watch.oldest(known, began):.1f} s old at most")
    _assert_fresh(watch, known, began, ended, bulk_s)


def _listed(lab: Lab) -> set[str]:
    return {domain.UUIDString() for domain in lab.connection.listAllDomains()}


def a_hundred_domains_are_read_each_tick(bench: Bench) -> None:
    """100 domains, three of them stopped for a while: the others stay as fresh as libvirt itself is fast."""
    with herd(bench, CROWD) as known:
        took = _bulk_s(bench)
        bench.say(f"      the bulk calls of a look and of a device sample over {CROWD} domains take {took:.1f} s")
        with watched(bench, f"{CROWD} domains") as watch:
            began = time.monotonic()
            time.sleep(10 * TICK_S)
            calm = watch.oldest(known, began)
            hung = list(known)[:3]
            stop = time.monotonic()
            with bench.lab.hypervisor.hung(*(known[vm] for vm in hung)):
                time.sleep(STOPPED_S)
                ended = time.monotonic()
            back = watch.fresh_after(known, ended, FRESH_S + took, 4 * TICK_S)
            others = watch.oldest(known.keys() - set(hung), stop)
        bench.say(f"      ages: calm {calm:.1f} s, beside three stopped {others:.1f} s; back after {back:.1f} s")
        _assert_aged(watch, hung, stop, ended)
        _assert_fresh(watch, known, began, stop, took)
        _assert_fresh(watch, known.keys() - set(hung), stop, ended, took)


def _bulk_s(bench: Bench) -> float:
    """How long libvirt takes for what a look and a device sample ask, which may come in one tick."""
    began = time.monotonic()
    for groups in (stats.LOOK_GROUPS, stats.DEVICE_GROUPS):
        bench.lab.connection.getAllDomainStats(sum(groups))
    return time.monotonic() - began


# --- guest agents -------------------------------------------------------------------------------------------------


def guest_agents_that_misbehave_cost_only_themselves(bench: Bench) -> None:
    """Guest agents that hang, answer with 64 MB, or with garbage: their VMs and all others are Up and fresh."""
    lab, image = bench.lab, guest_image.build(guests.IMAGES, bench.say)
    modes: tuple[guests.AgentMode, ...] = ("hang", "flood", "garbage")
    guests.prepare(lab.hypervisor)
    with contextlib.ExitStack() as stack:
        bad = {}
        for number, mode in enumerate(modes, GUEST_NUMBER):
            guest = guests.define(lab.hypervisor, lab.connection, image, number, agent=mode)
            stack.callback(_remove, guest)
            guest.start()
            bad[guest.uuid] = guest
        for guest in bad.values():
            guest.wait()
        known, bulk_s = _running(bench) | bad, _bulk_s(bench)
        with watched(bench, "guest agents that misbehave") as watch:
            lab.until("they are read", lambda: _all_fresh(bench, known), 4 * TICK_S)
            began = time.monotonic()
            time.sleep(GUEST_FAULT_S)
            ended = time.monotonic()
        bench.say(f"      all were {watch.oldest(known, began, ended):.1f} s old at most")
        _assert_fresh(watch, known, began, ended, bulk_s)


def _remove(guest: guests.Guest) -> None:
    guest.close()
    with contextlib.suppress(libvirt.libvirtError):
        guest.domain.destroy()
    guest.domain.undefine()


CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (
    a_stopped_qemu_costs_only_itself,
    a_stopped_libvirtd_ages_all_and_loses_none,
    a_restarted_libvirtd_is_back_within_a_tick,
)
GUEST_CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (guest_agents_that_misbehave_cost_only_themselves,)
SLOW_CHECKS: Final[tuple[Callable[[Bench], None], ...]] = (
    a_domain_destroyed_while_it_is_asked,
    eight_stopped_of_twenty_cost_only_themselves,
    a_libvirtd_stopped_for_long_is_connected_to_anew,
    a_killed_libvirtd_is_back_within_a_tick,
    two_hundred_domains_a_minute_come_and_go,
    a_hundred_domains_are_read_each_tick,
)
