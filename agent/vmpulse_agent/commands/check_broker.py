"""The broker's part of ``check``."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from vmpulse_agent import amqp_inspection
from vmpulse_agent.commands.findings import fail, failed, ok, warn
from vmpulse_agent.errors import HypervisorTimeout
from vmpulse_agent.libvirt_edge.threads import Lane
from vmpulse_contract import topology
from vmpulse_edges.errors import BrokerError

if TYPE_CHECKING:
    from vmpulse_agent.amqp_inspection import Inspection
    from vmpulse_agent.commands.findings import Finding
    from vmpulse_contract.broker_url import BrokerUrl
    from vmpulse_contract.identity import HostId

WHAT: Final = "broker"
TCP_S: Final = 5.0
PUBLISH_S: Final = 3.0
"""A broker answers within milliseconds, unless it takes nothing."""
RIGHTS: Final = "set the permissions that docs/operating.md lists for a host"


async def check_broker(url: BrokerUrl, host: HostId) -> list[Finding]:
    """Look at the broker as this host's agent would meet it."""
    try:
        await _reach(url)
    except (OSError, HypervisorTimeout) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {TCP_S:g} s"
        return [fail(WHAT, f"{url}: {reason}", "check that RabbitMQ runs there, the address, and firewalls between")]
    try:
        async with amqp_inspection.opened(url, host) as inspection:
            return [ok(WHAT, f"{inspection.server()} at {url} lets us in"), *await _look_around(inspection, host)]
    except BrokerError as error:
        return [failed(WHAT, error)]


async def _reach(url: BrokerUrl) -> None:
    """Connect and hang up, in a thread that cannot keep the program: resolving a name has no end of its own."""

    def work() -> None:
        socket.create_connection((url.host, url.port), TCP_S).close()

    await Lane("reach", 1).run("reach", work, TCP_S)


async def _look_around(inspection: Inspection, host: HostId) -> list[Finding]:
    missing = await inspection.missing_exchanges()
    if missing:
        names = ", ".join(missing)
        return [
            fail(
                "exchanges", f"not there: {names}", "start the view once, which declares them; or name its virtual host"
            )
        ]
    found = [ok("exchanges", "all there")]
    return [*found, await _rpc(inspection, host), *await _publishing(inspection, host)]


async def _publishing(inspection: Inspection, host: HostId) -> list[Finding]:
    """The last thing asked: a broker in alarm reads nothing more from a connection that publishes."""
    what = "publishing"
    try:
        async with asyncio.timeout(PUBLISH_S):
            refusals = await inspection.publish_refusals()
    except TimeoutError:
        return [fail(what, f"no answer within {PUBLISH_S:g} s: an alarm of memory or disk?", "rabbitmqctl status")]
    if refusals:
        return [fail(what, f"to {exchange}: {why}", RIGHTS) for exchange, why in refusals.items()]
    return [ok(what, f"permitted as {host}")]


async def _rpc(inspection: Inspection, host: HostId) -> Finding:
    what, queue = "requests", topology.rpc_queue(host).name
    if await inspection.has_live_agent():
        return warn(
            what,
            f"another agent runs: it has the queue {queue}, and a second one would be refused",
            "nothing, if that is this host's own agent; otherwise stop it, or set another host",
        )
    refusal = await inspection.rpc_refusal()
    if refusal is not None:
        return fail(what, f"the queue {queue}: {refusal}", RIGHTS)
    return ok(what, f"the queue {queue} is ours to take")
