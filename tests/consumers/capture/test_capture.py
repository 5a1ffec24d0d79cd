"""A capture rebuilds the view that it was taken of, whatever happened; and a file that is none costs nothing."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.consumers.view.back_to_back import MIGRATED, Table
from vmpulse_consumers.capture.file import CaptureFile, read_capture
from vmpulse_consumers.capture.recording import RecordingView
from vmpulse_consumers.capture.records import (
    MAGIC,
    RECORD_BYTES,
    VERSION,
    Header,
    Reading,
    Record,
    RecordKind,
    write_header,
    write_record,
)
from vmpulse_consumers.capture.replaying import Replay, digest
from vmpulse_consumers.errors import CaptureUnreadable, CaptureUnwritable
from vmpulse_consumers.view.rows import fleet_row, host_row, vm_row
from vmpulse_contract import verbs
from vmpulse_contract.errors import HostDidNotAnswer, MessageError, MistypedMessage
from vmpulse_contract.identity import HostId

HEADER = write_header(Header("vmpulse test", 1000.0))


def eventful(seed: int) -> tuple[Table, list[bytes]]:
    """A table with a history of losses, restarts, migrations, refusals and failures, and its capture."""
    lots = random.Random(seed)  # noqa: S311 - a history to be repeated, not a secret
    table = Table(3)
    table.view = view = RecordingView(table.now)
    view.canary(table.now)
    for _ in range(40):
        act(lots, table, view)
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


@pytest.mark.parametrize("seed", range(8))
def test_a_capture_rebuilds_the_view(seed: int) -> None:
    """Every row of VMs, hosts and the fleet is what the captured view says, and the digest agrees."""
    table, records = eventful(seed)
    replay = replayed(b"".join(records))
    assert replay.same is True
    assert replay.at == table.now
    view, now = table.view, table.now
    assert {vm: vm_row(replay.view, now, kept, with_claims=True) for vm, kept in replay.view.vms.items()} == {
        vm: vm_row(view, now, kept, with_claims=True) for vm, kept in view.vms.items()
    }
    assert [host_row(replay.view, host, now) for host in replay.view.hosts.values()] == [
        host_row(view, host, now) for host in view.hosts.values()
    ]
    assert fleet_row(replay.view, now) == fleet_row(view, now)


def test_a_lost_record_is_noticed() -> None:
    """Without the last message that was heard the digest differs."""
    _, records = eventful(1)
    last = max(number for number, raw in enumerate(records) if b"receive" in raw[:20])
    assert replayed(b"".join(records[:last] + records[last + 1 :])).same is False


def test_a_capture_that_was_cut_off_replays_to_its_last_record() -> None:
    """Each beginning of a capture gives the records that are whole in it."""
    _, records = eventful(2)
    raw = b"".join(records)
    for cut in (len(records[0]), len(raw) // 3, len(raw) - 1):
        assert replayed(raw[:cut]).same is None


def test_a_failure_within_a_tick_is_no_input() -> None:
    """What the view does by itself is not written down a second time."""
    view = RecordingView(0.0)
    view.canary(0.0)
    table = Table()
    table.view = view
    table.deliver()
    (request,) = view.drain_requests(table.now)
    view.drain_records()
    view.tick(table.now + 60)
    assert len(view.drain_records()) == 1
    view.request_failed(request, HostDidNotAnswer("late"), table.now + 61)
    assert len(view.drain_records()) == 1


def test_an_answer_that_did_not_fit_is_replayed() -> None:
    """The view refuses it, the question is put off, and the capture goes on past both."""
    table = Table()
    table.view = view = RecordingView(table.now)
    view.canary(table.now)
    table.deliver()
    (request,) = view.drain_requests(table.now)
    reply = verbs.read_reply(request.verb, table.host.answer(request, table.now))
    with pytest.raises(MistypedMessage):
        view.replied(request, msgspec.structs.replace(reply, as_of=1 << 63), table.now)
    view.request_failed(request, MistypedMessage("it did not fit"), table.now)
    for _ in range(3):
        table.step()
    table.assert_equal()
    end = write_record(table.now, RecordKind.END, digest(view))
    replay = replayed(b"".join([write_header(Header("x", view.started)), *view.drain_records(), end]))
    assert (replay.same, replay.faults) == (True, [])


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    """It has mode 0600, and one that is there is refused with the remedy."""
    path = tmp_path / "a.capture"
    with CaptureFile(path, Header("vmpulse test", 1.0)) as file:
        file.write([write_record(2.0, RecordKind.TICK)])
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(read_capture(path)) == [Header("vmpulse test", 1.0), Record(2.0, RecordKind.TICK, ())]
    with pytest.raises(CaptureUnwritable, match="is there already; name a file that is not"):
        CaptureFile(path, Header("vmpulse test", 1.0))
    with pytest.raises(CaptureUnwritable, match="cannot be written"):
        CaptureFile(tmp_path / "no" / "a.capture", Header("vmpulse test", 1.0))


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    """The error says which file, and what a capture is."""
    with pytest.raises(CaptureUnreadable, match=r"no\.capture cannot be read"):
        list(read_capture(tmp_path / "no.capture"))
    (tmp_path / "empty").touch()
    with pytest.raises(CaptureUnreadable, match=r"empty is empty; a capture is what"):
        list(read_capture(tmp_path / "empty"))


@pytest.mark.parametrize(
    "raw,words",
    [
        (b"\x01", "it is no capture"),
        (msgpack.packb((MAGIC, VERSION + 1, "vmpulse 9", 1.0)), f"version {VERSION + 1}.*reads version {VERSION}"),
        (HEADER + b"\xc1", "record 0 before byte"),
        (HEADER + msgpack.packb((1.0, "nothing")), "record 1"),
        (HEADER + msgpack.packb((1.0, "receive", 1, 2, 3, 4)), "does not have these arguments"),
        (HEADER + msgpack.packb(("now", "tick")), "does not begin with a time"),
        (HEADER + b"\xdd\xff\xff\xff\xff", "record 0"),
    ],
)
def test_what_is_no_capture_is_said_to_be_none(raw: bytes, words: str) -> None:
    """The error names the record and what is allowed, and nothing is allotted for what is only announced."""
    with pytest.raises(CaptureUnreadable, match=words):
        replayed(raw)


def test_what_is_announced_too_long_is_not_waited_for() -> None:
    """A record that says it is 4 GiB long ends the reading before it has taken as much as two records may."""
    reading = Reading()
    list(reading.feed(HEADER + b"\xc6\xff\xff\xff\xff"))
    list(reading.feed(bytes(2 * RECORD_BYTES - 100)))
    with pytest.raises(CaptureUnreadable):
        list(reading.feed(bytes(200)))


def test_an_answer_that_was_never_asked_for_is_no_input() -> None:
    """A capture that does not fit itself is refused."""
    with pytest.raises(CaptureUnreadable, match="request 7 is answered that was never asked"):
        replayed(HEADER + write_record(1.0, RecordKind.FAILED, 7, None, "x"))


@given(st.binary(max_size=300))
def test_any_bytes_after_a_header_cost_a_typed_error_at_most(raw: bytes) -> None:
    """Hostile bytes end as CaptureUnreadable or as too little to be a record."""
    reading = Reading()
    with contextlib.suppress(CaptureUnreadable):
        list(reading.feed(HEADER + raw))
    assert reading.position <= len(HEADER + raw)


def test_the_largest_message_fits_a_record() -> None:
    """A message at the contract's limit can be captured and read."""
    body = bytes(RECORD_BYTES - (64 << 10))
    host = str(HostId("h" * 63))
    found = list(Reading().feed(HEADER + write_record(1.0, RecordKind.RECEIVE, "vmpulse.runtime", host, host, body)))
    assert found[1] == Record(1.0, RecordKind.RECEIVE, ("vmpulse.runtime", host, host, body))
