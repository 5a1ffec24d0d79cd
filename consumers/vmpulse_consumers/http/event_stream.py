"""``GET /api/v1/events``: fleet events as server-sent events.

Every stream is a cursor into the one log of events, so a client that reads slowly costs nothing but its socket's
buffers. One that does not read at all, or so slowly that what comes next is no longer kept, is dropped: it is told so
if it still can be, its connection is cut, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from vmpulse_consumers.events.log import ALLOWED_TOKEN, FellBehind
from vmpulse_consumers.http.connection import Connection, connection_of
from vmpulse_consumers.http.queries import VM_TEXT_ALLOWED, VmText, documented, read, words
from vmpulse_consumers.http.refusals import Refused, shorten
from vmpulse_contract import identity
from vmpulse_contract.fleet import EventType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litestar.types import Receive, Scope, Send

    from vmpulse_consumers.events.log import Entry, Position
    from vmpulse_consumers.events.teller import Teller

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/events"
STREAMS: Final = 500
"""At four sends a second each, so many cost a fifth of a core; more readers belong behind the broker."""
RETRY_MS: Final = 2000
"""When a browser that lost the stream comes back."""
RETRY_AFTER_S: Final = 10
PAUSE_S: Final = 0.25
"""After a client was sent all there is: what happens meanwhile travels together, so news cost four sends a second."""
SEND_EVENTS: Final = 500
SEND_BYTES: Final = 256 << 10
SOCKET_BYTES: Final = 256 << 10
"""What the kernel keeps for a client that does not read."""
PARTING_S: Final = 0.2
"""How long a last word may take."""
SLOW: Final = "slow"
BEHIND: Final = "behind"
REASONS: Final = {
    SLOW: "you have read nothing for too long",
    BEHIND: "more has happened than is kept before all of it could be sent to you; read everything anew",
}


class Timing(Struct, frozen=True):
    """When a stream says that it is there, and when it gives a client up; seconds."""

    keep_alive_s: float = 15.0
    """Proxies commonly cut what is silent for 30 s or more."""
    slow_s: float = 10.0


HostText = Annotated[str, Meta(pattern=rf"\A(?:{identity.HOST_ID.pattern})\Z")]


class EventQuery(Struct, frozen=True, kw_only=True):
    """Which events, and from where on. What is asked for with several parameters has to fit all of them."""

    type: Annotated[tuple[EventType, ...], words("Events of this type; repeatable.", ", ".join(EventType))] = ()
    host: Annotated[
        tuple[HostText, ...],
        words(
            "Events of this host and of VMs on it, also of those that leave it; repeatable.",
            f"a host's id, {identity.HOST_ID_ALLOWED}",
        ),
    ] = ()
    vm: Annotated[
        tuple[VmText, ...],
        words("Events of this VM; repeatable.", VM_TEXT_ALLOWED),
    ] = ()
    after: Annotated[
        str | None,
        words("Resume after this event; without it, from now on. A header Last-Event-ID goes before.", ALLOWED_TOKEN),
    ] = None


class Choice:
    """Which events a client wants. ``fleet.relist`` passes always: it says that others are missing."""

    def __init__(self, query: EventQuery) -> None:
        self._types = frozenset(query.type)
        self._hosts = frozenset(query.host)
        self._vms = frozenset(identity.vm_id(vm) for vm in query.vm)
        self.everything = not (self._types or self._hosts or self._vms)

    def takes(self, entry: Entry) -> bool:
        """Whether the client wants this one."""
        if entry.type is EventType.FLEET_RELIST:
            return True
        if self._types and entry.type not in self._types:
            return False
        if self._vms and entry.vm not in self._vms:
            return False
        return not self._hosts or not self._hosts.isdisjoint(entry.hosts)


class EventStreams:
    """The streams that are open; bounded.

    Args:
        teller: has the events.
        timing: of each stream.
        most: how many there may be.
    """

    def __init__(self, teller: Teller, timing: Timing | None = None, most: int = STREAMS) -> None:
        self.teller = teller
        self.timing = timing or Timing()
        self.most = most
        self.open = 0
        self.refused = 0
        self.dropped: Counter[str] = Counter()
        self._written: Piece | None = None

    def piece(self, after: int, choice: Choice) -> Piece:
        """What comes after number *after*. Many want everything, and many are as far: for those it is written once.

        Raises FellBehind.
        """
        written, last = self._written, self.teller.log.last
        if choice.everything and written is not None and (written.after, written.last) == (after, last):
            return written
        entries = self.teller.log.read(after, events=SEND_EVENTS, size=SEND_BYTES)
        piece = Piece(after, last, after + len(entries), b"".join(self._blocks(entries, after, choice)))
        if choice.everything:
            self._written = piece
        return piece

    def _blocks(self, entries: list[Entry], after: int, choice: Choice) -> Iterator[bytes]:
        kept = self.teller.log
        for number, entry in enumerate(entries, after + 1):
            if choice.takes(entry):
                yield block(kept.token(number), entry.type, entry.text)


class Piece(NamedTuple):
    """What is sent in one go: events after number ``after`` up to ``upto``, as of when ``last`` was the newest."""

    after: int
    last: int
    upto: int
    text: bytes


def event_routes(streams: EventStreams) -> list[HTTPRouteHandler]:
    """Give the route of the stream."""
    answers = ResponseSpec(bytes, media_type="text/event-stream", description=WORDS)

    @get(
        PATH,
        operation_class=documented(EventQuery),
        responses={200: answers},
        summary="What happens, as it happens, as server-sent events",
    )
    async def stream_events(request: Request[Any, Any, Any]) -> ASGIResponse:
        query = read(EventQuery, request.scope["query_string"])
        position = _position(streams.teller, request.headers.get("last-event-id"), query.after)
        if streams.open >= streams.most:
            streams.refused += 1
            what, allowed = f"{streams.most} event streams are open", "fewer streams; or the broker, for many readers"
            raise Refused(503, what, "server", allowed, retry_after_s=RETRY_AFTER_S)
        return EventStream(streams, Choice(query), position)

    return [stream_events]


WORDS: Final = (
    "Each event is one CloudEvents JSON object in `data`, its type in `event`, the token to resume after it in `id`."
    " The first block has only an id: the token of this moment. `dropped` says why the connection is going to end."
)


def _position(teller: Teller, header: str | None, after: str | None) -> Position:
    # The header wins: a browser that reconnects repeats its first URL and adds the header. Empty: it has no token yet.
    where, token = ("header Last-Event-ID", header) if header else ("parameter after", after)
    try:
        position = teller.log.find(token)
    except ValueError as error:
        raise Refused(400, f"token {shorten(token)} is not allowed", where, ALLOWED_TOKEN) from error
    # While the view builds up its picture, lists are not complete: its own word to relist is still to come.
    return position if teller.begun else position._replace(relist=None)


class _Dropped(Exception):
    """The client is given up; the argument says why, by a key of REASONS."""


class EventStream(ASGIResponse):
    """One client's stream."""

    def __init__(self, streams: EventStreams, choice: Choice, position: Position) -> None:
        super().__init__(media_type="text/event-stream")
        self._streams = streams
        self._choice = choice
        self._position = position
        self._after = position.after
        self._said_at = 0.0
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes, is dropped, or the server stops."""
        connection = connection_of(scope)
        self._streams.open += 1
        try:
            connection.narrow(SOCKET_BYTES)
            await self._stream(connection, receive, send)
        except _Dropped as dropped:
            await self._drop(str(dropped), scope, connection, receive, send)
        finally:
            self._streams.open -= 1

    async def _stream(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Raises _Dropped."""
        pump = asyncio.ensure_future(self._pump(send))
        gone, closing = asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(connection.closing.wait())
        try:
            await asyncio.wait({pump, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            for task in (pump, gone, closing):
                task.cancel()
            await asyncio.gather(pump, gone, closing, return_exceptions=True)
        if closing.done() and not closing.cancelled() and self._started:
            await _end(connection, receive, send, b": the view stops\n\n")

    async def _pump(self, send: Send) -> None:
        """Send what happens, for ever. Raises _Dropped."""
        teller = self._streams.teller
        self._started = True
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._say(send, self._first_words())
        while True:
            text = self._next()
            behind = self._after != teller.log.last
            if text:
                await self._say(send, text)
            if behind:
                await asyncio.sleep(0)  # there is more: at once, but not before others had their turn
            elif text:
                await asyncio.sleep(PAUSE_S)
            else:
                await teller.bell.wait(max(0.0, self._streams.timing.keep_alive_s - self._silent_s()))
            if self._silent_s() >= self._streams.timing.keep_alive_s:
                # With the token of what was passed over: one that gets no younger is too old in the end.
                await self._say(send, f":\nid: {teller.log.token(self._after)}\n\n".encode())

    def _silent_s(self) -> float:
        return asyncio.get_running_loop().time() - self._said_at

    def _first_words(self) -> bytes:
        """Tell where the client stands, so that one that has heard nothing yet can resume, and what it has missed."""
        teller, (after, relist) = self._streams.teller, self._position
        words = f"retry: {RETRY_MS}\nid: {teller.log.token(after)}\n\n".encode()
        if relist is None:
            return words
        return words + block(teller.log.relist_id(after), EventType.FLEET_RELIST, teller.relist(after, relist))

    def _next(self) -> bytes:
        """What comes next for this client. Raises _Dropped."""
        try:
            piece = self._streams.piece(self._after, self._choice)
        except FellBehind as error:
            raise _Dropped(BEHIND) from error
        self._after = piece.upto
        return piece.text

    async def _say(self, send: Send, text: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": text, "more_body": True})
        self._said_at = asyncio.get_running_loop().time()

    async def _send(self, send: Send, message: Any) -> None:
        try:
            async with asyncio.timeout(self._streams.timing.slow_s):
                await send(message)
        except TimeoutError as error:
            raise _Dropped(SLOW) from error

    async def _drop(self, reason: str, scope: Scope, connection: Connection, receive: Receive, send: Send) -> None:
        self._streams.dropped[reason] += 1
        log.warning("event stream of %s dropped: %s", scope.get("client"), reason)
        told = msgspec.json.encode({"reason": REASONS[reason]})
        await _end(connection, receive, send, b"event: dropped\ndata: " + told + b"\n\n")


async def _end(connection: Connection, receive: Receive, send: Send, text: bytes) -> None:
    """Say a last word if the client takes it soon, and end the connection."""
    try:
        async with asyncio.timeout(PARTING_S):
            await send({"type": "http.response.body", "body": text, "more_body": False})
    except TimeoutError:
        connection.cut()
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]


def block(token: str, kind: EventType, text: bytes) -> bytes:
    """One event as it travels. JSON has no line breaks in it."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (token.encode(), kind.encode(), text)
