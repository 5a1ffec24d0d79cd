"""VDSM's side of STOMP: replies to whoever asks, and an event for each change of a VM's status.

Events (``|virt|VM_status|<vm>``) tell the status, of a VM that has started everything, of one that has ended how
(lib/vdsm/api/vdsm-events.yml).
"""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from benches.wire.peers import entries
from benches.wire.peers.stomp_frames import EVENTS, RESPONSES, body_of, frame, read_frame
from benches.wire.relay import LOOPBACK
from vmpulse_agent.hypervisor import LifecycleChange, LifecycleEvent
from vmpulse_contract.identity import vm_text

if TYPE_CHECKING:
    from benches.wire.peers.world import PolledHost, World


class StompHost:
    """VDSM's side: one connection, replies and events.

    Args:
        host: of the fleet.
        world: tells the time.
    """

    def __init__(self, host: PolledHost, world: World) -> None:
        self._host = host
        self._world = world
        self._listening = socket.create_server((LOOPBACK, 0))
        self._peer: socket.socket | None = None
        self._sent = 0
        self._subscriptions: dict[str, str] = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def tell_events(self) -> int:
        """Send what has happened since the last call; gives how many events."""
        happened = [event for event in self._host.events if isinstance(event, LifecycleEvent)]
        self._host.events.clear()
        told = [event for event in happened if (body := self._event(event)) is not None and self._push(body)]
        return len(told)

    def close(self) -> None:
        """Hang up."""
        self._listening.close()
        if self._peer is not None:
            self._peer.close()
        self._thread.join()

    def _serve(self) -> None:
        self._peer, _ = self._listening.accept()
        with self._peer.makefile("rb") as stream:
            while (came := read_frame(stream)) is not None:
                command, headers, body = came
                if command == "CONNECT":
                    self._peer.sendall(frame("CONNECTED", {"version": "1.2", "heart-beat": "0,30000"}))
                elif command == "SUBSCRIBE":
                    self._subscriptions[headers["destination"]] = headers["id"]
                else:
                    self._message(RESPONSES, self._answer(json.loads(body)))

    def _answer(self, call: dict[str, Any]) -> bytes:
        now = self._world.now
        result = [entries.typical(known, now) for known in self._host.known.values()]
        return body_of({"jsonrpc": "2.0", "id": call["id"], "result": result})

    def _event(self, event: LifecycleEvent) -> bytes | None:
        known, now = self._host.known.get(event.vm), self._world.now
        if known is None or event.change in {LifecycleChange.DEFINED, LifecycleChange.UNDEFINED}:
            return None
        vm, stamp = vm_text(event.vm), int(now * 1000)
        domain = self._host.hypervisor.domains.get(event.vm, known.domain)
        if event.change is LifecycleChange.STARTED:
            told = entries.typical(known._replace(domain=domain), now)
        elif domain.life is None:
            told = entries.down(known._replace(domain=domain), now)
        else:
            told = {"status": domain.life.status.label, "hash": entries.device_hash(domain)}
        params = {vm: told, "notify_time": stamp}
        return body_of({"jsonrpc": "2.0", "method": f"|virt|VM_status|{vm}", "params": params})

    def _push(self, body: bytes) -> bool:
        self._message(EVENTS, body)
        return True

    def _message(self, destination: str, body: bytes) -> None:
        assert self._peer is not None
        self._sent += 1
        headers = {
            "subscription": self._subscriptions[destination],
            "destination": destination,
            "message-id": str(uuid5(NAMESPACE_OID, f"{self.port}-{self._sent}")),
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        self._peer.sendall(frame("MESSAGE", headers, body))
