"""How each kind of fault begins on a stand, and how it heals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from benches.chaos.cable import Cable, Pace
from benches.chaos.plan import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benches.chaos.stand import Stand

Heal = Callable[[], Awaitable[None]]
Begin = Callable[["Stand", Fault], Awaitable[Heal]]
"""Lets a fault begin; gives what heals it."""

TINY: Final = "0.00001"
USUAL: Final = "0.4"
"""Shares of the machine's memory above which RabbitMQ takes no more messages; the latter is its own default."""
POLICY: Final = "chaos-heads"
VIEW_QUEUES: Final = r"^vmpulse\.view\."
KEPT_S: Final = 2.0
"""So long the file of an agent's tombstones may be behind; whoever is killed has then lost them."""
KEPT_MESSAGES: Final = 10
"""What a view's queue may hold while its heads are dropped: less than a fleet says in one tick."""


async def broker_killed(stand: Stand, _: Fault) -> Heal:
    """Kill -9 the node; it comes back on the same data, and is healed when it answers."""
    await asyncio.to_thread(stand.broker.kill)
    return stand.broker.come_up


async def memory_alarm(stand: Stand, _: Fault) -> Heal:
    """Let the broker be short of memory: it reads no publisher's socket any more."""
    await asyncio.to_thread(stand.broker.ctl, "set_vm_memory_high_watermark", TINY)

    async def heal() -> None:
        await asyncio.to_thread(stand.broker.ctl, "set_vm_memory_high_watermark", USUAL)

    return heal


async def heads_dropped(stand: Stand, _: Fault) -> Heal:
    """Bound the view's queue closely, and keep the view from it: all but the last messages are dropped."""
    limit = json.dumps({"max-length": KEPT_MESSAGES})
    await asyncio.to_thread(stand.broker.ctl, "set_policy", "--apply-to", "queues", POLICY, VIEW_QUEUES, limit)
    stand.view_cable.cut()

    async def heal() -> None:
        stand.view_cable.mend()
        await asyncio.to_thread(stand.broker.ctl, "clear_policy", POLICY)

    return heal


async def view_killed(stand: Stand, _: Fault) -> Heal:
    """Kill -9 the view."""
    await stand.view.kill()
    return stand.view.start


async def view_paused(stand: Stand, _: Fault) -> Heal:
    """Let the view stand still, as a machine that is suspended does."""
    stand.view.pause()
    return soon(stand.view.resume)


async def agents_killed(stand: Stand, fault: Fault) -> Heal:
    """Kill -9 agents."""
    children = [stand.agents[group] for group in fault.groups]
    await asyncio.gather(*(child.kill() for child in children))
    return started_again(stand, fault, stand.clock())


async def agents_stopped(stand: Stand, fault: Fault) -> Heal:
    """Stop agents in good order: they say goodbye, if they can."""
    at = stand.clock()
    await asyncio.gather(*(stand.agents[group].end() for group in fault.groups))
    return started_again(stand, fault, at)


def started_again(stand: Stand, fault: Fault, ended: float) -> Heal:
    """Give what starts agents again that have ended."""
    hosts = {str(hypervisor.host) for hypervisor in stand.hosts(fault.groups)}
    stand.motion.fates.unseen(hosts, ended - KEPT_S)

    async def heal() -> None:
        for hypervisor in stand.hosts(fault.groups):
            hypervisor.forget_ended(ended - KEPT_S)
        for group in fault.groups:
            await stand.agents[group].start()

    return heal


async def agents_paused(stand: Stand, fault: Fault) -> Heal:
    """Let agents stand still."""
    for group in fault.groups:
        stand.agents[group].pause()

    def resume() -> None:
        for group in fault.groups:
            stand.agents[group].resume()

    return soon(resume)


async def hosts_died(stand: Stand, fault: Fault) -> Heal:
    """Take the power from hosts: agents and VMs end without a word. Later the hosts boot, and their VMs anew."""
    start = await agents_killed(stand, fault)
    ran = stand.motion.lose_power(stand.hosts(fault.groups))

    async def heal() -> None:
        stand.motion.boot(ran)
        await start()

    return heal


def on_cables(choose: Callable[[Stand, Fault], Iterable[Cable]], harm: Callable[[Cable, Fault], None]) -> Begin:
    """Give a fault of cables."""

    async def begin(stand: Stand, fault: Fault) -> Heal:
        cables = list(choose(stand, fault))
        for cable in cables:
            harm(cable, fault)

        def mend() -> None:
            for cable in cables:
                cable.mend()

        return soon(mend)

    return begin


def soon(action: Callable[[], None]) -> Heal:
    """Give what heals at once."""

    async def heal() -> None:
        action()

    return heal


def of_view(stand: Stand, _: Fault) -> list[Cable]:
    """The view's way to the broker."""
    return [stand.view_cable]


def of_agents(stand: Stand, fault: Fault) -> list[Cable]:
    """The ways of the groups that the fault takes hold of."""
    return [stand.cables[group] for group in fault.groups]


def cut(cable: Cable, _: Fault) -> None:
    """See `Cable.cut`."""
    cable.cut()


def hang(cable: Cable, _: Fault) -> None:
    """See `Cable.hang`."""
    cable.hang()


def slow(cable: Cable, fault: Fault) -> None:
    """See `Cable.slow`."""
    cable.slow(Pace(fault.bytes_s, fault.delay_s))


EFFECTS: Final[dict[Kind, Begin]] = {
    Kind.BROKER_KILLED: broker_killed,
    Kind.MEMORY_ALARM: memory_alarm,
    Kind.HEADS_DROPPED: heads_dropped,
    Kind.VIEW_KILLED: view_killed,
    Kind.VIEW_PAUSED: view_paused,
    Kind.VIEW_CUT: on_cables(of_view, cut),
    Kind.VIEW_HUNG: on_cables(of_view, hang),
    Kind.VIEW_SLOW: on_cables(of_view, slow),
    Kind.AGENTS_KILLED: agents_killed,
    Kind.AGENTS_STOPPED: agents_stopped,
    Kind.AGENTS_PAUSED: agents_paused,
    Kind.AGENTS_CUT: on_cables(of_agents, cut),
    Kind.AGENTS_HUNG: on_cables(of_agents, hang),
    Kind.AGENTS_SLOW: on_cables(of_agents, slow),
    Kind.HOSTS_DIED: hosts_died,
}
