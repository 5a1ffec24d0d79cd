"""Asks a running view over HTTP, and turns what goes wrong into one line with a remedy."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from vmpulse_consumers.cli.replies import ErrorReply
from vmpulse_consumers.errors import ViewBusy, ViewRefused, ViewUnreachable
from vmpulse_consumers.server_url import checked, refuse_clear, trusting
from vmpulse_edges.settings_source import read_secret
from vmpulse_edges.tls import distrust

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Iterator, Mapping
    from types import TracebackType

DEFAULT_API: Final = "http://127.0.0.1:8080"
VARIABLE: Final = "VMPULSE_API"
TOKEN_VARIABLE: Final = "VMPULSE_API_TOKEN_FILE"  # noqa: S105 - a name
CA_VARIABLE: Final = "VMPULSE_API_CA_FILE"
ALLOWED: Final = "http://HOST:PORT or https://HOST:PORT, without a path"
TIMEOUT_S: Final = 5.0

T = TypeVar("T")


def add_address_option(parser: argparse.ArgumentParser) -> None:
    """Add what all subcommands share that ask a view."""
    parser.add_argument(
        "--api", metavar="URL", help=f"the view's address (default: ${VARIABLE}, or else {DEFAULT_API})"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"file with a token of `vmpulse token` (default: ${TOKEN_VARIABLE})"
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", help=f"the authority of an https view (default: ${CA_VARIABLE}, or the system's)"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="send the token in clear to an http view beyond loopback, where something else protects the way",
    )


def add_api_options(parser: argparse.ArgumentParser) -> None:
    """Add what all reading subcommands share."""
    add_address_option(parser)
    parser.add_argument("--json", action="store_true", help="print the API's JSON instead of a table")


def open_api(args: argparse.Namespace) -> Api:
    """Give the API that the command line means; what it leaves out the environment says. Raises SettingsError."""
    address, url = _given(args.api, "--api", VARIABLE, DEFAULT_API)
    token_setting, token_file = _given(args.token_file, "--token-file", TOKEN_VARIABLE, "")
    ca_setting, ca_file = _given(args.ca_file, "--ca-file", CA_VARIABLE, "")
    url = checked(address, url, ALLOWED)
    token = read_secret(token_setting, token_file)
    if token is not None and not args.insecure:
        refuse_clear(address, url, "a token")
    return Api(url, token, trusting(ca_setting, ca_file))


def _given(value: str | None, option: str, variable: str, default: str) -> tuple[str, str]:
    """Give the name and value of what is set: the option, the environment's variable, or the default."""
    return (option, value) if value is not None else (variable, os.environ.get(variable) or default)


class Api:
    """The API of one view; a context manager.

    Args:
        url: its address, checked.
        token: shown to it; None: none.
        trusted: the authorities that may have signed an https view's certificate.
    """

    def __init__(self, url: str, token: str | None, trusted: ssl.SSLContext) -> None:
        self.url = url
        headers = {} if token is None else {"authorization": f"Bearer {token.strip()}"}
        # Proxies are for the world outside; a view is addressed directly.
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, headers=headers, verify=trusted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """Fetch one reply's JSON.

        Raises:
            ViewUnreachable: nobody answers there in time.
            ViewRefused: the view says no; the error repeats what is allowed.
        """
        return self._ask("GET", path, parameters)

    def post(self, path: str) -> bytes:
        """Have the view do something. Gives its reply's JSON; raises as ``get`` does."""
        return self._ask("POST", path)

    def _ask(self, method: str, path: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        try:
            reply = self._client.request(method, path, params=parameters)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if reply.status_code != httpx.codes.OK:
            raise ViewRefused(self._refusal(reply))
        return reply.content

    @contextmanager
    def lines(
        self, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str], silence_s: float
    ) -> Iterator[Iterator[str]]:
        """Open a reply that has no end of its own, and give its lines as they come.

        Raises, also while the lines are read:
            ViewUnreachable: nobody answers, the connection ended, or nothing came for *silence_s*.
            ViewBusy: the view has no room for another one now.
            ViewRefused: the view says no.
        """
        timeout = httpx.Timeout(TIMEOUT_S, read=silence_s)
        try:
            with self._client.stream("GET", path, params=parameters, headers=headers, timeout=timeout) as reply:
                if reply.status_code != httpx.codes.OK:
                    reply.read()
                    refused = ViewBusy if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE else ViewRefused
                    raise refused(self._refusal(reply))
                yield _lines(reply.iter_bytes())
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> ViewUnreachable:
        if distrusted := distrust(error):
            remedy = f"name the file of its authority with --ca-file or {CA_VARIABLE}, and check the address"
            return ViewUnreachable(f"the certificate of the view at {self.url} is not trusted: {distrusted}; {remedy}")
        reason = str(error) or type(error).__name__
        remedy = f"start one there with `vmpulse view`, or name another with --api or {VARIABLE}"
        return ViewUnreachable(f"no view answers at {self.url} ({reason}); {remedy}")

    def _refusal(self, reply: httpx.Response) -> str:
        try:
            fault = msgspec.json.decode(reply.content, type=ErrorReply).error
        except msgspec.MsgspecError:
            return f"{self.url} answers with HTTP status {reply.status_code} and is no view; check --api or {VARIABLE}"
        if reply.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN} and "token" in fault.what:
            return f"{fault.what}; give a token with --token-file or {TOKEN_VARIABLE}"
        return f"{fault.what}; allowed: {fault.allowed}" if fault.allowed else fault.what

    def read(self, raw: bytes, kind: type[T]) -> T:
        """Decode a reply. Raises ViewRefused if it is not one of a view's."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise ViewRefused(f"{self.url} does not answer like a view ({error}); check --api or {VARIABLE}") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Split at line feeds only: httpx, like Python, would split at others that JSON may have in its texts too."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


def segment(text: str) -> str:
    """Write a name as one segment of a path."""
    return quote(text, safe="")
