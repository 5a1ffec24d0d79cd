"""STOMP 1.2 as VDSM and the engine speak it: frames of a command, headers and a JSON-RPC body."""

from __future__ import annotations

import json
from typing import Any, Final

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


def body_of(value: object) -> bytes:
    """Write a body, with the spaces that the library puts in and VDSM leaves."""
    return json.dumps(value).encode()
