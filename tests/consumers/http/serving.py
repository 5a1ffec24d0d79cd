"""Serves a fleet on a free loopback port for as long as a test needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from litestar import Litestar

from tests.consumers.http.stocked_view import Fleet
from vmpulse_consumers.http import build_app, listen, serve_on


@contextlib.asynccontextmanager
async def served(fleet: Fleet, app: Litestar | None = None) -> AsyncIterator[str]:
    """Give the URL of the fleet's API, or of another app."""
    app = app or build_app(fleet.view, fleet.clock, fleet.events)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_on(app, listener))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
