"""Whether agents are well, in words: for ``/healthz``, the watchdog and systemd's status line. No I/O and no clock.

Everything here may be called from any thread: it reads single values and copies of lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmpulse_agent.amqp_link import AmqpLink
    from vmpulse_agent.host_agent import HostAgent

STUCK_TICKS: Final = 5
"""A look is given up within its tick (promise A1), so a sampler that misses so many in a row is stuck."""
STUCK_LEAST_S: Final = 5.0
"""Short ticks are for tests and demos; a busy machine may pass over several of those."""
REASONS_SHOWN: Final = 20


def advancing(agent: HostAgent, now: float) -> bool:
    """Whether the agent's sampler still completes ticks; a look that failed completes one too."""
    return now - agent.measures.advanced_at <= _patience_s(agent)


def reasons(agents: Iterable[HostAgent], link: AmqpLink, now: float) -> list[str]:
    """Say why not all is well, a reason a line; empty: all is well."""
    hosts = list(agents)
    found = list(_broker_reasons(link, now))
    if not any(agent.session.ready for agent in hosts):
        found.append("starting: no first look is in, or the broker has not admitted us yet")
    found += [reason for agent in hosts for reason in _host_reasons(agent, now)]
    if len(found) > REASONS_SHOWN:
        found[REASONS_SHOWN:] = [f"and {len(found) - REASONS_SHOWN} more"]
    return found


def status_line(agents: Iterable[HostAgent], link: AmqpLink, now: float) -> str:
    """Give one line about everything: how many VMs, and what is amiss first."""
    hosts = list(agents)
    vms = sum(len(agent.session.ledger) for agent in hosts)
    amiss = reasons(hosts, link, now)
    return f"{vms} VMs; {amiss[0] if amiss else 'broker and hypervisor answer'}"


def _broker_reasons(link: AmqpLink, now: float) -> Iterator[str]:
    if link.away_since is not None:
        yield f"broker: no connection to {link.url} for {now - link.away_since:.0f} s"
    blocked = link.blocked_hosts()
    if blocked:
        yield f"broker: connected, but it takes nothing from {', '.join(blocked[:3])}{', ...' if blocked[3:] else ''}"


def _host_reasons(agent: HostAgent, now: float) -> Iterator[str]:
    measures = agent.measures
    if not advancing(agent, now):
        yield f"host {agent.host}: the sampler has been stuck for {now - measures.advanced_at:.0f} s"
    if measures.away_since is not None:
        seconds, why = now - measures.away_since, " ".join(measures.away_why.split())[:200]
        yield f"host {agent.host}: the hypervisor has been away for {seconds:.0f} s: {why}"
    else:
        # Before the first look the agent's own start counts.
        looked_at = max(agent.session.looked_at, agent.session.started)
        if now - looked_at > _patience_s(agent):
            yield f"host {agent.host}: no look has succeeded for {now - looked_at:.0f} s"


def _patience_s(agent: HostAgent) -> float:
    return max(STUCK_TICKS * agent.timing.tick_s, STUCK_LEAST_S)
