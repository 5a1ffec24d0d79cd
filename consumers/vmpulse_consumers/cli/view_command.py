"""``vmpulse view``: run the view with its HTTP API until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import uvloop

from vmpulse_consumers.listener import listen
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.settings import VIEW_PREFIX, ViewSettings
from vmpulse_consumers.settling import Settling
from vmpulse_consumers.store import Keeper
from vmpulse_contract.broker_url import is_loopback
from vmpulse_contract.errors import SettingsError
from vmpulse_contract.settings import add_flags
from vmpulse_edges import logs, sd_notify
from vmpulse_edges.amqp_connection import warn_if_open
from vmpulse_edges.broker_settings import address_of
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from vmpulse_contract.broker_url import BrokerUrl

    Serve = Callable[[ViewSettings, ViewService, socket.socket, asyncio.Event], Awaitable[None]]

log = logging.getLogger(__name__)

READY_LATEST_S: Final = 15.0
"""Longer than an attempt to connect."""
STUCK_S: Final = 10.0
"""The view's clock goes round once a second."""

NOTES: Final = """\
needs:
  a RabbitMQ broker, and a user of it with a dot in its name and the rights of engine.view, as docs/operating.md
  lists them; a free port for the HTTP API. The view declares exchanges and queues itself.

exit codes:
  0    stopped as told (SIGTERM, Ctrl-C)
  1    the broker refuses us, or the HTTP address cannot be used; a broker that is only away is waited for
  2    the command line or a setting is wrong
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    words = "run the view: consume the fleet's stream, serve the HTTP API"
    parser = subparsers.add_parser(
        "view",
        help=words,
        description="Run the view until told to stop: consume the fleet's stream, and serve the HTTP API.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, ViewSettings, VIEW_PREFIX)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; then stop cleanly."""
    settings = load(ViewSettings, args, VIEW_PREFIX)
    url = address_of(settings, read_secret("broker_password_file", settings.broker_password_file))
    check_exposure(settings)
    logs.configure(settings.log_level, settings.log_format)
    warn_if_open(url)
    uvloop.run(_until_told(settings, url))
    return 0


async def _until_told(settings: ViewSettings, url: BrokerUrl) -> None:
    work = asyncio.ensure_future(_serve(settings, url))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("stopped")
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    """Give what ended a task, out of the groups that task groups wrap it in: the user wants that one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def check_exposure(settings: ViewSettings) -> None:
    """Raise SettingsError if the HTTP API would be open to strangers, or a setting of it would do nothing."""
    if settings.http_key_file and not settings.http_cert_file:
        raise SettingsError("http_key_file", settings.http_key_file, "nothing without http_cert_file")
    closed = settings.http_cert_file and settings.http_tokens_file
    if not closed and not settings.insecure and not is_loopback(settings.http_host):
        allowed = (
            "loopback; or with http_cert_file and http_tokens_file; or with insecure, where something else protects it"
        )
        raise SettingsError("http_host", settings.http_host, allowed)


async def _serve(settings: ViewSettings, url: BrokerUrl) -> None:
    listener = listen(settings.http_host, settings.http_port)
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.http_cert_file else "http"
    log.info("HTTP API at %s://%s:%d/api/v1/vms", scheme, f"[{host}]" if ":" in host else host, port)
    service = ViewService(url, settings.name, keeper=Keeper(Path(settings.store)) if settings.store else None)
    if not settings.store:
        log.info("nothing outlives this view: after a restart it asks for everything anew; --store FILE keeps it")
    async with asyncio.TaskGroup() as group:
        serving = asyncio.Event()
        group.create_task(_keep_told(service, serving))
        group.create_task(_serve_http(settings, service, listener, serving))
        await service.restore()
        group.create_task(Settling(service.view).run())
        group.create_task(service.run())


async def _serve_http(
    settings: ViewSettings, service: ViewService, listener: socket.socket, serving: asyncio.Event
) -> None:
    """Serve the API once the view may be read.

    Loading what that takes is half of all loading, 0.2 s: store, broker and hosts answer meanwhile.
    """
    api = await asyncio.to_thread(import_module, "vmpulse_consumers.http.at_work")
    await cast("Serve", api.serve_view)(settings, service, listener, serving)


async def _keep_told(service: ViewService, serving: asyncio.Event) -> None:
    """Tell systemd how the view does, where there is one. Ready: HTTP is served, and the stream is consumed.

    A broker that is away must not keep the unit from starting, since nothing would come of restarting it: /readyz says
    so meanwhile. One that refuses us ends the program before it was ready, and so fails the start.
    """
    latest = service.clock() + READY_LATEST_S
    await sd_notify.keep_told(
        sd_notify.from_environment(os.environ),
        ready=lambda: serving.is_set() and (service.stream.consumed.is_set() or service.clock() > latest),
        advancing=lambda: service.clock() - service.ticked_at < STUCK_S,
        status=lambda: _status(service),
    )


def _status(service: ViewService) -> str:
    view = service.view
    amiss = view.not_ready(service.clock())
    return f"{len(view.hosts)} hosts; {amiss[0] if amiss else 'ready'}"
