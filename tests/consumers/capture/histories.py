"""Captures of eventful histories, and their replay within this process."""

from __future__ import annotations

import random

import pytest

from tests.consumers.view.back_to_back import MIGRATED, Table
from vmpulse_consumers.capture.digest import digest
from vmpulse_consumers.capture.recording import RecordingView
from vmpulse_consumers.capture.records import Header, Reading, RecordKind, write_header, write_record
from vmpulse_consumers.capture.replaying import Replay
from vmpulse_contract.errors import MessageError


def recording() -> tuple[Table, RecordingView]:
    """A table whose view records what it is given."""
    table = Table()
    table.view = view = RecordingView(table.now)
    view.canary(table.now)
    return table, view


def captured(view: RecordingView, now: float) -> bytes:
    """The capture of a view, ended now."""
    end = write_record(now, RecordKind.END, digest(view))
    return b"".join([write_header(Header("vmpulse test", view.started)), *view.drain_records(), end])


def eventful(seed: int) -> tuple[Table, list[bytes]]:
    """A table with a history of losses, restarts, migrations, refusals and failures, and its capture."""
    lots = random.Random(seed)  # noqa: S311 - a history to be repeated, not a secret
    table = Table(3)
    table.view = view = RecordingView(table.now)
    view.canary(table.now)
    for _ in range(40):
        act(lots, table, view)
        if lots.random() < 0.1:
            lots.choice(list(table.hosts.values())).report_devices(table.now)
        if lots.random() < 0.3:
            hosts = list(table.hosts.values())
            for delivery in list(lots.choice(hosts).queue):
                if lots.random() < 0.5:
                    table.hosts[delivery.host].queue.remove(delivery)
        table.step()
        view.drain_events()
    end = write_record(table.now, RecordKind.END, digest(view))
    return table, [write_header(Header("vmpulse test", view.started)), *view.drain_records(), end]


def act(lots: random.Random, table: Table, view: RecordingView) -> None:
    """Something happens."""
    host = lots.choice(list(table.hosts.values()))
    running = [vm for vm, domain in host.domains.items() if domain.token]
    match lots.randrange(8):
        case 0 if running:
            host.stop_vm(lots.choice(running), table.now)
        case 1 if running:
            host.undefine_vm(lots.choice(running), table.now, MIGRATED)
        case 2:
            host.begin(table.now, table.next_epoch())
        case 3:
            table.dead ^= {host.id}
        case 4:
            with pytest.raises(MessageError):
                view.receive("vmpulse.runtime", host.id, host.id, b"\xc1", table.now)
        case 5:
            view.reconnected(table.now)
        case 6 if view.hosts.get(host.id) is not None and view.hosts[host.id].state == "lost":
            view.forget(host.id, table.now)
        case _:
            if running:
                host.domains[lots.choice(running)].user = f"user-{lots.random()}"


def replayed(raw: bytes) -> Replay:
    """The view that a capture rebuilds."""
    reading, replay = Reading(), None
    for record in reading.feed(raw):
        if isinstance(record, Header):
            replay = Replay(record.began)
        else:
            assert replay is not None
            replay.apply(record)
    assert replay is not None
    return replay
