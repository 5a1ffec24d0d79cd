"""The API of one running view, as its settings have it: with TLS and tokens, or without."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from vmpulse_consumers.http.access import Guarded
from vmpulse_consumers.http.app import build_app
from vmpulse_consumers.http.certificate import Certificate
from vmpulse_consumers.http.event_stream import EventStreams
from vmpulse_consumers.http.server import serve_on
from vmpulse_consumers.http.token_file import TokenFile

if TYPE_CHECKING:
    import socket

    from vmpulse_consumers.service import ViewService
    from vmpulse_consumers.settings import ViewSettings


async def serve_view(
    settings: ViewSettings, service: ViewService, listener: socket.socket, serving: asyncio.Event
) -> None:
    """Serve until cancelled, from when the view may be read; *serving* is set then.

    Raises TokensUnusable and CertificateUnusable at once.
    """
    tokens = TokenFile(Path(settings.http_tokens_file), service.clock) if settings.http_tokens_file else None
    certificate = Certificate(settings.http_cert_file, settings.http_key_file) if settings.http_cert_file else None
    app = build_app(service.view, service.clock, EventStreams(service.teller), applied=service.applied)
    await service.restored.wait()
    async with asyncio.TaskGroup() as group:
        guarded = Guarded(app, tokens, service.clock)
        group.create_task(serve_on(guarded, listener, None if certificate is None else certificate.context))
        serving.set()
        if certificate is not None:
            group.create_task(certificate.keep())
