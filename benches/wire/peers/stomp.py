"""Today's engine and VDSM: JSON-RPC over STOMP 1.2, all statistics every 15 s, an event for each change of a status.

The engine subscribes to a queue for replies and to one for events. A request is a SEND frame, whatever comes is a
MESSAGE frame.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from benches.wire.peers.peer import Held
from benches.wire.peers.stomp_frames import EVENTS, REQUESTS, RESPONSES, body_of, frame, read_frame
from benches.wire.peers.stomp_host import StompHost
from benches.wire.relay import LOOPBACK

if TYPE_CHECKING:
    from benches.wire.ages import Ages
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import PolledHost, World

CYCLE_S: Final = 15.0
SAMPLE_S: Final = 15.0


class StompClient:
    """The engine's side.

    Args:
        port: of the host, or of the relay before it.
    """

    def __init__(self, port: int) -> None:
        self.messages = 0
        self.cpu_s = 0.0
        self._socket = socket.create_connection((LOOPBACK, port))
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(frame("CONNECT", {"accept-version": "1.2", "host": LOOPBACK, "heart-beat": "0,30000"}))
        assert read_frame(self._stream) is not None
        for destination in (RESPONSES, EVENTS):
            self._number = str(uuid5(NAMESPACE_OID, destination))
            headers = {"destination": destination, "id": self._number, "ack": "auto"}
            self._socket.sendall(frame("SUBSCRIBE", headers))

    def ask(self, events: int) -> list[dict[str, Any]]:
        """Ask for all statistics, and read so many events; gives the entries."""
        began = time.thread_time()
        number = str(uuid5(NAMESPACE_OID, f"{self.messages}"))
        body = body_of({"jsonrpc": "2.0", "method": "Host.getAllVmStats", "params": {}, "id": number})
        headers = {"destination": REQUESTS, "reply-to": RESPONSES, "content-length": str(len(body))}
        self._socket.sendall(frame("SEND", headers, body))
        result: list[dict[str, Any]] | None = None
        for _ in range(events + 1):
            came = read_frame(self._stream)
            assert came is not None
            message = json.loads(came[2])
            if message.get("id") == number:
                result = message["result"]
        self.cpu_s += time.thread_time() - began
        self.messages += 2 + events
        assert result is not None
        return result

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


class StompEngine:
    """Today's engine.

    Args:
        ages: of what it holds.
    """

    cycle_s = CYCLE_S
    sample_s: float | None = SAMPLE_S

    def __init__(self, ages: Ages) -> None:
        self._ages = ages
        self._pairs: list[tuple[PolledHost, StompHost, StompClient, Held]] = []

    def connect(self, world: World, relays: Relays) -> None:
        """Connect to all hosts that are asked."""
        self._world = world
        for host in world.hosts:
            server = StompHost(host, world)
            self._pairs.append((host, server, StompClient(relays.to(server.port)), Held(self._ages)))

    def ask(self, cycle: int) -> None:
        """All statistics; what has happened since the last cycle has been told before."""
        for host, server, client, held in self._pairs:
            # Before the first answer nobody is sure to have subscribed.
            client.ask(server.tell_events() if cycle else 0)
            held.replaced(host, self._world.now)

    def read(self) -> tuple[int, float]:
        """Messages and CPU seconds."""
        clients = [client for _, _, client, _ in self._pairs]
        return sum(client.messages for client in clients), sum(client.cpu_s for client in clients)

    def close(self) -> None:
        """Hang up."""
        for _, server, client, held in self._pairs:
            held.kept_until(self._world.now)
            client.close()
            server.close()
