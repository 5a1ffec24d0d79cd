"""Who may ask the API for what: scopes, bearer tokens, and a pace for each address; headers that keep browsers strict.

Tokens are 32 random bytes, so that what is kept of them, a plain SHA-256, cannot be turned back. Without tokens
everybody who gets through may do everything: for loopback, or behind a proxy that asks.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from litestar.enums import ScopeType

from vmpulse_consumers.errors import TokensUnusable
from vmpulse_consumers.http.bounds import reply
from vmpulse_consumers.http.peers import peer_of
from vmpulse_consumers.http.refusals import Fault
from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.bounded import Bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

REQUESTS_S: Final = 50.0
REQUESTS: Final = 500.0
"""Of one address: a page of tables asks once a second, and a script that reads 500 VMs one by one is served at once."""
FAILURES_S: Final = 1.0
FAILURES: Final = 20.0
"""Wrong tokens of one address: guessing 32 bytes would be hopeless anyway, but it costs us work and log lines."""
ADDRESSES_KEPT: Final = 4096
KNOWN_KEY: Final = "vmpulse_known"
"""In a request's state: whether whoever asks may read, for routes that say less to others."""
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every reply that does not say otherwise itself. There is no CORS: pages of elsewhere read nothing."""


class AccessScope(StrEnum):
    """What a token is for."""

    READ = "read"
    METRICS = "metrics"
    ADMIN = "admin"


OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Supervisors ask these, and learn a word from them."""


def needed(method: str, path: str) -> AccessScope | None:
    """The scope that a request takes; None: none."""
    if method not in {"GET", "HEAD", "OPTIONS"}:
        return AccessScope.ADMIN
    # As the router takes it: slashes at the end, and more than one of them, mean nothing.
    path = "/" + "/".join(filter(None, path.split("/")))
    if path in OPEN_PATHS:
        return None
    return AccessScope.METRICS if path == "/metrics" else AccessScope.READ


class Tokens(Protocol):
    """The tokens that are known now."""

    def scopes(self, token: str) -> frozenset[AccessScope] | None:
        """The scopes of a token; None: it is not known."""


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_tokens(lines: Iterable[str], where: str) -> dict[str, frozenset[AccessScope]]:
    """Read tokens, one a line: name, scopes with commas, SHA-256 in hexadecimal. Raises TokensUnusable."""
    known: dict[str, frozenset[AccessScope]] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            _, scopes, hashed = words
            known[_checked_hash(hashed)] = frozenset(map(AccessScope, scopes.split(",")))
        except ValueError:
            allowed = "NAME SCOPES SHA256, with scopes of read, metrics, admin; `vmpulse token` writes it"
            raise TokensUnusable(f"{where}, line {number} is no token; allowed: {allowed}") from None
    return known


def _checked_hash(text: str) -> str:
    """Give a SHA-256 in lower-case hexadecimal. Raises ValueError."""
    if len(bytes.fromhex(text)) != hashlib.sha256().digest_size:
        raise ValueError(text)
    return text.lower()


class Peer:
    """What one address, or one network of IPv6, may still ask."""

    def __init__(self, now: float) -> None:
        self.requests = Allowance(REQUESTS_S, REQUESTS, now)
        self.failures = Allowance(FAILURES_S, FAILURES, now)


class Guarded:
    """An ASGI app that passes to *app* what may be asked.

    Args:
        app: what is guarded.
        tokens: the tokens that are known; None: everybody may do everything.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, clock: Callable[[], float]) -> None:
        self._app = app
        self._tokens = tokens
        self._clock = clock
        self._peers: Bounded[str, Peer] = Bounded(ADDRESSES_KEPT, Peer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event, as ASGI has it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        strict = _strict(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            status, fault, headers = refusal
            await reply(strict, status, fault, headers)
            return
        await self._app(scope, receive, strict)

    def _refusal(self, scope: HTTPScope) -> tuple[int, Fault, list[tuple[bytes, bytes]]] | None:
        peer = self._peer(scope)
        if peer is not None and not peer.requests.take(1.0, self._clock()):
            return _too_fast(peer.requests.wait_s(1.0, self._clock()))
        scopes = self._scopes(scope)
        state: Any = scope.setdefault("state", {})
        state[KNOWN_KEY] = scopes is None or AccessScope.READ in scopes
        wanted = needed(scope["method"], scope["path"])
        if scopes is None or wanted is None or wanted in scopes:
            return None
        if peer is not None and not peer.failures.take(1.0, self._clock()):
            return _too_fast(peer.failures.wait_s(1.0, self._clock()))
        if scopes:
            return 403, Fault(f"this token is not for {wanted}", "header Authorization", f"a token for {wanted}"), []
        challenge = [(b"www-authenticate", b'Bearer realm="vmpulse"')]
        return 401, Fault("there is no token that is known here", "header Authorization", "Bearer TOKEN"), challenge

    def _scopes(self, scope: HTTPScope) -> frozenset[AccessScope] | None:
        """What whoever asks may do; None: everything."""
        if self._tokens is None:
            return None
        for name, value in scope["headers"]:
            if name == b"authorization":
                kind, _, token = value.partition(b" ")
                if kind.lower() == b"bearer":
                    return self._tokens.scopes(token.strip().decode("latin-1")) or frozenset()
        return frozenset()

    def _peer(self, scope: HTTPScope) -> Peer | None:
        """The allowances of whoever asks; None for this machine, on which others could do worse."""
        client = scope.get("client")
        peer = peer_of("" if client is None else client[0])
        return None if peer is None else self._peers.of(peer, self._clock())


def _too_fast(wait_s: float) -> tuple[int, Fault, list[tuple[bytes, bytes]]]:
    after = max(1, round(wait_s))
    fault = Fault("this address asks too often", "client", f"{REQUESTS_S:g} requests a second")
    return 429, fault, [(b"retry-after", str(after).encode())]


def _strict(send: Send) -> Send:
    """Add HEADERS to a reply."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: Mapping[bytes, bytes] = dict(message["headers"])
            missing = [(name, value) for name, value in HEADERS if name not in given]
            message["headers"] = [*message["headers"], *missing]
        await send(message)

    return sending
