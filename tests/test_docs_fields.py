"""The page docs/fields.md has every field that travels of VMs and hosts, as the code has it.

Renew the tables from the repository's root by

    python -c "from tests.test_docs_fields import renew; renew()"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct, inspect

from vmpulse_agent.libvirt_edge import stats
from vmpulse_agent.settings import LONGEST_SPAN_S
from vmpulse_contract import columns, devices, fields, roster_change, sections, stream, verbs
from vmpulse_contract.field_rows import GROUPS
from vmpulse_contract.fields import FIELDS, Field

PAGE: Final = Path(__file__).parents[1] / "docs" / "fields.md"
BEGIN: Final = "<!-- fields -->\n\n"
END: Final = "\n\n<!-- end of fields -->"
ENVELOPES: Final[set[type[Struct]]] = {
    stream.Frame,
    stream.RosterMessage,
    roster_change.RosterChangeMessage,
    roster_change.RosterChange,  # its rows are those of a roster
    stream.ChangeEvent,
    stream.Goodbye,
    columns.Sparse,
    devices.DeviceMessage,
    devices.DeviceRecord,
    verbs.Request,
    verbs.Failure,
    verbs.SectionRecord,
    *verbs.REPLIES.values(),
}
"""What carries fields of VMs and hosts and has, itself, only those of the protocol: docs/contract.md tells them."""


def rendered() -> str:
    """All fields as Markdown tables, one for each group."""
    carried = {group.name: group.carried for group in GROUPS} | {"config": "`getConfig`; its hash in change events"}
    parts = []
    for name, rows in groupby(FIELDS, key=lambda field: field.group):
        lines = [f"### {name}", "", f"In {carried[name]}.", "", "| field | type | unit | source | absent | allowed |"]
        parts.append("\n".join([*lines, "|---|---|---|---|---|---|", *map(_row, rows)]))
    return "\n\n".join(parts)


def _row(field: Field) -> str:
    cells = (f"`{field.name}`", field.type, field.unit, field.source, field.absent, field.allowed)
    return f"| {' | '.join(cells)} |"


def renew() -> None:
    """Write the tables into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{rendered()}{END}{rest.split(END)[1]}", encoding="utf-8")


def test_the_page_is_current() -> None:
    """The page's tables are the code's."""
    assert PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0] == rendered()


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    """A field that is added to a Struct, or taken away, is added to its group, or taken away."""
    assert fields.unmatched() == []


def test_every_struct_that_travels_has_a_group() -> None:
    """Whatever a message can carry is a group of fields, or an envelope that only the protocol reads."""
    roots = {*ENVELOPES, sections.Info, sections.Status, sections.GuestDetails}
    travelling = {kind for root in roots for kind in _structs(inspect.type_info(root))}
    assert travelling - ENVELOPES == {group.kind for group in GROUPS}


def _structs(info: inspect.Type) -> Iterator[type[Struct]]:
    """The Structs that a type is made of, itself among them."""
    match info:
        case inspect.StructType(cls=kind, fields=parts):
            yield kind
            for part in parts:
                yield from _structs(part.type)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _structs(one)
        case inspect.VarTupleType(item_type=item):
            yield from _structs(item)
        case inspect.DictType(value_type=value):
            yield from _structs(value)
        case inspect.Metadata(type=within):
            yield from _structs(within)


def test_columns_of_frames_are_fields_of_runtime() -> None:
    """What a frame carries of VMs has the names of the runtime stats, so its columns need no rows of their own."""
    runtime = {field.attribute for field in FIELDS if field.group == "runtime"}
    protocol = {"version", "epoch", "seq", "layout", "count", "digest", "monotonic_ms", "host_stats"}
    assert set(stream.Frame.__struct_fields__) - protocol <= runtime


def test_rows_are_plain_cells() -> None:
    """Each field says where it comes from and when it is absent, and nothing in it breaks the table."""
    for field in FIELDS:
        assert field.type, field
        assert field.source, field
        assert field.absent, field
        assert not re.search(r"[|\n]", "".join(map(str, field[2:7]))), field


def test_sources_are_asked() -> None:
    """Each statistic that a source names is one that the agent reads by this name."""
    edge = Path(stats.__file__).parent
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(edge.glob("*.py")))
    named = {
        name for field in FIELDS for name in re.findall(r"`((?:balloon|block|net|cpu|state)\.[^`]+)`", field.source)
    }
    assert len(named) >= 30
    for name in named:
        read = name.replace("block.<n>.", "{prefix}.").replace("net.<n>.", "{prefix}.")
        assert f'"{read}"' in code or f'"{name.rpartition(".")[2]}"' in code, name


def test_the_page_names_the_limits_of_the_code() -> None:
    """Numbers in the page's words are the code's."""
    page = PAGE.read_text(encoding="utf-8")
    assert f"at most {LONGEST_SPAN_S:.0f} s apart" in page
    assert f"over {stats.BALLOON_OLD_S} s old" in page


@pytest.mark.parametrize("kind", [verbs.DiskStats, verbs.NetworkStats, verbs.MemoryStats])
def test_every_rate_has_its_extremes(kind: type[Struct]) -> None:
    """A rate, whose mean hides peaks, never travels alone; the wire's names are those of the rule."""
    names = kind.__struct_fields__
    wire = dict(zip(names, kind.__struct_encode_fields__, strict=True))
    rates = [name for name in names if f"{name}_min" in names]
    assert rates
    ends = ("_min", "_max") if kind is verbs.MemoryStats else ("Min", "Max")
    for name in rates:
        assert (wire[f"{name}_min"], wire[f"{name}_max"]) == (wire[name] + ends[0], wire[name] + ends[1])
    assert all(name in rates for name in names if name.endswith(("_rate", "_latency")))
