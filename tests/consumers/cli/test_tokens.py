"""Tokens, TLS and exposure from the command line: made, shown, and what a program says that lacks them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.consumers.cli.running import run
from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import small_fleet
from tests.edges.certificates import Authority
from vmpulse_consumers.http import build_app
from vmpulse_consumers.http.access import Guarded
from vmpulse_consumers.http.certificate import Certificate
from vmpulse_consumers.http.token_file import TokenFile


async def made(folder: Path, name: str, *scopes: str) -> Path:
    """Have a token made; gives the file that it was put in."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    done = await run("token", name, *options, "--file", str(folder / "tokens"))
    assert (done.code, done.err, len(done.lines)) == (0, "", 1)
    (folder / name).write_text(done.out, encoding="ascii")
    return folder / name


async def test_a_file_without_its_last_line_end_is_not_damaged(tmp_path: Path) -> None:
    """A token that is added begins a line of its own, also after one that an editor left open."""
    (tmp_path / "tokens").write_text(f"old read {'0' * 64}", encoding="ascii")
    await made(tmp_path, "new", "read")
    await made(tmp_path, "newer", "read")
    lines = (tmp_path / "tokens").read_text(encoding="ascii").splitlines()
    assert [line.split()[0] for line in lines] == ["old", "new", "newer"]


async def test_a_token_opens_a_view_that_is_served_with_tls(tmp_path: Path) -> None:
    """Made, given to the client with the authority, and let in; the file holds its hash alone."""
    reader = await made(tmp_path, "reader", "read")
    operator = await made(tmp_path, "operator", "read", "admin")
    assert reader.read_text(encoding="ascii").strip() not in (tmp_path / "tokens").read_text(encoding="ascii")
    assert not stat.S_IMODE((tmp_path / "tokens").stat().st_mode) & stat.S_IROTH
    authority = Authority(tmp_path)
    pair = authority.signs("view", "IP:127.0.0.1")
    fleet = small_fleet()
    app = Guarded(
        build_app(fleet.view, fleet.clock, fleet.events), TokenFile(tmp_path / "tokens", fleet.clock), fleet.clock
    )
    async with served(fleet, app, Certificate(str(pair.cert), str(pair.key)).context) as url:
        trusting = ("--ca-file", str(authority.pair.cert))
        done = await run("hosts", *trusting, "--token-file", str(reader), api=url)
        assert (done.code, done.err) == (0, "")
        assert "alpha" in done.out
        done = await run("hosts", *trusting, api=url)
        assert done.code == 1
        assert "there is no token that is known here; give a token with --token-file" in done.err
        done = await run("hosts", "forget", "alpha", *trusting, "--token-file", str(reader), api=url)
        assert "this token is not for admin" in done.err
        done = await run("hosts", "forget", "alpha", *trusting, "--token-file", str(operator), api=url)
        assert "alpha is live and cannot be forgotten" in done.err
        done = await run("hosts", "--token-file", str(reader), api=url)
        assert done.code == 1
        assert "is not trusted: unable to get local issuer certificate; name the file of its authority" in done.err


async def test_no_token_goes_beyond_loopback_in_clear(tmp_path: Path) -> None:
    """An http view that is not known to be this machine is told no token, unless --insecure takes it upon itself."""
    reader = await made(tmp_path, "reader", "read")
    async with served(small_fleet()) as url:
        # Resolved to 127.0.0.1, and no spelling of loopback that we know.
        beyond = url.replace("127.0.0.1", "127.1")
        for words in (("hosts",), ("vm", "1"), ("hosts", "forget", "alpha"), ("watch",)):
            done = await run(*words, "--token-file", str(reader), api=beyond)
            assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
            assert "setting VMPULSE_API: " in done.err
            assert (
                "https://..., since http:// would send a token in clear; loopback, as through an ssh tunnel" in done.err
            )
        assert (await run("hosts", "--token-file", str(reader), "--insecure", api=beyond)).code == 0
        assert (await run("hosts", api=beyond)).code == 0
        assert (await run("hosts", "--token-file", str(reader), api=url)).code == 0


@pytest.mark.parametrize(
    "words, amiss",
    [
        (("token", "a b", "--scope", "read", "--file", "x"), "1 to 64 of letters, digits, dots, - and _"),
        (("token", "a", "--scope", "write", "--file", "x"), "invalid choice: 'write'"),
        (("token", "a", "--scope", "read", "--file", "/no/such/folder/x"), "No such file or directory"),
        (("hosts", "--token-file", "/no/such/file"), "a readable file"),
        (("hosts", "--ca-file", "/no/such/file"), "a readable PEM file with an authority"),
        (("view", "--http-host", "192.0.2.1"), "with http_cert_file and http_tokens_file"),
        (("view", "--http-host", "192.0.2.1", "--http-tokens-file", "x"), "with http_cert_file and http_tokens_file"),
        (("view", "--http-key-file", "x"), "nothing without http_cert_file"),
        (("view", "--http-tokens-file", "/no/such/file"), "http_tokens_file /no/such/file cannot be read"),
        (("view", "--http-cert-file", "/no/such/file"), "http_cert_file '/no/such/file' and its key cannot be used"),
    ],
)
async def test_what_is_in_the_way_is_said_with_a_remedy(words: tuple[str, ...], amiss: str) -> None:
    """Bad names and files, and a view that would be open to strangers, which does not start."""
    done = await run(*words)
    assert done.code in {1, 2}
    assert amiss in done.err
    assert "Traceback" not in done.err
