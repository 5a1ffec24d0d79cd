"""``vmpulse watch --raw FILE``: a view of its own that writes down all that it is given."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from vmpulse_consumers.capture.digest import digest
from vmpulse_consumers.capture.file import CaptureFile
from vmpulse_consumers.capture.recording import RecordingView
from vmpulse_consumers.capture.records import Header, RecordKind, write_record
from vmpulse_consumers.service import ViewService
from vmpulse_consumers.settings import CLI_PREFIX, CaptureSettings
from vmpulse_contract import topology
from vmpulse_edges import logs
from vmpulse_edges.broker_settings import address_of
from vmpulse_edges.errors import BrokerRefused
from vmpulse_edges.logs import LogFormat, LogLevel
from vmpulse_edges.settings_source import load, read_secret

if TYPE_CHECKING:
    import argparse

    from vmpulse_contract.broker_url import BrokerUrl

WRITE_S: Final = 0.5
TELL_S: Final = 3.0


def capture(args: argparse.Namespace) -> int:
    """Capture until told to stop, or for so long. Raises CaptureUnwritable, and BrokerRefused at the start."""
    settings = load(CaptureSettings, args, CLI_PREFIX)
    url = address_of(settings, read_secret("broker_password_file", settings.broker_password_file))
    logs.configure(LogLevel.WARNING, LogFormat.TEXT)
    try:
        asyncio.run(_until_told(url, Path(args.raw), args.seconds))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
    return 0


async def _until_told(url: BrokerUrl, path: Path, seconds: float | None) -> None:
    work = asyncio.ensure_future(_capture(url, path))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(work, seconds)


async def _capture(url: BrokerUrl, path: Path) -> None:
    name = secrets.token_hex(4)
    service = ViewService(url, name, make_view=RecordingView, queue=topology.capture_queue(name))
    view = cast("RecordingView", service.view)
    with CaptureFile(path, Header(f"vmpulse {version('vmpulse')}", view.started)) as file:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(service.run())
                group.create_task(_write(view, file))
                group.create_task(_tell(service, file))
        except* BrokerRefused:
            file.discard()
            raise
        finally:
            if not file.discarded:
                _end(view, file, service.clock())


def _end(view: RecordingView, file: CaptureFile, now: float) -> None:
    # The inputs first: a view that is broken enough to have no digest is worth its capture most of all.
    file.write(view.drain_records())
    file.write([write_record(now, RecordKind.END, digest(view))])
    _say(f"{file.path}: {_summary(view, file)}; `vmpulse replay {file.path}` rebuilds this view")


async def _write(view: RecordingView, file: CaptureFile) -> None:
    while True:
        await asyncio.sleep(WRITE_S)
        file.write(view.drain_records())


async def _tell(service: ViewService, file: CaptureFile) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        _say(_summary(service.view, file))


def _summary(view: object, file: CaptureFile) -> str:
    kept = cast("RecordingView", view)
    messages = kept.counts.messages.total()
    return f"{len(kept.hosts)} hosts, {len(kept.vms)} VMs, {messages:,} messages, {file.bytes:,} bytes"


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
