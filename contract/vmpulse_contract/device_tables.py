"""Device statistics as columns: what of the Structs of ``verbs`` is a column, and what is a table of them.

All of it is read off the Structs: a field of a number, boolean or text is a column; a Struct of its own, or an array or
a map of such, is a table. Columns stand in the order of fields, so a new field goes to the end of its Struct: readers
that do not know it pass it over, and what an older sender does not say is unknown.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from msgspec import Struct, defstruct, inspect, structs

from vmpulse_contract import columns, text_columns
from vmpulse_contract.columns import Column
from vmpulse_contract.text_columns import Texts
from vmpulse_contract.verbs import DeviceStats

if TYPE_CHECKING:
    from collections.abc import Sequence

Value: TypeAlias = Any
"""A field's value: None, a number, a boolean or a text."""


class Part(NamedTuple):
    """A field that is a column. Of ``kind`` float, values are told as whole numbers of ``scale`` parts."""

    name: str
    kind: type[bool | int | float | str]
    required: bool
    scale: int = 1

    @property
    def is_text(self) -> bool:
        """Whether it is a column of texts, and not of integers."""
        return self.kind is str

    def pack(self, values: list[Value]) -> Column | Texts:
        """Write the column. Raises ValueError or OverflowError for a value that no column holds."""
        if self.kind is str:
            return text_columns.pack(values)
        if self.kind is float:
            return columns.pack([None if value is None else round(value * self.scale) for value in values])
        return columns.pack([None if value is None else int(value) for value in values])

    def unpack(self, column: Any, count: int, first: int, end: int) -> list[Value]:
        """Read the values from *first* to before *end* of a column that was checked."""
        if self.kind is str:
            return list(text_columns.unpack_some(column, first, end))
        whole = columns.unpack_some(column, count, first, end)
        if self.kind is int:
            return whole
        if self.kind is bool:
            return [None if value is None else bool(value) for value in whole]
        return [None if value is None else value / self.scale for value in whole]


class Many(Enum):
    """How many rows a VM has in a table: one at most, an array of them, or a map, whose keys are a column as well."""

    ONE = "one"
    ARRAY = "array"
    MAP = "map"


class Table(NamedTuple):
    """A field that is a table of *row* Structs.

    ``wire`` is its shape on the wire: ``counts`` (rows of each VM, in order; unknown: the field is absent), of maps
    ``names``, and then a column for each of ``parts``.
    """

    name: str
    many: Many
    row: type[Struct]
    parts: tuple[Part, ...]
    wire: type[Struct]


def _without_none(info: inspect.Type) -> inspect.Type:
    if isinstance(info, inspect.UnionType):
        (info,) = (one for one in info.types if not isinstance(one, inspect.NoneType))
    return info


_KINDS: Final[dict[type[inspect.Type], type[bool | int | float | str]]] = {
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
}


def _part(field: inspect.Field) -> Part:
    info, scale = _without_none(field.type), 1
    if isinstance(info, inspect.Metadata):
        scale, info = (info.extra or {}).get("scale", 1), info.type
    return Part(field.name, _KINDS[type(info)], field.required, scale)


def _entry(field: inspect.Field) -> Part | Table:
    """What a field of DeviceStats is."""
    info, many = _without_none(field.type), Many.ONE
    if isinstance(info, inspect.VarTupleType):
        info, many = info.item_type, Many.ARRAY
    elif isinstance(info, inspect.DictType):
        info, many = info.value_type, Many.MAP
    if not isinstance(info, inspect.StructType):
        return _part(field)
    parts = tuple(map(_part, info.fields))
    return Table(field.name, many, info.cls, parts, _wire(info.cls.__name__, many, parts))


def _wire(name: str, many: Many, parts: tuple[Part, ...]) -> type[Struct]:
    heads = [("counts", Column), *([("names", Texts)] if many is Many.MAP else [])]
    fields = [(f"of_{part.name}", Texts if part.is_text else Column, None) for part in parts]
    return defstruct(f"{name}Columns", [*heads, *fields], array_like=True, frozen=True, gc=False)


def _entries() -> tuple[Part | Table, ...]:
    info = inspect.type_info(DeviceStats)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - for mypy
    return tuple(map(_entry, info.fields))


ENTRIES: Final = _entries()
"""The fields of DeviceStats, in their order."""


def values_of(table: Table, stats: DeviceStats) -> tuple[int | None, list[str], list[Struct]]:
    """Of one VM: how many rows it has in a table (None: absent), their names if it is a map, and the rows."""
    found = getattr(stats, table.name)
    if found is None:
        return None, [], []
    match table.many:
        case Many.ONE:
            return 1, [], [found]
        case Many.ARRAY:
            return len(found), [], list(found)
        case _:
            return len(found), list(found), list(found.values())


def value_from(table: Table, count: int | None, names: Sequence[str | None], rows: list[Struct]) -> Value:
    """The field of one VM again, of what ``values_of`` told."""
    if count is None or (not count and table.many is Many.ONE):
        return None
    match table.many:
        case Many.ONE:
            return rows[0]
        case Many.ARRAY:
            return tuple(rows)
        case _:
            return dict(zip(names, rows, strict=True))


def rows_from(table: Table, packed: Struct, total: int, first: int, end: int) -> list[Struct]:
    """Read the rows from *first* to before *end* of a table that has *total* and was checked."""
    cells = structs.astuple(packed)[-len(table.parts) :]
    read = [part.unpack(column, total, first, end) for part, column in zip(table.parts, cells, strict=True)]
    names = [part.name for part in table.parts]
    return [table.row(**dict(zip(names, row, strict=True))) for row in zip(*read, strict=True)]
