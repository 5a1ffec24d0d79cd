"""A view rebuilt from records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from vmpulse_consumers.capture.digest import digest
from vmpulse_consumers.capture.records import Record, RecordKind
from vmpulse_consumers.errors import CaptureUnreadable, IllegalTransition
from vmpulse_consumers.view import Request, View
from vmpulse_contract import verbs
from vmpulse_contract.errors import VERB_ERRORS, MalformedMessage, MessageError, VerbError
from vmpulse_contract.identity import HostId

if TYPE_CHECKING:
    from vmpulse_contract.errors import ContractError

FAULTS_KEPT: Final = 20
"""The first says most."""


class Replay:
    """Feeds a view of its own.

    Args:
        began: when the captured view was made, on the clock of the records.

    ``at`` is the time of the last record; ``same``: whether the state is the captured one, None while the capture's end
    has not come; ``applied``: how many records were given, the end among them; ``faults``: the first exceptions of the
    view's own, each a fault to be reported, of ``failed`` in all.
    """

    def __init__(self, began: float) -> None:
        self.view = View(began)
        self.at = began
        self.same: bool | None = None
        self.applied = 0
        self.faults: list[str] = []
        self.failed = 0
        self._asked: dict[int, Request] = {}
        self._asked_last: dict[HostId, int] = {}
        self._highest = 0

    def apply(self, record: Record) -> None:
        """Give the view one input. Raises CaptureUnreadable for one that this view cannot have been given."""
        self.at = record.at
        try:
            self._give(record)
        except CaptureUnreadable:
            raise
        except (MessageError, IllegalTransition):
            pass  # what was refused then is refused now
        except Exception as error:  # noqa: BLE001 - a fault of the view, which the running one outlives as well
            self.failed += 1
            if len(self.faults) < FAULTS_KEPT:
                self.faults.append(f"{record.kind} at {record.at:.3f}: {type(error).__name__}: {error!s:.200}")
        self.applied += 1
        # Nobody listens here, and they would pile up.
        self.view.drain_events()

    def _give(self, record: Record) -> None:
        view, at = self.view, record.at
        match record.kind:
            case RecordKind.RECEIVE:
                exchange, key, user_id, body = cast("tuple[str, str, str | None, bytes | int]", record.arguments)
                # Of one that was too long its length is known, and nothing else of it matters: it is refused unread.
                view.receive(exchange, key, user_id, bytes(body), at)
            case RecordKind.REPLIED:
                self._replied(record)
            case RecordKind.FAILED:
                request = self._request(record)
                if request is not None:
                    view.request_failed(request, _error(record), at)
            case RecordKind.CANARY:
                view.canary(at)
            case RecordKind.RECONNECTED:
                view.reconnected(at)
            case RecordKind.TICK:
                view.tick(at)
            case RecordKind.DRAIN:
                self._drain(at)
            case RecordKind.FORGET:
                self._forget(record)
            case _:
                self.same = digest(view) == record.arguments[0]

    def _drain(self, now: float) -> None:
        for request in self.view.drain_requests(now):
            # One at a time: what a host was asked before is answered by now, or given up.
            self._asked.pop(self._asked_last.get(request.host, 0), None)
            self._asked_last[request.host] = self._highest = request.number
            self._asked[request.number] = request

    def _replied(self, record: Record) -> None:
        request = self._request(record)
        if request is None:
            return
        _, verb, raw = cast("tuple[int, str, bytes]", record.arguments)
        if verb != request.verb:
            raise record.misfit(f"request {request.number} is answered as {verb}, and was {request.verb}")
        try:
            reply = verbs.read_reply(request.verb, raw)
        except (MessageError, VerbError) as error:
            raise record.misfit(f"it has no answer to {request.verb}: {error!s:.120}") from error
        self.view.replied(request, reply, record.at)

    def _request(self, record: Record) -> Request | None:
        """The request that a record answers; None for one that was given up, which the view passes over."""
        number = cast("int", record.arguments[0])
        if not 0 < number <= self._highest:
            raise record.misfit(f"request {number} is answered that was never asked")
        # Kept: an answer that did not fit is followed by its failure, and only then the host is asked again.
        return self._asked.get(number)

    def _forget(self, record: Record) -> None:
        host = HostId(cast("str", record.arguments[0]))
        if host not in self.view.hosts:
            raise record.misfit(f"host {host} is forgotten that is not known")
        self.view.forget(host, record.at)


def _error(record: Record) -> ContractError:
    """An error that the view takes as it took the one that was captured."""
    _, code, text = cast("tuple[int, str | None, str]", record.arguments)
    return MalformedMessage(text) if code is None else VERB_ERRORS.get(code, VerbError)(text)
