"""How long a view's event loop keeps a small request waiting: ``python -m benches.reads.prober``, started by the bench.

It asks for /healthz every 5 ms on one connection. An answer waits for whatever the loop does just then, for the
interpreter's lock where another thread of the view holds it, and for a CPU where the machine has none to give. The
last is not the view's doing: the kernel counts it for each thread (schedstat, proc(5)), and it is taken off.

Told to end by SIGTERM, it prints `Stalls` as one line of JSON.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benches.chaos.cable import LOOPBACK
from benches.spread import Spread, spread

PACE_S: Final = 0.005
TIMEOUT_S: Final = 10.0
ASK: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
END: Final = b'{"status":"ok"}'
MS: Final = 1e3
NS_PER_S: Final = 1e9


class Stalls(msgspec.Struct, frozen=True):
    """What was found, in ms. ``loop``: without waits for a CPU of both processes; ``answer``: as a client has it."""

    asked: int
    loop: Spread
    answer: Spread


class Answer(NamedTuple):
    """One answer: seconds until it was there, and how many of them the two waited for a CPU."""

    took_s: float
    starved_s: float


class Prober:
    """Asks one view.

    Args:
        pid: of the view; its first thread is the one with the event loop.
        port: of its HTTP API.
    """

    def __init__(self, pid: int, port: int) -> None:
        threads = ((pid, pid), (threading.get_native_id(), threading.get_native_id()))
        self._waits = [Path(f"/proc/{process}/task/{thread}/schedstat") for process, thread in threads]
        self._socket = socket.create_connection((LOOPBACK, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> Answer:
        """Ask once."""
        starved, begun = self._starved_s(), time.perf_counter()
        self._socket.sendall(ASK)
        said = b""
        while not said.endswith(END):
            piece = self._socket.recv(1 << 12)
            if not piece:
                raise ConnectionError("the view has hung up")
            said += piece
        return Answer(time.perf_counter() - begun, self._starved_s() - starved)

    def _starved_s(self) -> float:
        return sum(int(file.read_text().split()[1]) for file in self._waits) / NS_PER_S


def main() -> int:
    """Ask until told to end; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.reads.prober")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    enough = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    prober = Prober(options.pid, options.port)
    prober.ask()
    answers = []
    while not enough.wait(PACE_S):
        answers.append(prober.ask())
    sys.stdout.write(msgspec.json.encode(told(answers)).decode() + "\n")
    return 0


def told(answers: list[Answer]) -> Stalls:
    """Tell how long answers took."""
    loop = spread([max(0.0, took_s - starved_s) * MS for took_s, starved_s in answers])
    return Stalls(len(answers), loop, spread([took_s * MS for took_s, _ in answers]))


if __name__ == "__main__":
    sys.exit(main())
