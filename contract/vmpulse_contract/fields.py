"""Every field that travels of VMs and hosts: what it is, where it comes from, when it is absent.

Names, types and enumerated values are read off the Structs; ``field_rows`` has the rest. docs/fields.md is made of
this.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct, inspect, structs

from vmpulse_contract.field_rows import CONFIG, GROUPS, Group, Row
from vmpulse_contract.values import VmStatus

Kind: TypeAlias = type[Struct]


class Field(NamedTuple):
    """One field.

    ``name`` is its name on the wire; where a message is an array, the name that readers of ``vmpulse call`` see.
    ``kind`` and ``attribute`` are the Struct and its Python name for it; of ``config`` there is no Struct.
    """

    group: str
    name: str
    type: str
    unit: str
    source: str
    absent: str
    allowed: str
    kind: Kind | None = None
    attribute: str = ""


_INFOS: Final = {group.kind: {field.name: field for field in structs.fields(group.kind)} for group in GROUPS}


def _field(group: Group, attribute: str, row: Row) -> Field:
    info = _INFOS[group.kind][attribute]
    array: bool = group.kind.__struct_config__.array_like
    name, kind = _camel(attribute) if array else info.encode_name, inspect.type_info(info.type)
    allowed = row.allowed or _allowed(kind)
    return Field(group.name, name, _shown(kind), row.unit, row.source, row.absent, allowed, group.kind, attribute)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_NAMES: Final[dict[type[inspect.Type], str]] = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "text",
    inspect.BoolType: "boolean",
    inspect.BytesType: "bytes",
    inspect.StructType: "map",
}


def _shown(info: inspect.Type) -> str:
    """A type in words; that a field may be absent is said elsewhere."""
    match info:
        case inspect.Metadata():
            return _shown(info.type)
        case inspect.UnionType():
            return " or ".join(_shown(part) for part in info.types if not isinstance(part, inspect.NoneType))
        case inspect.EnumType():
            return "integer" if issubclass(info.cls, IntEnum) else "text"
        case inspect.VarTupleType():
            return f"array of {_shown(info.item_type)}s"
        case inspect.DictType():
            return f"map of {_shown(info.value_type)}s by {_shown(info.key_type)}"
        case _:
            return _NAMES[type(info)]


def _allowed(info: inspect.Type) -> str:
    """What the type itself says of values: the members of an enumeration, the bounds of a number."""
    match info:
        case inspect.Metadata():
            return _allowed(info.type)
        case inspect.UnionType():
            return "".join(_allowed(part) for part in info.types)
        case inspect.EnumType():
            return ", ".join(_member(member) for member in info.cls)
        case inspect.IntType(ge=int() as least, le=int() as most):
            return f"{least} to {most}"
        case inspect.IntType(ge=int() as least) | inspect.FloatType(ge=(int() | float()) as least):
            return f"{least:g} or more"
        case _:
            return ""


def _member(member: Enum) -> str:
    if isinstance(member, VmStatus):
        return f"{member.value} {member.label}"
    return f"{member.value} {member.name}" if isinstance(member, int) else str(member.value)


def _all() -> tuple[Field, ...]:
    config = Field("config", "config", "text", CONFIG.unit, CONFIG.source, CONFIG.absent, CONFIG.allowed)
    rows = [_field(group, attribute, row) for group in GROUPS for attribute, row in group.rows.items()]
    return (*rows, config)


FIELDS: Final = _all()
"""All fields, group by group, in the order of their Structs' rows."""


def unmatched() -> list[str]:
    """Name each field of a group's Struct without a row, and each row without such a field."""
    return [
        f"{group.name}: {name}" for group in GROUPS for name in sorted(_INFOS[group.kind].keys() ^ group.rows.keys())
    ]
