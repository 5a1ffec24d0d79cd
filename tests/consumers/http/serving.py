"""Serves a fleet on a free loopback port for as long as a test needs it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from litestar.types import ASGIApp

from tests.consumers.http.stocked_view import Fleet
from vmpulse_consumers.http import build_app, listen, serve_on
from vmpulse_consumers.http.server import PATIENCE_S


@contextlib.asynccontextmanager
async def served(
    fleet: Fleet,
    app: ASGIApp | None = None,
    context: ssl.SSLContext | None = None,
    patience_s: int = PATIENCE_S,
    host: str = "127.0.0.1",
) -> AsyncIterator[str]:
    """Give the URL of the fleet's API, or of another app; with a context it is served with TLS."""
    app = app or build_app(fleet.view, fleet.clock, fleet.events)
    listener = listen(host, 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_on(app, listener, context, patience_s))
    try:
        yield f"{'http' if context is None else 'https'}://{host}:{port}"
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
