"""Situations that the view's rules are looked at in."""

from __future__ import annotations

from tests.consumers.view.back_to_back import Table
from vmpulse_consumers.view import Request
from vmpulse_consumers.view.host import Host
from vmpulse_contract.identity import HostId
from vmpulse_contract.sections import Section

HOST, OTHER = HostId("host-0"), HostId("host-1")


def live_table(hosts: int = 1, vms: int = 3) -> Table:
    """Hosts that the view has met, confirmed and repaired."""
    table = Table(hosts, vms)
    table.settle()
    table.step()
    table.step()
    table.assert_equal()
    table.view.drain_events()
    return table


def in_view(table: Table) -> Host:
    """The first host as the view holds it."""
    return table.view.hosts[HOST]


def held_bodies(host: Host) -> list[bytes | None]:
    """The bodies held of a host as they were sent, in layout and Section order."""
    return [host.body(row, section) for row in range(len(host.vms)) for section in Section]


def asked_for_roster(table: Table) -> tuple[Request, bytes]:
    """A roster asked for and answered now, whose answer is still under way."""
    table.view.asking.relist(in_view(table))
    (request,) = table.view.drain_requests(table.now)
    return request, table.host.answer(request, table.now)


def user_said(table: Table, number: int) -> str | None:
    """The user that the row of a VM shows."""
    sections = table.row(number).sections
    return sections.status.username if sections and sections.status else None


def tick_of(table: Table, seconds: float = 3.0) -> None:
    """Time passes and the first host ticks; nothing is delivered."""
    table.now += seconds
    table.host.tick(table.now)


def silence(table: Table, seconds: float, canary: bool = True) -> None:  # noqa: FBT001, FBT002 - reads well
    """Seconds pass one by one in which no host says a thing."""
    for _ in range(int(seconds)):
        table.now += 1.0
        if canary:
            table.view.canary(table.now)
        table.view.tick(table.now)
