"""What a request may be at most, checked before anything reads it. No request of the API has a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litestar.enums import HttpMethod, ScopeType

from vmpulse_consumers.http.refusals import Fault, body_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

URL_BYTES: Final = 2048
"""Room for a label filter on each of a dozen labels; proxies commonly pass 8 KiB."""


HEADER_BYTES: Final = 8192
"""What browsers and proxies add stays far below."""


class Bounded:
    """An ASGI app that refuses long URLs, long headers and bodies, and passes all else to *app*."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event, as ASGI has it."""
        if scope["type"] == ScopeType.HTTP:
            refusal = _refusal(scope)
            if refusal is not None:
                await reply(send, *refusal)
                return
            if scope["method"] == "HEAD":
                # The server below leaves the body out by the scope that it has itself.
                scope = {**scope, "method": HttpMethod.GET}
        await self._app(scope, receive, send)


def _refusal(scope: HTTPScope) -> tuple[int, Fault] | None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size > URL_BYTES:
        return 414, Fault(f"the URL has {size} bytes", "URL", f"at most {URL_BYTES} bytes")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > HEADER_BYTES:
        return 431, Fault(f"the headers have {size} bytes", "headers", f"at most {HEADER_BYTES} bytes")
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            return 413, Fault("the request has a body", "body", "no body: no request here has one")
    return None


async def reply(send: Send, status: int, fault: Fault, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer a request with an error, and close its connection; *more* are headers."""
    body = body_of(fault)
    # Closing spares reading the body that nobody wants.
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
