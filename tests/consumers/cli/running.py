"""Runs the program as a process of its own, with nothing in its environment that the test did not put there."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from typing import NamedTuple

PROGRAM = (sys.executable, "-m", "vmpulse_consumers")


class Done(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stdout, without trailing blanks."""
        return [line.rstrip() for line in self.out.splitlines()]


async def run(*arguments: str, api: str | None = None) -> Done:
    """Run the program to its end, against the view at *api*."""
    environment = {} if api is None else {"VMPULSE_API": api}
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def run_and_answer(*arguments: str, api: str, answer: bytes) -> Done:
    """Run the program with a terminal for its input, on which *answer* is typed."""
    keyboard, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"VMPULSE_API": api},
    )
    os.close(terminal)
    os.write(keyboard, answer)
    out, err = await process.communicate()
    os.close(keyboard)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def run_on_terminal(*arguments: str, api: str, columns: int) -> list[str]:
    """Run the program on a terminal of *columns*; gives the lines that it shows."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, stdout=terminal, env={"VMPULSE_API": api, "TERM": "xterm-256color"}
    )
    os.close(terminal)
    shown = await asyncio.to_thread(_read_all, screen)
    os.close(screen)
    assert await process.wait() == 0
    return shown.decode().splitlines()


def _read_all(screen: int) -> bytes:
    shown = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:
            return shown  # the terminal's other end is closed
        shown += part


async def run_into_closed_pipe(*arguments: str, api: str) -> Done:
    """Run the program with a reader on stdout that has already gone."""
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, stdout=writer, stderr=asyncio.subprocess.PIPE, env={"VMPULSE_API": api}
    )
    os.close(writer)
    _, err = await process.communicate()
    return Done(process.returncode or 0, "", err.decode())


async def run_and_interrupt(*arguments: str, api: str, asked: asyncio.Event) -> Done:
    """Run the program and send it Ctrl-C once *asked* says that it waits for a reply."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"VMPULSE_API": api},
    )
    await asked.wait()
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())
