"""A host that has been taken over and says as much as it can: ``python -m benches.flood.host``, started by the bench.

It uses the host's own user and rights. Sockets are written as fast as the broker reads them, from bytes made before:
nothing of a client library slows it down. Its last line is the number of messages that were sent.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pamqp import body, commands, frame, header

from vmpulse_contract import topology
from vmpulse_contract.identity import host_id

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK: Final = "127.0.0.1"
FRAME_EXTRA: Final = 8
"""Bytes of a frame beside its payload."""
FRAME_BYTES: Final = (8 << 10) - FRAME_EXTRA
"""As deploy/rabbitmq/rabbitmq.conf has frame_max; RabbitMQ's own is 128 KiB."""
CHANNELS: Final = 1
BATCH_BYTES: Final = 1 << 17
SILENT_S: Final = 30.0
"""A broker that reads nothing for so long has given up."""
NOTHING_READABLE: Final = b"\xc1"
"""The one byte that msgpack never uses."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Flood, and say how much it was."""
    parser = argparse.ArgumentParser(prog="python -m benches.flood.host")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(arguments)
    password = options.password_file.read_text(encoding="utf-8")
    batch, count = messages(options.host, options.bytes)
    sent = [0] * options.connections
    end = time.monotonic() + options.seconds

    def pour(at: int) -> None:
        with connection(options.port, options.host, password) as open_socket:
            while time.monotonic() < end:
                open_socket.sendall(batch)
                sent[at] += count

    threads = [threading.Thread(target=pour, args=(at,)) for at in range(options.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{sum(sent)}\n")
    return 0


def messages(host: str, size: int) -> tuple[bytes, int]:
    """Some frames of the host, as they are on the wire, and how many they are; nobody can read their bodies."""
    properties = commands.Basic.Properties(user_id=host)
    publish = commands.Basic.Publish(exchange=topology.RUNTIME, routing_key=topology.frame_key(host_id(host)))
    parts: list[frame.FrameTypes] = [publish, header.ContentHeader(0, size, properties)]
    parts += [body.ContentBody(NOTHING_READABLE * min(FRAME_BYTES, size - at)) for at in range(0, size, FRAME_BYTES)]
    one = b"".join(frame.marshal(part, 1) for part in parts)
    count = max(1, BATCH_BYTES // len(one))
    return one * count, count


def connection(port: int, user: str, password: str) -> socket.socket:
    """Open a connection with one channel. Raises OSError, and ConnectionError where the broker hangs up."""
    opened = socket.create_connection((LOOPBACK, port), SILENT_S)
    opened.sendall(b"AMQP\x00\x00\x09\x01")
    pass_over_a_frame(opened)
    for channel, answer in (
        (0, commands.Connection.StartOk({}, "PLAIN", f"\0{user}\0{password}", "en_US")),
        # No heartbeats: what is written all the time needs none.
        (0, commands.Connection.TuneOk(CHANNELS, FRAME_BYTES + FRAME_EXTRA, 0)),
        (0, commands.Connection.Open("/")),
        (1, commands.Channel.Open()),
    ):
        opened.sendall(frame.marshal(answer, channel))
        if not isinstance(answer, commands.Connection.TuneOk):
            pass_over_a_frame(opened)
    return opened


def pass_over_a_frame(opened: socket.socket) -> None:
    """Read one frame: its type, channel, length, payload and end."""
    (length,) = struct.unpack(">3xL", exactly(opened, 7))
    exactly(opened, length + 1)


def exactly(opened: socket.socket, count: int) -> bytes:
    """Read so many bytes."""
    found = opened.recv(count, socket.MSG_WAITALL)
    if len(found) < count:
        raise ConnectionError("the broker has hung up")
    return found


if __name__ == "__main__":
    sys.exit(main())
