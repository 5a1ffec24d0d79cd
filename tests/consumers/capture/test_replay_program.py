"""``vmpulse replay`` as its users run it, and what the command lines of captures allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from tests.consumers.capture.histories import eventful
from tests.real_broker import ended
from vmpulse_consumers.capture.file import read_capture
from vmpulse_consumers.capture.records import Header, Record

PROGRAM: Final = "vmpulse_consumers"
UNLISTED: Final = "123e4567-e89b-12d3-a456-426614174000"
_, EVENTFUL = eventful(2)


@pytest.fixture
def eventful_capture(tmp_path: Path) -> Path:
    """The capture of an eventful history."""
    path = tmp_path / "eventful.capture"
    path.write_bytes(b"".join(EVENTFUL))
    return path


@pytest.mark.parametrize("seed", ["0", "7"])
async def test_every_process_rebuilds_the_same(eventful_capture: Path, seed: str) -> None:
    """However Python salts its hashes, the state is the captured one; and it is said of how many records."""
    done = await ended(PROGRAM, "replay", str(eventful_capture), PYTHONHASHSEED=seed)
    assert done.code == 0
    assert done.lines[-1].startswith(f"{len(EVENTFUL) - 1:,} records applied: ")
    assert done.lines[-1].endswith("and this is the captured view")


async def test_one_host_or_one_vm_is_shown(eventful_capture: Path) -> None:
    """--host shows a host and the VMs that it lists, --vm a VM and the hosts that list it, as JSON and as tables."""
    everything = await shown_of(eventful_capture)
    host = everything["hosts"][0]
    of_host = await shown_of(eventful_capture, "--host", host["host"].upper())
    assert of_host["hosts"] == [host]
    assert of_host["fleet"] == everything["fleet"]
    assert of_host["vms"] == [
        vm for vm in everything["vms"] if host["host"] in {claim["host"] for claim in vm["claims"]}
    ]
    vm = of_host["vms"][0]
    of_vm = await shown_of(eventful_capture, "--vm", vm["id"].upper())
    assert of_vm["vms"] == [vm]
    assert {shown["host"] for shown in of_vm["hosts"]} == {claim["host"] for claim in vm["claims"]}
    tables = await ended(PROGRAM, "replay", str(eventful_capture), "--vm", vm["id"])
    assert vm["id"] in tables.out
    assert everything["vms"][-1]["id"] not in tables.out


async def shown_of(path: Path, *arguments: str) -> dict[str, Any]:
    """What ``replay --json`` gives."""
    done = await ended(PROGRAM, "replay", str(path), "--json", *arguments)
    assert done.code == 0, done.err
    shown: dict[str, Any] = json.loads(done.out)
    return shown


async def test_a_damaged_capture_is_shown_up_to_the_damage(eventful_capture: Path) -> None:
    """The exit code is 1, and stderr tells the record and its offset, with nothing in it that steers a terminal."""
    whole = b"".join(EVENTFUL[:-1])
    eventful_capture.write_bytes(whole + msgpack.packb((1e9, "replied", 1, "\x1b[2J\n", b"")))
    done = await ended(PROGRAM, "replay", str(eventful_capture))
    assert (done.code, len(done.lines)) == (1, 2)
    assert done.lines[0].startswith(f"record {len(EVENTFUL) - 1} at byte {len(whole)} is none: ")
    assert done.lines[0].endswith("; what came before is shown")
    assert done.lines[1].startswith(f"{len(EVENTFUL) - 2:,} records applied: ")
    assert "\x1b" not in done.err
    assert "host-0" in done.out


@pytest.mark.parametrize("until", [0.0, 10.0, 1e9])
async def test_a_part_of_a_capture_is_replayed(eventful_capture: Path, until: float) -> None:
    """--until gives the view as it was then, and claims nothing of the end; beyond the end it leaves nothing out."""
    header, *records = read_capture(eventful_capture)
    assert isinstance(header, Header)
    applied = sum(1 for record in records if isinstance(record, Record) and record.at - header.began <= until)
    done = await ended(PROGRAM, "replay", str(eventful_capture), "--until", str(until))
    assert done.code == 0
    assert done.lines[-1].startswith(f"{applied:,} records applied: ")
    assert ("and this is the captured view" in done.lines[-1]) is (applied == len(records))


@pytest.mark.parametrize(
    "arguments,words,code",
    [
        (("watch", "--raw", "{there}"), "is there already; name a file that is not", 1),
        (("watch", "--raw", "x", "--type", "vm.gone"), "nothing beside --raw", 2),
        (("watch", "--raw", "x", "--seconds", "0"), "'0' is no number of seconds; allowed: more than 0", 2),
        (("watch", "--raw", "x", "--seconds", "-1"), "'-1' is no number of seconds", 2),
        (("watch", "--raw", "x", "--seconds", "nan"), "'nan' is no number of seconds", 2),
        (("watch", "--raw", "x", "--seconds", "inf"), "'inf' is no number of seconds", 2),
        (("watch", "--raw", "x", "--seconds", "soon"), "'soon' is no number of seconds", 2),
        (("watch", "--seconds", "1"), "setting --seconds: 1.0 is not allowed; allowed: nothing without --raw FILE", 2),
        (("watch", "--broker-url", "amqp://a.b@c/"), "nothing without --raw FILE", 2),
        (("watch", "--config", "x"), "nothing without --raw FILE", 2),
        (("replay", "{missing}"), "cannot be read", 1),
        (("replay", "{there}"), "it is no capture", 1),
        (("replay", "{there}", "--until", "inf"), "'inf' is no number of seconds; allowed: 0 or more", 2),
        (("replay", "{there}", "--until", "nan"), "'nan' is no number of seconds", 2),
        (("replay", "{there}", "--until", "-1"), "'-1' is no number of seconds", 2),
        (("replay", "{there}", "--vm", "a"), "VM id 'a' is not allowed; allowed: a UUID", 2),
        (("replay", "{there}", "--vm", UNLISTED, "--host", "b"), "not allowed with", 2),
        (("replay", "{eventful}", "--vm", UNLISTED), f"no host lists the VM {UNLISTED}", 1),
        (("replay", "{eventful}", "--host", "h9"), "there is no host 'h9'; `vmpulse replay FILE` shows the ids", 1),
    ],
)
async def test_what_cannot_be_done_is_said_with_the_remedy(
    tmp_path: Path, eventful_capture: Path, arguments: tuple[str, ...], words: str, code: int
) -> None:
    """The last line on stderr says what is wrong and what to do, with the exit code that goes with it."""
    there = tmp_path / "there"
    there.write_bytes(b"\x01")
    places = {"there": str(there), "missing": str(tmp_path / "missing"), "eventful": str(eventful_capture)}
    done = await ended(PROGRAM, *(argument.format(**places) for argument in arguments))
    assert (words in done.lines[-1], done.code) == (True, code), done.err
