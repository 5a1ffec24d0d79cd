"""A view that writes down what it is given, before it takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.capture.records import TOO_LONG_BYTES, RecordKind, write_record
from vmpulse_consumers.view import Request, View
from vmpulse_contract import limits, wire
from vmpulse_contract.errors import ContractError, VerbError
from vmpulse_contract.identity import HostId
from vmpulse_contract.verbs import AnyReply

if TYPE_CHECKING:
    from vmpulse_consumers.capture.records import Argument


class RecordingView(View):
    """A view whose inputs are kept as records until they are drained."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self._records: list[bytes] = []
        self._within = False
        """Within an input: what the view then does itself is no further input."""

    def drain_records(self) -> list[bytes]:
        """Hand out what was written down, in order."""
        records, self._records = self._records, []
        return records

    def receive(self, exchange: str, routing_key: str, user_id: str | None, body: bytes, now: float) -> None:
        """Apply one stream message, as any view does."""
        # What is longer than any message may be is refused unread, and no reader would take the record.
        kept = body if len(body) <= limits.MESSAGE_BYTES.maximum else min(len(body), TOO_LONG_BYTES)
        self._note(now, RecordKind.RECEIVE, exchange, routing_key, user_id, kept)
        super().receive(exchange, routing_key, user_id, body, now)

    def replied(self, request: Request, reply: AnyReply, now: float) -> None:
        """Apply an answer, as any view does. Raises MessageTooBig for one that is too long to be written down."""
        self._note(now, RecordKind.REPLIED, request.number, request.verb, wire.write(reply))
        super().replied(request, reply, now)

    def request_failed(self, request: Request, error: ContractError, now: float) -> None:
        """Take note of a failure, as any view does."""
        code = error.code if isinstance(error, VerbError) else None
        self._note(now, RecordKind.FAILED, request.number, code, str(error)[:200])
        super().request_failed(request, error, now)

    def canary(self, now: float) -> None:
        """Hear our own canary, as any view does."""
        self._note(now, RecordKind.CANARY)
        super().canary(now)

    def reconnected(self, now: float) -> None:
        """Have the stream back, as any view does."""
        self._note(now, RecordKind.RECONNECTED)
        super().reconnected(now)

    def tick(self, now: float) -> None:
        """Let time pass, as any view does."""
        self._note(now, RecordKind.TICK)
        self._within = True
        try:
            super().tick(now)
        finally:
            self._within = False

    def drain_requests(self, now: float) -> list[Request]:
        """Hand out requests, as any view does."""
        self._note(now, RecordKind.DRAIN)
        return super().drain_requests(now)

    def forget(self, host_id: HostId, now: float) -> None:
        """Forget a host, as any view does."""
        if host_id in self.hosts:
            self._note(now, RecordKind.FORGET, host_id)
        super().forget(host_id, now)

    def _note(self, now: float, kind: RecordKind, *arguments: Argument) -> None:
        if not self._within:
            self._records.append(write_record(now, kind, *arguments))
