"""Settings: one frozen Struct, filled from a TOML table, then the environment, then flags.

A pure function: whoever calls it has read the file, the environment and the command line. Each field of the Struct is a
setting; its help text is the field's ``Meta(description=...)``, and its allowed values are its type.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, TypeVar, get_type_hints

import msgspec
from msgspec import Struct

from vmpulse_contract.errors import SettingsError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

S = TypeVar("S", bound=Struct)


def fill(
    kind: type[S],
    *,
    table: Mapping[str, object],
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    prefix: str,
) -> S:
    """Build the settings. Later sources win: *table* < *environment* < *flags*.

    Args:
        kind: the settings' Struct.
        table: the parsed TOML file; its keys are the field names.
        environment: the process's environment; the setting ``broker_url`` is read from ``<prefix>BROKER_URL``.
        flags: parsed flags; those that were not given are absent or None.
        prefix: such as ``VMPULSE_AGENT_``.

    Raises:
        SettingsError: names the setting, the value and what is allowed.
    """
    names = kind.__struct_fields__
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise SettingsError(unknown[0], table[unknown[0]], f"a setting named one of {', '.join(names)}")
    values: dict[str, object] = {name: _convert(kind, name, table[name], name) for name in names if name in table}
    for name in names:
        variable = prefix + name.upper()
        if variable in environment:
            values[name] = _convert(kind, name, environment[variable], variable)
        if flags.get(name) is not None:
            values[name] = _convert(kind, name, flags[name], "--" + name.replace("_", "-"))
    return _build(kind, values)


def _convert(kind: type[Struct], name: str, value: object, shown: str) -> object:
    hint = get_type_hints(kind, include_extras=True)[name]
    try:
        # Texts of the environment and of flags are read as numbers or booleans where the type asks for these.
        converted = msgspec.convert(_parse_pairs(hint, value), hint, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise SettingsError(shown, value, allowed_values(kind, name, str(error))) from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise SettingsError(shown, value, allowed_values(kind, name, "a finite number"))
    return converted


def _parse_pairs(hint: object, value: object) -> object:
    """Read ``a=b,c=d`` where a table is wanted, so that labels can be given in one variable."""
    if not isinstance(value, str) or "dict" not in str(hint):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    parsed = {key.strip(): text.strip() for key, equals, text in pairs if equals and key.strip()}
    if len(parsed) != len(pairs):
        msg = "pairs such as cluster=blue,zone=3, each name once"
        raise msgspec.ValidationError(msg)
    return parsed


def allowed_values(kind: type[Struct], name: str, otherwise: str) -> str:
    """Say in words what a setting accepts: its own ``extra={"allowed": ...}``, or else the type's complaint."""
    for field in msgspec.structs.fields(kind):
        if field.name == name:
            info = msgspec.inspect.type_info(field.type)
            extra = getattr(info, "extra", None) or {}
            return str(extra.get("allowed", _members(info) or otherwise))
    return otherwise


def _members(info: msgspec.inspect.Type) -> str:
    """List the members of an enumeration; empty for any other type."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _members(info.type)
    return ", ".join(str(member.value) for member in info.cls) if isinstance(info, msgspec.inspect.EnumType) else ""


def _build(kind: type[S], values: Mapping[str, object]) -> S:
    try:
        return kind(**values)
    except TypeError as error:
        missing = next((f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in values), "?")
        raise SettingsError(missing, None, "a value: this setting has no default") from error


def add_flags(parser: argparse._ActionsContainer, kind: type[Struct], prefix: str) -> None:
    """Give *parser* a flag for each setting, and --config for the TOML file. *prefix* is that of the environment."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file with settings; the environment and flags win over it"
    )
    for name, default, text in describe(kind):
        shown = f"{text} (default {default}; environment {prefix}{name.upper()})"
        parser.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=shown.replace("%", "%%"))


def describe(kind: type[Struct]) -> list[tuple[str, str, str]]:
    """List the settings as (name, default, help), in order, for --help and the documentation."""
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else _default_text(field)
        info = msgspec.inspect.type_info(field.type)
        schema = getattr(info, "extra_json_schema", None) or {}
        rows.append((field.name, default, str(schema.get("description", ""))))
    return rows


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    """Write a default as a user would; "none" where it is empty."""
    made = field.default_factory is not msgspec.NODEFAULT
    value = field.default_factory() if made else field.default
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Enum) else value or "none")
