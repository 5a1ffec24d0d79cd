"""Today's engine and VDSM: JSON-RPC over STOMP 1.2, all statistics every 15 s, an event for each change of a status.

The engine subscribes to a queue for replies and to one for events. A request is a SEND frame, whatever comes is a
MESSAGE frame. Events (``|virt|VM_status|<vm>``) tell the status, of a VM that has started everything, of one that has
ended how (lib/vdsm/api/vdsm-events.yml).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from benches.wire.peers import entries
from benches.wire.peers.peer import Held
from benches.wire.relay import LOOPBACK
from vmpulse_agent.hypervisor import LifecycleChange, LifecycleEvent
from vmpulse_contract.identity import vm_text

if TYPE_CHECKING:
    from benches.wire.ages import Ages
    from benches.wire.peers.http_wire import Relays
    from benches.wire.peers.world import PolledHost, World

CYCLE_S: Final = 15.0
SAMPLE_S: Final = 15.0
REQUESTS: Final = "jms.topic.vdsm_requests"
RESPONSES: Final = "jms.topic.vdsm_responses"
EVENTS: Final = "jms.queue.events"
END: Final = b"\x00"


def frame(command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Write a STOMP frame."""
    head = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{head}\n".encode() + body + END


def read_frame(stream: Any) -> tuple[str, dict[str, str], bytes] | None:
    """Read a STOMP frame from a file of bytes; None at its end."""
    command = stream.readline().decode().strip("\n\0")
    if not command:
        return None
    headers = {}
    while line := stream.readline().decode().rstrip("\n"):
        name, _, value = line.partition(":")
        headers[name] = value
    body = stream.read(int(headers.get("content-length", "0")))
    assert stream.read(1) == END
    return command, headers, body


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
        return _json({"jsonrpc": "2.0", "id": call["id"], "result": result})

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
        return _json({"jsonrpc": "2.0", "method": f"|virt|VM_status|{vm}", "params": params})

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


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


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
        body = _json({"jsonrpc": "2.0", "method": "Host.getAllVmStats", "params": {}, "id": number})
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
