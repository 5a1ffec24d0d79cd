"""The page docs/contract.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import pytest
import xxhash

from tests.contract import golden_messages as golden
from tests.contract.test_golden import GOLDEN
from vmpulse_contract import errors, limits, sections, topology, verbs, wire
from vmpulse_contract.devices import DeviceMessage
from vmpulse_contract.identity import HostId
from vmpulse_contract.roster_change import RosterChange
from vmpulse_contract.sections import Section
from vmpulse_contract.stream import Frame, HostFacts, HostValues
from vmpulse_contract.values import STATUS_LABELS, VmStatus
from vmpulse_contract.verbs import Verb

PAGE: Final = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


def _bytes(name: str) -> bytes:
    """The bytes of the indented block under a mark."""
    found = re.search(rf"<!-- {name} -->\n\n((?:    [0-9a-f ]+\n)+)", PAGE)
    assert found is not None
    return bytes.fromhex(found[1])


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a text."""
    table = PAGE.split(heading, 1)[1].split("\n|", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.split("\n")[2:]]


def test_limits() -> None:
    """The table of limits is the code's."""
    shown = [(name, int(value.replace(",", "")), why) for name, value, why in _rows("\n## Limits")]
    assert shown == [tuple(limit) for limit in limits.TABLE]


def test_version() -> None:
    """The page speaks of the version that the code speaks."""
    assert f"Version: {wire.VERSION}." in PAGE


@pytest.mark.parametrize("name", ["change", "frame"])
def test_example_bytes(name: str) -> None:
    """The bytes of the worked example are those of the golden files."""
    assert _bytes(name) == (GOLDEN / f"{name}.bin").read_bytes()


def test_worked_hash() -> None:
    """The example's hash is that of the schema number and the last 60 bytes of the change event."""
    body = _bytes("change")[-60:]
    assert body == golden.STATUS_BODY
    assert body[:2].hex(" ") == "83 a8"
    hashed = xxhash.xxh3_64_hexdigest(b"\x01\x00" + body)
    assert hashed == f"{golden.STATUS_HASH:016x}"
    assert f"`{hashed}`" in PAGE
    assert bytes.fromhex("02 cf") + bytes.fromhex(hashed) in _bytes("change")


def test_worked_digest() -> None:
    """The example's digest is that of the bytes shown, of the golden roster and in the golden frame."""
    digest = xxhash.xxh3_64_hexdigest(_bytes("digest"))
    assert digest == f"{golden.DIGEST:016x}" == f"{golden.FRAME.digest:016x}"
    assert f"`{digest}`" in PAGE
    assert f"`{golden.INFO_HASH:016x}`" in PAGE
    assert bytes.fromhex(digest) in _bytes("frame")


def test_frame_fields() -> None:
    """The fields of a frame stand in the order of the code."""
    listed = [name for _, names, _ in _rows("### Frame") for name in names.split(", ")]
    renamed = [name.replace("_", "") for name in Frame.__struct_fields__[3:]]
    assert [name.lower() for name in listed] == renamed


def test_host_values() -> None:
    """The values of a host that a frame carries are listed in the order of the code."""
    (row,) = [row for row in _rows("### Frame") if row[1] == "hostStats"]
    listed = re.search(r"\[(.*?)\]", row[2])
    assert listed is not None
    assert listed[1].lower().split(", ") == [name.replace("_", "") for name in HostValues.__struct_fields__]


def test_roster_change_fields() -> None:
    """The fields of a difference stand in the order of the code."""
    listed = [row[1].lower() for row in _rows("### Roster change")]
    assert listed == [name.replace("_", "") for name in RosterChange.__struct_fields__]


def test_device_fields() -> None:
    """The fields of device statistics stand in the order of the code."""
    listed = [row[1].lower() for row in _rows("## Device statistics")]
    assert listed == [name.replace("_", "") for name in DeviceMessage.__struct_fields__]


def test_addresses() -> None:
    """Every exchange is listed, and no other; the stream's keys are the code's."""
    rows = _rows("## Exchanges and keys")
    assert {row[0] for row in rows} == set(topology.EXCHANGES)
    shown = PAGE.replace("<host>", "h1")
    host = HostId("h1")
    keys = (topology.roster_key(host), topology.roster_change_key(host), topology.goodbye_key(host))
    for key in (*keys, topology.change_key(host, Section.INFO)):
        assert f"`{key}`" in shown


def test_kinds_and_statuses() -> None:
    """Every kind of message and every status is named with its number."""
    assert all(f"`{kind}`" in PAGE for kind in topology.Kind)
    flat = PAGE.replace("\n", " ")
    known = [status for status in VmStatus if status is not VmStatus.UNKNOWN]
    assert ", ".join(f"{int(status)} {STATUS_LABELS[status]}" for status in known) in flat


@pytest.mark.parametrize("section", sections.BODIED)
def test_section_fields(section: Section) -> None:
    """The fields of each section are listed by the names that travel."""
    found = re.search(rf"\n- {section.label}: (.*?)\n(?=[-\n])", PAGE, re.DOTALL)
    assert found is not None
    names = {field.encode_name for field in msgspec.structs.fields(sections._TYPES[section])}
    assert names <= set(re.findall(r"`(\w+)`", found[1]))


def test_facts() -> None:
    """Every fact of a host is listed."""
    assert all(f"`{field.encode_name}`" in PAGE for field in msgspec.structs.fields(HostFacts))


def test_verbs() -> None:
    """Every verb is listed with the fields of its reply, and no other."""
    rows = _rows("## Verbs")
    assert [row[0] for row in rows] == [verb.value for verb in Verb]
    common = {field.encode_name for field in msgspec.structs.fields(verbs.Reply)}
    for verb, shown in rows:
        own = {field.encode_name for field in msgspec.structs.fields(verbs.REPLIES[Verb(verb)])} - common
        assert shown.startswith("the same") or all(name in shown for name in own)


def test_error_codes() -> None:
    """Every error code is listed, and no other."""
    assert [row[0] for row in _rows("of seq and asOf wins.")] == list(errors.VERB_ERRORS)
