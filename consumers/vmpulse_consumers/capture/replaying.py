"""A view rebuilt from records, and the digest that tells whether it is the one that was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import xxhash

from vmpulse_consumers.capture.records import Record, RecordKind
from vmpulse_consumers.errors import CaptureUnreadable, IllegalTransition
from vmpulse_consumers.view import Request, View
from vmpulse_consumers.view.memory import remembered
from vmpulse_contract import verbs
from vmpulse_contract.errors import VERB_ERRORS, MalformedMessage, MessageError, VerbError
from vmpulse_contract.identity import HostId
from vmpulse_contract.verbs import Verb

if TYPE_CHECKING:
    from vmpulse_contract.errors import ContractError


class Replay:
    """Feeds a view of its own.

    Args:
        began: when the captured view was made, on the clock of the records.

    ``at`` is the time of the last record; ``same``: whether the state is the captured one, None while the capture's end
    has not come; ``faults``: exceptions of the view's own, each a fault to be reported.
    """

    def __init__(self, began: float) -> None:
        self.view = View(began)
        self.at = began
        self.same: bool | None = None
        self.faults: list[str] = []
        self._asked: dict[int, Request] = {}

    def apply(self, record: Record) -> None:
        """Give the view one input. Raises CaptureUnreadable for one that this view cannot have been given."""
        self.at = record.at
        if record.kind is RecordKind.END:
            self.same = digest(self.view) == record.arguments[0]
            return
        try:
            self._give(record)
        except CaptureUnreadable:
            raise
        except (MessageError, IllegalTransition):
            pass  # what was refused then is refused now
        except Exception as error:  # noqa: BLE001 - a fault of the view, which the running one outlives as well
            self.faults.append(f"{record.kind} at {record.at:.3f}: {type(error).__name__}: {error!s:.200}")
        # Nobody listens here, and they would pile up.
        self.view.drain_events()

    def _give(self, record: Record) -> None:
        view, at, values = self.view, record.at, cast("tuple[str, ...]", record.arguments)
        match record.kind:
            case RecordKind.RECEIVE:
                exchange, key, user_id, body = values
                view.receive(exchange, key, user_id, cast("bytes", body), at)
            case RecordKind.REPLIED:
                request = self._request(record)
                view.replied(request, verbs.read_reply(Verb(values[1]), cast("bytes", values[2])), at)
            case RecordKind.FAILED:
                view.request_failed(self._request(record), _error(values[1], values[2]), at)
            case RecordKind.CANARY:
                view.canary(at)
            case RecordKind.RECONNECTED:
                view.reconnected(at)
            case RecordKind.TICK:
                view.tick(at)
            case RecordKind.DRAIN:
                requests = {request.number: request for request in view.drain_requests(at)}
                again = {request.host for request in requests.values()}
                kept = {number: asked for number, asked in self._asked.items() if asked.host not in again}
                self._asked = kept | requests
            case _:
                view.forget(HostId(values[0]), at)

    def _request(self, record: Record) -> Request:
        number = cast("int", record.arguments[0])
        # Kept: an answer that did not fit is followed by its failure, and only then the host is asked again.
        request = self._asked.get(number)
        if request is None:
            raise CaptureUnreadable(
                f"request {number} is answered that was never asked: the capture is not whole, or of another version"
            )
        return request


def _error(code: str | None, text: str) -> ContractError:
    """An error that the view takes as it took the one that was captured."""
    return MalformedMessage(text) if code is None else VERB_ERRORS.get(code, VerbError)(text)


def digest(view: View) -> str:
    """A digest over all that the view holds of hosts and VMs, 16 hexadecimal digits."""
    found = xxhash.xxh3_64()
    for _, host in sorted(view.hosts.items()):
        found.update(msgspec.msgpack.encode(remembered(host, view.vms, view.runtime)))
        found.update(host.held.tobytes())
        found.update(repr((host.seq, host.frame_seq, host.frame_ms, host.offset, host.roster_as_of)).encode())
        rows = slice(host.block.start, host.block.start + host.block.size)
        runtime = view.runtime
        for column in (runtime.mem_usage, runtime.cpu_user, runtime.cpu_sys, runtime.stats_age):
            found.update(column[rows].tobytes())
    for vm, kept in sorted(view.transits.items()):
        found.update(vm + (b"" if kept.transit is None else kept.transit.host.id.encode()))
    for vm in sorted(view.split):
        found.update(vm)
    return found.hexdigest()
