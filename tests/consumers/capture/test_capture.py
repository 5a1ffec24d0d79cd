"""A capture rebuilds the view that it was taken of, whatever happened."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.consumers.capture.histories import captured, eventful, recording, replayed
from vmpulse_consumers.capture.file import CaptureFile, read_capture
from vmpulse_consumers.capture.records import TOO_LONG_BYTES, Header, RecordKind, write_record
from vmpulse_consumers.errors import CaptureUnreadable, CaptureUnwritable
from vmpulse_consumers.view.rows import fleet_row, host_row, vm_row
from vmpulse_contract import limits, verbs
from vmpulse_contract.errors import HostDidNotAnswer, MessageTooBig, MistypedMessage
from vmpulse_contract.identity import HostId

TOO_LONG = limits.MESSAGE_BYTES.maximum + 1


@pytest.mark.parametrize("seed", range(8))
def test_a_capture_rebuilds_the_view(seed: int) -> None:
    """Every row of VMs, hosts and the fleet is what the captured view says, and the digest agrees."""
    table, records = eventful(seed)
    replay = replayed(b"".join(records))
    assert (replay.same, replay.at, replay.faults, replay.applied) == (True, table.now, [], len(records) - 1)
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
    table, view = recording()
    table.deliver()
    (request,) = view.drain_requests(table.now)
    view.drain_records()
    view.tick(table.now + 60)
    assert len(view.drain_records()) == 1
    view.request_failed(request, HostDidNotAnswer("late"), table.now + 61)
    assert len(view.drain_records()) == 1


def test_an_answer_that_did_not_fit_is_replayed() -> None:
    """The view refuses it, the question is put off, and the capture goes on past both."""
    table, view = recording()
    table.deliver()
    (request,) = view.drain_requests(table.now)
    reply = verbs.read_reply(request.verb, table.host.answer(request, table.now))
    with pytest.raises(MistypedMessage):
        view.replied(request, msgspec.structs.replace(reply, as_of=1 << 63), table.now)
    view.request_failed(request, MistypedMessage("it did not fit"), table.now)
    for _ in range(3):
        table.step()
    table.assert_equal()
    replay = replayed(captured(view, table.now))
    assert (replay.same, replay.faults) == (True, [])


def test_a_failure_that_comes_after_its_question_was_given_up_is_replayed() -> None:
    """A machine that was suspended gives up its questions, asks anew, and only then hears of the old ones."""
    table, view = recording()
    table.deliver()
    (old,) = view.drain_requests(table.now)
    table.now += 60
    view.canary(table.now)
    for _ in range(2):
        view.tick(table.now)
        table.now += 5
    table.host.tick(table.now)
    table.deliver()
    assert [request.number for request in view.drain_requests(table.now)] != [old.number]
    view.request_failed(old, HostDidNotAnswer("much later"), table.now)
    for _ in range(15):
        table.step()
    replay = replayed(captured(view, table.now))
    assert (replay.same, replay.faults) == (True, [])


@pytest.mark.parametrize(
    "exchange,rest",
    [("vmpulse.runtime", ""), ("vmpulse.runtime", ".roster"), ("vmpulse.changes", ".info"), ("vmpulse.devices", "")],
)
def test_a_message_that_is_too_long_is_replayed_by_its_length(exchange: str, rest: str) -> None:
    """It is refused unread, costs its host's budget, and takes no room in the capture."""
    table, view = recording()
    table.step()
    host = table.host.id
    for size in (TOO_LONG, 20 * TOO_LONG, 30 * TOO_LONG, 30 * TOO_LONG, TOO_LONG_BYTES + 1):
        with contextlib.suppress(MessageTooBig):
            view.receive(exchange, f"{host}{rest}", host, bytes(size), table.now)
    table.step()
    raw = captured(view, table.now)
    assert view.counts.rejected["oversized"] > 0 < view.counts.over_budget
    assert len(raw) < 100_000
    replay = replayed(raw)
    assert (replay.same, replay.faults) == (True, [])
    assert vars(replay.view.counts) == vars(view.counts)


def test_an_answer_that_is_too_long_to_be_written_down_is_refused() -> None:
    """The view that records treats it as none, so the replay comes to the same."""
    table, view = recording()
    table.deliver()
    (request,) = view.drain_requests(table.now)
    reply = verbs.read_reply(request.verb, table.host.answer(request, table.now))
    assert isinstance(reply, verbs.RosterReply)
    assert reply.roster is not None
    facts = msgspec.structs.replace(reply.roster.facts, fqdn="x" * TOO_LONG)
    roster = msgspec.structs.replace(reply.roster, facts=facts)
    with pytest.raises(MessageTooBig) as refused:
        view.replied(request, msgspec.structs.replace(reply, roster=roster), table.now)
    view.request_failed(request, refused.value, table.now)
    for _ in range(3):
        table.step()
    table.assert_equal()
    assert replayed(captured(view, table.now)).same is True


def test_a_host_that_nobody_knows_is_forgotten_by_no_record() -> None:
    """The view refuses it, and it changes nothing."""
    table, view = recording()
    with pytest.raises(KeyError):
        view.forget(HostId("nobody"), table.now)
    assert replayed(captured(view, table.now)).same is True


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    """It has mode 0600, and one that is there is refused with the remedy."""
    path = tmp_path / "a.capture"
    with CaptureFile(path, Header("vmpulse test", 1.0)) as file:
        file.write([write_record(2.0, RecordKind.TICK)])
    assert path.stat().st_mode & 0o777 == 0o600
    header, record = read_capture(path)
    assert header == Header("vmpulse test", 1.0)
    assert record[:3] == (2.0, RecordKind.TICK, ())
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


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process become larger: what it writes beyond that fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_nothing_follows_a_record_that_was_half_written(tmp_path: Path) -> None:
    """The error says so with the remedy, again and again; what came before is read, though there is room again."""
    path = tmp_path / "full.capture"
    records = [write_record(float(at), RecordKind.TICK) for at in range(100)]
    with CaptureFile(path, Header("vmpulse test", 0.0)) as file:
        with (
            file_size_limit(500),
            pytest.raises(CaptureUnwritable, match=r"full\.capture cannot be written: .*make room"),
        ):
            file.write(records)
        with pytest.raises(CaptureUnwritable, match=r"`vmpulse replay .*full\.capture` reads what it has"):
            file.write(records)
    assert path.stat().st_size == 500 == file.bytes
    read = list(read_capture(path))[1:]
    assert 0 < len(read) < 100
    assert [record.at for record in read if not isinstance(record, Header)] == [float(at) for at in range(len(read))]


def test_a_capture_that_cannot_be_begun_leaves_no_file(tmp_path: Path) -> None:
    """Not even its header could be written, and the name is free for the next attempt."""
    path = tmp_path / "full.capture"
    with file_size_limit(5), pytest.raises(CaptureUnwritable, match=r"make room or name a file elsewhere$"):
        CaptureFile(path, Header("vmpulse test", 0.0))
    assert not path.exists()
