"""Errors of the API: JSON that names what is wrong, where, and what is allowed."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

LOG: Final = logging.getLogger(__name__)
SHOWN: Final = 80
"""Characters of a refused value that an error repeats."""


class Fault(Struct, frozen=True, omit_defaults=True):
    """What is wrong, where it stands, and what would be accepted."""

    what: str
    where: str
    allowed: str = ""


class ErrorBody(Struct, frozen=True):
    """The body of every reply that is an error."""

    error: Fault


class Refused(Exception):
    """A request that gets an error for its reply.

    Args:
        status: the HTTP status.
        what: what is wrong, one line.
        where: the part of the request that is meant.
        allowed: what would be accepted.
        retry_after_s: when it may be accepted, in seconds.
    """

    def __init__(
        self, status: int, what: str, where: str, allowed: str = "", *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(what)
        self.status = status
        self.fault = Fault(what, where, allowed)
        self.headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}


def body_of(fault: Fault) -> bytes:
    """The error's body as it travels."""
    return msgspec.json.encode(ErrorBody(fault))


def shorten(value: object) -> str:
    """Show a value of the request's in an error, quoted and bounded."""
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"


def _refuse(_request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    assert isinstance(error, Refused)  # noqa: S101 - Litestar hands over what the map below says
    return Response(ErrorBody(error.fault), status_code=error.status, headers=error.headers)


def _refuse_http(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """What the framework refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    match error.status_code:
        case 404:
            what, allowed = "there is nothing here", "the paths that /schema lists"
        case 405:
            what, allowed = f"the method {request.method} is not served", headers.get("allow", "GET")
        case _:
            what, allowed = shorten(error.detail), ""
    fault = Fault(what, f"path {shorten(request.url.path)}", allowed)
    return Response(ErrorBody(fault), status_code=error.status_code, headers=headers)


def _fail(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """A fault of ours: the log gets all of it, the reader only that it happened."""
    LOG.error("%s %s failed", request.method, shorten(request.url.path), exc_info=error)
    return Response(ErrorBody(Fault("the view failed on this request; its log says why", "server")), status_code=500)


HANDLERS: Final[ExceptionHandlersMap] = {Refused: _refuse, HTTPException: _refuse_http, Exception: _fail}
"""Which error gets which reply, for the app."""
