"""The machine's part of ``check``: names, clock, password file, state folder, port."""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmpulse_agent.commands.findings import fail, failed, ok, warn
from vmpulse_agent.errors import PortTaken
from vmpulse_agent.metrics import PREFIX as METRICS
from vmpulse_agent.metrics_server import probe
from vmpulse_agent.settings import host_of
from vmpulse_edges.settings_source import read_secret

if TYPE_CHECKING:
    from vmpulse_agent.commands.findings import Finding
    from vmpulse_agent.settings import AgentSettings

TIMEX_BYTES: Final = 256
"""More than the kernel's struct timex has; all zero, it asks and sets nothing."""
CLOCK_UNSYNCHRONISED: Final = 5
ASK_S: Final = 2.0
EARLIEST: Final = 1_700_000_000
"""A wall clock before this (November 2023) was never set."""


def check_host(settings: AgentSettings, fqdn: str) -> Finding:
    """The name under which this host speaks. Raises BadName."""
    host = host_of(settings, fqdn)
    if not settings.host and fqdn.partition(".")[0] == "localhost":
        return warn("host", f"{host}, from the FQDN {fqdn}: other hosts may be called the same", "set host")
    return ok("host", f"{host}, {'as set' if settings.host else 'from the FQDN'}; FQDN {fqdn}")


def check_clock() -> Finding:
    """The wall clock; the protocol's ages do not depend on it, timestamps and kept tombstones do."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    mend = "set it, and keep it right: chrony or systemd-timesyncd"
    if time.time() < EARLIEST:
        return fail("clock", f"{shown}: it was never set", mend)
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)) == CLOCK_UNSYNCHRONISED:
        return warn("clock", f"{shown}: the kernel does not call it synchronised", mend)
    return ok("clock", f"{shown}, synchronised")


def check_password(path: str, what: str = "password file", setting: str = "broker_password_file") -> Finding:
    """A password file. Raises SettingsError if it cannot be read."""
    if not path:
        return ok(what, "none set")
    secret, mode = read_secret(setting, path), Path(path).stat().st_mode
    if not secret:
        return warn(what, f"{path} is empty", f"write the password of the {setting.partition('_')[0]}'s user into it")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warn(what, f"{path} can be read by every user ({stat.filemode(mode)})", f"chmod 600 {path}")
    return ok(what, path)


def check_state_dir(folder: str) -> Finding:
    """The folder that keeps tombstones; a running agent's file in it is not touched."""
    what = "state folder"
    if not folder:
        return warn(what, "none: the ends of VMs are forgotten at a restart", "set state_dir")
    path = Path(folder)
    try:
        if path.is_dir():
            with tempfile.TemporaryFile(dir=path) as file:
                file.write(b"0")
            return ok(what, folder)
    except OSError as error:
        return fail(
            what, f"{folder} cannot be written to: {error.strerror}", "give it to the agent's user, or set state_dir"
        )
    parent = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return ok(what, f"{folder} will be made")
    return fail(what, f"{folder} cannot be made in {parent}", "make it for the agent's user, or set state_dir")


def check_port(settings: AgentSettings) -> Finding:
    """Whether the metrics can be served, or are, by an agent that runs already."""
    what, host, port = "metrics", settings.metrics_host, settings.metrics_port
    if port == "":
        return ok(what, "not served, by the setting metrics_port")
    try:
        probe(host, port)
    except PortTaken as error:
        if _is_agent(host, port):
            return warn(
                what, f"an agent serves its metrics at {host}:{port} already", "nothing, if that is this host's own"
            )
        return failed(what, error)
    return ok(what, f"{host}:{port} is free" if port else f"any free port of {host}")


def _is_agent(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=ASK_S)
    try:
        connection.request("GET", "/metrics")
        return METRICS.encode() in connection.getresponse().read(1 << 20)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
