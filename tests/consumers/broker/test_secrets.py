"""No secret is ever logged: the programs say all that they can, through good and bad, and none of it is a secret."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.real_broker import ended, started
from tests.waiting import eventually
from vmpulse_contract.rights import CLI, VIEW
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]

WRONG = "a-wrong-password-of-ours"


class Secrets:
    """Files with secrets, and what they hold."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[str] = []

    def file(self, name: str, secret: str) -> str:
        """Put a secret into a file of its own; gives the file."""
        path = self._folder / name
        path.write_text(secret + "\n", encoding="ascii")
        path.chmod(0o600)
        self.all.append(secret)
        return str(path)


async def test_no_program_says_a_secret(guarded_broker: PrivateBroker, tmp_path: Path) -> None:
    """Agent, view and commands with their logs at the finest, right and wrong passwords in files and URLs, tokens."""
    secrets = Secrets(tmp_path)
    address = f"{guarded_broker.host}:{guarded_broker.port}"
    passwords = {name: secrets.file(name, f"{name}-password") for name in ("h001", VIEW, CLI)}
    wrong = secrets.file("wrong", WRONG)
    said: list[str] = []
    token = await ended("vmpulse_consumers", "token", "reader", "--scope", "read", "--file", str(tmp_path / "tokens"))
    token_file = secrets.file("token", token.out.strip())
    bearer = {"authorization": f"Bearer {token.out.strip()}"}
    view = ["view", "--http-port", "0", "--http-tokens-file", str(tmp_path / "tokens"), "--log-level", "debug"]
    view += ["--broker-url", f"amqp://{VIEW}@{address}/", *given(passwords[VIEW])]
    agent = ["run", "--host", "h001", "--uri", "test:///default", "--metrics-port", "", "--log-level", "debug"]
    agent += ["--broker-url", f"amqp://{address}/", *given(passwords["h001"])]
    async with started("vmpulse_consumers", *view) as (_, engine), started("vmpulse_agent", *agent) as (_, host):
        await eventually(lambda: "host.live: h001" in engine.read_text(), 30.0, what="the host is live")
        (api,) = re.findall(r"HTTP API at (http://[^/]+)", engine.read_text())
        async with httpx.AsyncClient(base_url=api) as client:
            assert (await client.get("/api/v1/hosts/h001", headers=bearer)).status_code == 200
            refused = await client.get("/api/v1/hosts", headers={"authorization": f"Bearer {WRONG}"})
        said += [refused.text, *await calls(address, passwords[CLI], wrong)]
        done = await ended("vmpulse_consumers", "hosts", "--api", api, "--token-file", token_file)
        said += [done.out, done.err, engine.read_text(), host.read_text()]
    assert "h001" in done.out
    said += await refusals(guarded_broker, address, wrong, tmp_path)
    for secret in secrets.all:
        assert not any(secret in words for words in said), f"{secret} was said"


def given(file: str) -> tuple[str, str]:
    """The option that gives a password's file."""
    return "--broker-password-file", file


async def calls(address: str, right: str, wrong: str) -> list[str]:
    """Ask the host, with the right password and with a wrong one; gives all that was said."""
    said = []
    for url, file in ((f"amqp://{CLI}@{address}/", right), (f"amqp://{CLI}@{address}/", wrong)):
        done = await ended("vmpulse_consumers", "call", "h001", "list", "--broker-url", url, *given(file))
        said += [done.out, done.err]
    done = await ended("vmpulse_consumers", "call", "h001", "list", "--broker-url", f"amqp://{CLI}:{WRONG}@{address}/")
    return [*said, done.out, done.err]


async def refusals(broker: PrivateBroker, address: str, wrong: str, folder: Path) -> list[str]:
    """What is said by programs that cannot get through, or are set wrongly."""
    said = []
    url = f"amqp://{VIEW}:{WRONG}@{address}/"
    (folder / "hosts").write_text("h001\n", encoding="ascii")
    management = f"http://{broker.host}:{broker.ports.management}"
    admin = ("--management-url", management, "--admin-password-file", wrong)
    agent = ("check", "--broker-url", f"amqp://h001:{WRONG}@{address}/", "--host", "h001", "--uri", "test:///default")
    for module, words in (
        ("vmpulse_consumers", ("view", "--http-port", "0", "--broker-url", url, "--log-level", "debug")),
        ("vmpulse_consumers", ("view", "--http-port", "0", "--broker-url", f"{url}?query")),
        ("vmpulse_consumers", ("broker", "check", "--hosts", str(folder / "hosts"), *admin)),
        ("vmpulse_consumers", ("broker", "guard", *admin)),
        ("vmpulse_agent", agent),
    ):
        done = await ended(module, *words)
        assert done.code in {1, 2}
        said += [done.out, done.err]
    return said
