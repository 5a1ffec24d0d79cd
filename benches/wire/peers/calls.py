"""Calls by name over HTTP, as XML-RPC and as JSON-RPC, with the libraries that Python brings."""

from __future__ import annotations

import json
import time
import xmlrpc.client
from typing import TYPE_CHECKING, Any, Final, Protocol

from benches.wire.peers.http_wire import HttpClient, HttpHost, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benches.wire.peers.http_wire import Relays

PATH: Final = "/RPC2"


class Codec(Protocol):
    """How calls and their results travel."""

    content_type: str

    def write_call(self, verb: str, arguments: tuple[Any, ...]) -> bytes:
        """Write a call."""

    def read_call(self, raw: bytes) -> tuple[str, tuple[Any, ...]]:
        """Read a call: its verb and arguments."""

    def write_result(self, result: Any) -> bytes:
        """Write what a call gives."""

    def read_result(self, raw: bytes) -> Any:
        """Read it."""


class XmlCodec:
    """XML-RPC.

    Args:
        compact: without line breaks and without the name of the type that needs none, as Apache's library writes it.
    """

    content_type = "text/xml"

    def __init__(self, *, compact: bool = False) -> None:
        self._compact = compact

    def write_call(self, verb: str, arguments: tuple[Any, ...]) -> bytes:
        """Write a call."""
        return xmlrpc.client.dumps(arguments, verb).encode()

    def read_call(self, raw: bytes) -> tuple[str, tuple[Any, ...]]:
        """Read a call."""
        arguments, verb = xmlrpc.client.loads(raw)
        return str(verb), arguments

    def write_result(self, result: Any) -> bytes:
        """Write what a call gives."""
        text = xmlrpc.client.dumps((result,), methodresponse=True)
        if self._compact:
            text = text.replace("\n", "").replace("<string>", "").replace("</string>", "")
        return text.encode()

    def read_result(self, raw: bytes) -> Any:
        """Read it."""
        ((result,), _) = xmlrpc.client.loads(raw)
        return result


class JsonCodec:
    """JSON-RPC 2.0, without spaces."""

    content_type = "application/json"

    def write_call(self, verb: str, arguments: tuple[Any, ...]) -> bytes:
        """Write a call."""
        return _json({"jsonrpc": "2.0", "id": 1, "method": verb, "params": arguments})

    def read_call(self, raw: bytes) -> tuple[str, tuple[Any, ...]]:
        """Read a call."""
        call = json.loads(raw)
        return call["method"], tuple(call["params"])

    def write_result(self, result: Any) -> bytes:
        """Write what a call gives."""
        return _json({"jsonrpc": "2.0", "id": 1, "result": result})

    def read_result(self, raw: bytes) -> Any:
        """Read it."""
        return json.loads(raw)["result"]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Station:
    """One host's server and the engine's connection to it.

    Args:
        verbs: what the host answers.
        codec: how.
        relays: count what goes through.
    """

    def __init__(self, verbs: Mapping[str, Callable[..., Any]], codec: Codec, relays: Relays) -> None:
        self.messages = 0
        self.cpu_s = 0.0
        self._codec = codec

        def answer(_: str, raw: bytes) -> Reply:
            verb, arguments = codec.read_call(raw)
            return Reply(codec.content_type, codec.write_result(verbs[verb](*arguments)))

        self._server = HttpHost(answer)
        self._client = HttpClient(relays.to(self._server.port))

    def call(self, verb: str, *arguments: Any) -> Any:
        """Ask; the time that this thread takes for it is the reader's."""
        began = time.thread_time()
        call = self._codec.write_call(verb, arguments)
        result = self._codec.read_result(self._client.post(PATH, call, self._codec.content_type))
        self.cpu_s += time.thread_time() - began
        self.messages += 2
        return result

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._server.close()
