"""The packages installed in a guest, by the guest agent's ``guest-exec``: only where somebody has switched that on.

The guest agent has no command for it. So the package manager is run in the guest, Debian's or Red Hat's, and what it
prints is read, bounded. libvirt calls such a domain tainted ("custom guest agent control commands issued") from the
first time on. Nothing is made up: what no package manager says is absent.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import libvirt
import libvirt_qemu

from vmpulse_agent.libvirt_edge.text import clean
from vmpulse_agent.measures import Mended
from vmpulse_contract import limits

PROGRAMS: Final = (
    ("/usr/bin/dpkg-query", "-W", "-f=${db:Status-Abbrev}${Package}-${Version}\\n"),
    ("/usr/bin/rpm", "-qa", "--qf", "ii %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n"),
)
"""In this order; the next one is tried where the guest cannot run the one before. "ii" is dpkg's word for installed."""
INSTALLED: Final = "ii "
OUTPUT_BYTES: Final = 1 << 20
"""A full distribution has some 3,000 packages of 40 bytes."""
ANSWER_S: Final = 5
RUN_S: Final = 15.0
POLL_S: Final = 0.5

DEAD: Final = frozenset(
    {
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_NO_DOMAIN,
    }
)
"""After these there is no use in another question: the agent is silent, the domain does not run, or is gone."""

Command: TypeAlias = Callable[[str, dict[str, object]], Any]
"""Sends one command with its arguments to the agent and gives what it returned. Raises libvirtError, ValueError."""


def commands_to(domain: libvirt.virDomain) -> Command:
    """Commands to the agent of a domain; each is waited for 5 s."""

    def command(name: str, arguments: dict[str, object]) -> Any:
        text = json.dumps({"execute": name, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuAgentCommand(domain, text, ANSWER_S, 0))
        return answer.get("return") if isinstance(answer, dict) else None

    return command


def installed(
    command: Command,
    mended: Mended | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...] | None:
    """List the packages, sorted; None: the guest has no such program, forbids it, or does not finish in time.

    Raises libvirtError, of DEAD alone.
    """
    for program in PROGRAMS:
        try:
            output = _output(command, program, clock, sleep)
        except libvirt.libvirtError as error:
            if error.get_error_code() in DEAD:
                raise
            continue
        except ValueError:
            # What came is no JSON, or not even text.
            continue
        if output is not None:
            return packages(output, mended or Mended())
    return None


def packages(output: bytes, mended: Mended) -> tuple[str, ...]:
    """Read what the package manager has printed: a line for each package."""
    lines = output[:OUTPUT_BYTES].decode("utf-8", "replace").splitlines()
    if len(output) > OUTPUT_BYTES:
        mended.add("length")
        lines = lines[:-1]
    names = {clean(line[len(INSTALLED) :], mended) for line in lines if line.startswith(INSTALLED)} - {None}
    found = sorted(name for name in names if name is not None)
    mended.add("entries", max(0, len(found) - limits.APPS_PER_VM.maximum))
    return tuple(found[: limits.APPS_PER_VM.maximum])


def _output(
    command: Command, program: tuple[str, ...], clock: Callable[[], float], sleep: Callable[[float], None]
) -> bytes | None:
    """What the program printed; None if it did not end well."""
    until = clock() + RUN_S
    begun = command("guest-exec", {"path": program[0], "arg": list(program[1:]), "capture-output": True})
    pid = begun.get("pid") if isinstance(begun, dict) else None
    if not isinstance(pid, int):
        return None
    while clock() < until:
        state = command("guest-exec-status", {"pid": pid})
        if not isinstance(state, dict):
            return None
        if state.get("exited"):
            return _decoded(state) if state.get("exitcode") == 0 else None
        sleep(POLL_S)
    return None


def _decoded(state: dict[str, Any]) -> bytes | None:
    data = state.get("out-data")
    if not isinstance(data, str):
        return None
    # Four characters are three bytes; a few more, so that it shows that there was more.
    cut = data[: (OUTPUT_BYTES // 3 + 2) * 4]
    try:
        return base64.b64decode(cut)
    except binascii.Error:
        return None
