"""Who may ask for what: tokens with their scopes, paces, TLS, and headers, over a real connection."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.types import Message, Receive, Scope, Send

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, small_fleet
from tests.edges.certificates import Authority
from vmpulse_consumers.errors import CertificateUnusable, TokensUnusable
from vmpulse_consumers.http import build_app
from vmpulse_consumers.http.access import (
    ADDRESSES_KEPT,
    FAILURES,
    HEADERS,
    REQUESTS,
    AccessScope,
    Guarded,
    needed,
    read_tokens,
    token_hash,
)
from vmpulse_consumers.http.certificate import Certificate
from vmpulse_consumers.http.token_file import LOOK_S, TokenFile

READER, SCRAPER, OPERATOR = "reader-token", "scraper-token", "operator-token"
LINES = [
    "# who may do what",
    f"grafana read {token_hash(READER)}",
    f"prometheus metrics {token_hash(SCRAPER)}",
    f"operator read,admin {token_hash(OPERATOR).upper()}  # may forget hosts",
]


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """At nought."""
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> TokenFile:
    """A file with three of them."""
    (tmp_path / "tokens").write_text("\n".join(LINES), encoding="ascii")
    return TokenFile(tmp_path / "tokens", clock)


@contextlib.asynccontextmanager
async def guarded(fleet: Fleet, tokens: TokenFile, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a fleet that is served to those with tokens."""
    app = Guarded(build_app(fleet.view, fleet.clock, fleet.events), tokens, clock)
    async with served(fleet, app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"authorization": f"Bearer {token}"}


# --- scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token, allowed",
    [
        (None, {"/healthz"}),
        ("a-guess", {"/healthz"}),
        (READER, {"/healthz", "/api/v1/vms", "/api/v1/fleet", "/schema"}),
        (SCRAPER, {"/healthz", "/metrics"}),
        (OPERATOR, {"/healthz", "/api/v1/vms", "/api/v1/fleet", "/schema"}),
    ],
)
async def test_each_token_opens_its_scopes_and_nothing_else(
    tokens: TokenFile, clock: Clock, token: str | None, allowed: set[str]
) -> None:
    """Without a known token there is nothing but health: 401 with a challenge; with one for something else 403."""
    async with guarded(small_fleet(), tokens, clock) as client:
        for path in ("/healthz", "/api/v1/vms", "/api/v1/fleet", "/schema", "/metrics", "/nothing"):
            reply = await client.get(path, headers={} if token is None else bearer(token))
            if path in allowed:
                assert reply.status_code == 200, path
            elif token in {None, "a-guess"}:
                assert (reply.status_code, reply.headers["www-authenticate"]) == (401, 'Bearer realm="vmpulse"'), path
            else:
                assert reply.status_code == (404 if path == "/nothing" and token != SCRAPER else 403), path


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/metrics//", "//metrics/"])
async def test_a_path_has_one_scope_however_it_is_spelled(tokens: TokenFile, clock: Clock, path: str) -> None:
    """The router takes slashes at the end, and more than one, for nothing; so does what looks at scopes."""
    async with guarded(small_fleet(), tokens, clock) as client:
        assert needed("GET", path) is AccessScope.METRICS
        for spelled in (path, f"/{path[1:].replace('/', '%2f')}"):
            url = httpx.URL(client.base_url).copy_with(raw_path=spelled.encode())
            assert (await client.get(url, headers=bearer(READER))).status_code == 403, spelled


async def test_only_an_admin_changes_anything(tokens: TokenFile, clock: Clock) -> None:
    """A reader's token forgets no host; an operator's does what the view allows."""
    async with guarded(small_fleet(), tokens, clock) as client:
        path = "/api/v1/hosts/alpha/forget"
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers=bearer(READER))).status_code == 403
        assert (await client.post(path, headers=bearer(OPERATOR))).status_code == 409


async def test_readiness_tells_strangers_no_names(tokens: TokenFile, clock: Clock) -> None:
    """Supervisors see the status without a token; the reasons, which name hosts, are for readers."""
    fleet = small_fleet()
    fleet.view.broker_ok = False
    async with guarded(fleet, tokens, clock) as client:
        told = await client.get("/readyz")
        assert (told.status_code, told.json()["reasons"]) == (503, [])
        assert (await client.get("/readyz", headers=bearer(READER))).json()["reasons"]


def test_what_is_not_read_takes_an_admin() -> None:
    """Whatever method is added later."""
    assert {needed(method, "/api/v1/vms") for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE")} == {
        AccessScope.ADMIN
    }
    assert needed("POST", "/healthz") is AccessScope.ADMIN


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_token_that_is_taken_back_counts_no_more(tmp_path: Path, tokens: TokenFile, clock: Clock) -> None:
    """The file is read again when it has changed, within a second."""
    assert tokens.scopes(READER) == frozenset({AccessScope.READ})
    (tmp_path / "tokens").write_text("\n".join(LINES[2:]), encoding="ascii")
    clock.now += LOOK_S + 0.1
    assert tokens.scopes(READER) is None
    assert tokens.scopes(OPERATOR) == frozenset({AccessScope.READ, AccessScope.ADMIN})


def test_a_file_that_is_damaged_later_locks_nobody_out(
    tmp_path: Path, tokens: TokenFile, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and the tokens that were known stay."""
    (tmp_path / "tokens").write_text("nonsense", encoding="ascii")
    for _ in range(3):
        clock.now += LOOK_S + 0.1
        assert tokens.scopes(READER) == frozenset({AccessScope.READ})
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    "line", ["name read", "name write 00", f"name read,root {'0' * 64}", "name read zz", f"a b read {'0' * 64}"]
)
def test_a_bad_line_is_named(line: str) -> None:
    """At the start, with what a line has to be; the line itself may be a token and is not repeated."""
    with pytest.raises(TokensUnusable, match=r"tokens, line 2 is no token; allowed: NAME SCOPES SHA256") as caught:
        read_tokens(["", line], "tokens")
    assert line not in str(caught.value)


# --- paces ------------------------------------------------------------------------------------------------------------


async def asked(app: Guarded, address: str, token: str | None = None) -> int:
    """Ask from an address; gives the status."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    # As much of a request as is looked at.
    scope: Any = {"type": "http", "method": "GET", "path": "/api/v1/vms", "headers": headers, "client": (address, 1)}
    receive: Any = None
    await app(scope, receive, send)
    return statuses[0]


async def answers(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An app that says yes to everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_an_address_that_asks_too_often_is_put_off_alone(clock: Clock) -> None:
    """It gets 429 and may ask again as its pace allows; others, and this machine, are served."""
    app = Guarded(answers, None, clock)
    assert {await asked(app, "10.0.0.1") for _ in range(int(REQUESTS))} == {200}
    assert await asked(app, "10.0.0.1") == 429
    assert await asked(app, "10.0.0.2") == 200
    assert {await asked(app, "127.0.0.1") for _ in range(int(REQUESTS) + 10)} == {200}
    clock.now += 1.0
    assert await asked(app, "10.0.0.1") == 200


async def test_a_network_of_ipv6_is_one_asker(tokens: TokenFile, clock: Clock) -> None:
    """One customer has 2^64 addresses: all of them share a pace, and a wrong token of each is one of the same asker."""
    guessed = Guarded(answers, tokens, clock)
    assert {await asked(guessed, f"2001:db8::{number:x}", "wrong") for number in range(int(FAILURES))} == {401}
    assert await asked(guessed, "2001:db8::ffff:0", "wrong") == 429
    app = Guarded(answers, None, clock)
    assert {await asked(app, f"2001:db8:0:1::{number:x}") for number in range(int(REQUESTS))} == {200}
    assert await asked(app, "2001:db8:0:1:ffff:ffff:ffff:ffff") == 429
    assert await asked(app, "2001:db8:0:2::1") == 200
    assert {await asked(app, "::1") for _ in range(int(REQUESTS) + 10)} == {200}


async def test_ipv4_is_the_same_on_a_socket_for_both(clock: Clock) -> None:
    """Such a socket shows IPv4 as ::ffff:10.0.0.1: each of these is an address, and this machine is still this one."""
    app = Guarded(answers, None, clock)
    assert {await asked(app, "::ffff:10.0.0.1") for _ in range(int(REQUESTS))} == {200}
    assert await asked(app, "10.0.0.1") == 429
    assert await asked(app, "::ffff:10.0.0.2") == 200
    assert {await asked(app, "::ffff:127.0.0.1") for _ in range(int(REQUESTS) + 10)} == {200}


async def test_guessing_is_slow(tokens: TokenFile, clock: Clock) -> None:
    """After some wrong tokens of one address more get 429, the right one among them does not."""
    app = Guarded(answers, tokens, clock)
    assert {await asked(app, "10.0.0.1", "wrong") for _ in range(int(FAILURES))} == {401}
    assert await asked(app, "10.0.0.1", "wrong") == 429
    assert await asked(app, "10.0.0.1", READER) == 200


async def test_addresses_take_no_memory(clock: Clock) -> None:
    """Of so many each is remembered, and no more."""
    app = Guarded(answers, None, clock)
    for number in range(ADDRESSES_KEPT + 10):
        await asked(app, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(app._peers) == ADDRESSES_KEPT


# --- headers and TLS --------------------------------------------------------------------------------------------------


async def test_every_reply_keeps_browsers_strict(tokens: TokenFile, clock: Clock) -> None:
    """What is served, refused, or not there: none may be kept, framed, sniffed, or read by pages of elsewhere."""
    async with guarded(small_fleet(), tokens, clock) as client:
        for path in ("/healthz", "/api/v1/vms", "/nothing", "/metrics"):
            for headers in ({}, bearer(READER), {"origin": "http://elsewhere"}):
                reply = await client.get(path, headers=headers)
                assert all(reply.headers[name.decode()] == value.decode() for name, value in HEADERS), path
                assert not any(name.startswith("access-control") for name in reply.headers)


async def test_it_is_served_with_tls(tmp_path: Path, tokens: TokenFile, clock: Clock) -> None:
    """Clients that trust the authority get through, TLS 1.1 does not, and a renewed certificate is the next one's."""
    authority = Authority(tmp_path)
    pair = authority.signs("view", "IP:127.0.0.1")
    certificate = Certificate(str(pair.cert), str(pair.key))
    fleet = small_fleet()
    app = Guarded(build_app(fleet.view, fleet.clock, fleet.events), tokens, clock)
    trusting = ssl.create_default_context(cafile=authority.pair.cert)
    async with served(fleet, app, certificate.context) as url:
        assert url.startswith("https://")
        serials = []
        for _ in range(2):
            async with httpx.AsyncClient(base_url=url, verify=trusting) as client:
                reply = await client.get("/api/v1/fleet", headers=bearer(READER))
                assert reply.status_code == 200
                stream = reply.extensions["network_stream"].get_extra_info("ssl_object")
                serials.append(stream.getpeercert()["serialNumber"])
            authority.signs("view", "IP:127.0.0.1")
            os.utime(pair.cert, ns=(1, 1))
            certificate.look()
        assert serials[0] != serials[1]
        old = ssl.create_default_context(cafile=authority.pair.cert)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        async with httpx.AsyncClient(base_url=url, verify=old) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/healthz")


def test_a_certificate_that_is_none_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start that is an error; later it is logged, and the one before stays."""
    with pytest.raises(CertificateUnusable, match="No such file"):
        Certificate(str(tmp_path / "no.pem"), "")
    pair = Authority(tmp_path).signs("view")
    certificate = Certificate(str(pair.cert), str(pair.key))
    pair.cert.write_text("no certificate", encoding="ascii")
    certificate.look()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the one before stays" in caplog.text
