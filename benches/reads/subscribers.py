"""Many who follow a view's event stream: ``python -m benches.reads.subscribers``, started by the bench.

Each has a connection of its own, wants everything, and checks that the numbers of the events that come rise by one.
Told to end by SIGTERM, it gives those behind a few seconds to catch up with the first, and prints `Followed` as one
line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from typing import TYPE_CHECKING, Final, Self

import msgspec

from benches.chaos.cable import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK: Final = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSED: Final = b"HTTP/1.1 503"
BLOCK: Final = b"\n\n"
EVENT: Final = re.compile(rb"^id: [0-9a-f]+-(\d+)\r?\nevent: ([a-z_.]+)", re.MULTILINE)
TOKEN: Final = re.compile(rb"^id: [0-9a-f]+-(\d+)\r?$", re.MULTILINE)
AT_A_TIME: Final = 50
CATCH_UP_S: Final = 5.0
POLL_S: Final = 0.1


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the subscribers.

    ``refused``: were let in never; ``cut``: were before they had enough; ``events``: that the first of them has had.
    ``lost``: added up over all of them, refused ones too, events between two that came, and those that never came
    though others had them. ``writes_per_s``: pieces that came, for each subscriber.
    """

    subscribers: int
    refused: int
    cut: int
    events: int
    lost: int
    writes_per_s: float


class Subscriber(asyncio.Protocol):
    """One of them."""

    def __init__(self) -> None:
        self.began: int | None = None
        """The number of the event before its first one; None: it was not let in."""
        self.last = 0
        self.gaps = 0
        self.writes = 0
        self.refused = False
        self.cut = False
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def itself(self) -> Self:
        """What makes it, for asyncio."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(ASK)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """It was not us who hung up, as long as anybody looks."""
        self.cut = not self.refused

    def data_received(self, data: bytes) -> None:
        """Take in whole blocks."""
        if self.began is None and data.startswith(REFUSED):
            self.refused = True
            return
        self.writes += 1
        whole, found, rest = (self._rest + data).rpartition(BLOCK)
        self._rest = rest
        if found:
            self.take(whole)

    def take(self, text: bytes) -> None:
        """Take in blocks; the first has only the token of the moment."""
        if self.began is None and (token := TOKEN.search(text)):
            self.began = self.last = int(token[1])
        for number in (int(event[1]) for event in EVENT.finditer(text)):
            if number > self.last:
                self.gaps += number - self.last - 1
                self.last = number


def followed(all_of_them: Sequence[Subscriber], seconds: float) -> Followed:
    """Tell what became of them."""
    let_in = [each for each in all_of_them if each.began is not None]
    last = max((each.last for each in let_in), default=0)
    events = max((last - each.began for each in let_in if each.began is not None), default=0)
    short = sum(last - each.last + each.gaps for each in let_in)
    return Followed(
        subscribers=len(all_of_them),
        refused=sum(each.refused for each in all_of_them),
        cut=sum(each.cut for each in let_in),
        events=events,
        lost=short + events * (len(all_of_them) - len(let_in)),
        writes_per_s=round(sum(each.writes for each in let_in) / max(1, len(let_in)) / seconds, 2),
    )


async def follow(port: int, count: int) -> Followed:
    """Follow until told to end."""
    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, enough.set)
    all_of_them = [Subscriber() for _ in range(count)]
    for first in range(0, count, AT_A_TIME):
        some = all_of_them[first : first + AT_A_TIME]
        await asyncio.gather(*(loop.create_connection(each.itself, LOOPBACK, port) for each in some))
    sys.stderr.write("all have asked\n")
    sys.stderr.flush()
    begun = loop.time()
    await enough.wait()
    seconds = loop.time() - begun
    last = max(each.last for each in all_of_them)
    latest = loop.time() + CATCH_UP_S
    while loop.time() < latest and any(each.last < last for each in all_of_them if not each.refused):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(POLL_S)
    return followed_up_to(all_of_them, last, seconds)


def followed_up_to(all_of_them: Sequence[Subscriber], last: int, seconds: float) -> Followed:
    """As `followed`; what came to some after number *last* does not count, for it is on its way to the others."""
    for each in all_of_them:
        each.last = min(each.last, last)
    return followed(all_of_them, seconds)


def main() -> int:
    """Follow until told to end; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benches.reads.subscribers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    sys.stdout.write(msgspec.json.encode(asyncio.run(follow(options.port, options.count))).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
