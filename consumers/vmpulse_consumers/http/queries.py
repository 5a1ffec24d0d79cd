"""Query parameters as Structs: read from the URL, checked field by field, and shown in the OpenAPI description.

Each field is a parameter: its type is what is allowed, its ``Meta`` says it in words. A tuple may be given repeatedly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from msgspec import Meta, Struct

from vmpulse_consumers.http.refusals import Refused, shorten
from vmpulse_consumers.view.rows import Freshness
from vmpulse_consumers.view.states import HostState
from vmpulse_contract import identity
from vmpulse_contract.values import VmStatus

VM_SORTS: Final = ("name", "host", "status", "age", "cpu", "mem", "elapsed", "id")
HOST_SORTS: Final = ("host", "state", "vms", "age", "silent")
STATUSES: Final = {status.label.casefold(): status for status in VmStatus}
OFFSET_MAXIMUM: Final = 1_000_000_000
ROWS_MAXIMUM: Final = 10_000
"""Of a page: 3.3 MB of VMs."""
SECTIONS_MAXIMUM: Final = 1000
"""Of a page of VMs with their sections, each of which may have 64 KiB."""
PARAMETERS_MAXIMUM: Final = 64
TEXT: Final = 256

Q = TypeVar("Q", bound=Struct)


def words(description: str, allowed: str) -> Meta:
    """What a parameter means, and what is allowed as its value."""
    return Meta(description=f"{description} Allowed: {allowed}.", extra={"allowed": allowed})


def _sort_words(sorts: tuple[str, ...], default: str) -> Meta:
    allowed = f"{', '.join(sorts)}; with - in front for descending"
    return words(f"Order; unknown values last. Default: {default}.", allowed)


Text = Annotated[str, Meta(max_length=TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=TEXT)]
VmText = Annotated[str, Meta(pattern=rf"\A(?:{identity.VM_ID.pattern})\Z")]
VM_TEXT_ALLOWED: Final = "a UUID such as 123e4567-e89b-12d3-a456-426614174000"
Label = Annotated[str, Meta(pattern="^[^:]+:", max_length=2 * TEXT)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAXIMUM)]
LABEL: Final = words("Hosts with this label; repeatable, all must hold.", "key:value, such as zone:a")
OFFSET: Final = words("Rows to skip.", f"0 to {OFFSET_MAXIMUM}")


class VmQuery(Struct, frozen=True, kw_only=True):
    """Which VMs, in which order, and how many of them."""

    host: Annotated[Name | None, words("VMs of this host.", "a host's id, FQDN or UUID")] = None
    label: Annotated[tuple[Label, ...], LABEL] = ()
    status: Annotated[
        tuple[str, ...],
        words("VMs of this status, in any case; repeatable.", ", ".join(status.label for status in VmStatus)),
    ] = ()
    freshness: Annotated[
        tuple[Freshness, ...], words("VMs whose values are such; repeatable.", ", ".join(Freshness))
    ] = ()
    split_brain: Annotated[
        bool, words("Whether VMs alone are listed that several hosts say they run.", "true, false")
    ] = False
    text: Annotated[
        Text | None, words("Found in name, id, guest IPs or user, in any case.", f"up to {TEXT} characters")
    ] = None
    sort: Annotated[str, _sort_words(VM_SORTS, "host, then id")] = "host"
    after: Annotated[
        VmText | None,
        words(
            "With sort=id, VMs that come after this one, whether or not it is still there: a list read by pages, each"
            " after the last VM of the one before, misses none that stays.",
            VM_TEXT_ALLOWED,
        ),
    ] = None
    limit: Annotated[
        int,
        Meta(ge=1, le=ROWS_MAXIMUM),
        words("Rows at most; default 100.", f"1 to {ROWS_MAXIMUM}, with sections 1 to {SECTIONS_MAXIMUM}"),
    ] = 100
    offset: Annotated[Offset, OFFSET] = 0
    sections: Annotated[bool, words("Whether rows carry their sections.", "true, false")] = False

    def __post_init__(self) -> None:
        _check_words(self.status, STATUSES)
        _check_sort(self.sort, VM_SORTS)


class HostQuery(Struct, frozen=True, kw_only=True):
    """Which hosts, in which order, and how many of them."""

    state: Annotated[tuple[HostState, ...], words("Hosts in this state; repeatable.", ", ".join(HostState))] = ()
    label: Annotated[tuple[Label, ...], LABEL] = ()
    text: Annotated[Text | None, words("Found in id, FQDN or UUID, in any case.", f"up to {TEXT} characters")] = None
    sort: Annotated[str, _sort_words(HOST_SORTS, "host")] = "host"
    limit: Annotated[int, Meta(ge=1, le=ROWS_MAXIMUM), words("Rows at most; default 100.", f"1 to {ROWS_MAXIMUM}")] = (
        100
    )
    offset: Annotated[Offset, OFFSET] = 0

    def __post_init__(self) -> None:
        _check_sort(self.sort, HOST_SORTS)


def _check_words(given: tuple[str, ...], allowed: dict[str, VmStatus]) -> None:
    for word in given:
        if word.casefold() not in allowed:
            msg = f"{word!r} is not one of them"
            raise ValueError(msg)


def _check_sort(given: str, allowed: tuple[str, ...]) -> None:
    if given.removeprefix("-") not in allowed:
        msg = f"{given!r} is not one of them"
        raise ValueError(msg)


def read(kind: type[Q], query_string: bytes) -> Q:
    """Read the parameters. Raises Refused (400), which names the parameter, its value and what is allowed."""
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for name, text in _pairs(query_string):
        if name not in hints:
            raise Refused(400, f"there is no parameter {shorten(name)}", "query", ", ".join(hints))
        values[name] = _converted(kind, name, _merged(hints[name], name, text, values.get(name)), hints[name])
    return kind(**values)


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAXIMUM
        )
    except ValueError as error:
        allowed = f"up to {PARAMETERS_MAXIMUM} parameters, percent-encoded UTF-8"
        raise Refused(400, "the query cannot be read", "query", allowed) from error


def _merged(hint: object, name: str, text: str, before: object) -> object:
    """A repeatable parameter's values so far with this one; any other may be given once."""
    if isinstance(before, tuple):
        return (*before, text)
    if before is not None:
        raise Refused(400, f"{name} is given twice", f"parameter {name}", "once")
    return (text,) if _repeatable(hint) else text


def _repeatable(hint: object) -> bool:
    return "tuple" in str(hint)


def _converted(kind: type[Struct], name: str, value: object, hint: object) -> object:
    try:
        # The Struct's own check runs on each value alone, so that an error can name the parameter.
        return getattr(msgspec.convert({name: value}, kind, strict=False), name)
    except msgspec.ValidationError as error:
        shown = value[-1] if isinstance(value, tuple) else value
        what = f"{name}={shorten(shown)} is not allowed"
        raise Refused(400, what, f"parameter {name}", _allowed(hint)) from error


def _allowed(hint: Any) -> str:
    return str((hint.__metadata__[-1].extra or {})["allowed"])


def documented(kind: type[Struct]) -> type[Operation]:
    """The OpenAPI operation of a route that reads *kind* from its query."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        Parameter(name, "query", schema=_schema(hint), description=hint.__metadata__[-1].description)
        for name, hint in hints.items()
    ]

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]

    return Documented


def _schema(hint: Any) -> Schema:
    if _repeatable(hint):
        return Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING))
    types = {int: OpenAPIType.INTEGER, bool: OpenAPIType.BOOLEAN}
    return Schema(type=types.get(hint.__origin__, OpenAPIType.STRING))
