"""``vmpulse hosts forget HOST`` against a served view."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.consumers.cli.running import run, run_and_answer
from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, small_fleet
from vmpulse_contract.identity import HostId

GAMMA = HostId("gamma")


@pytest.fixture
def fleet() -> Fleet:
    """A small fleet in which gamma is lost."""
    fleet = small_fleet()
    for _ in range(7):
        fleet.tick("alpha", "beta")
    return fleet


@pytest.fixture
async def api(fleet: Fleet) -> AsyncIterator[str]:
    """The address of the fleet's view."""
    async with served(fleet) as url:
        yield url


@pytest.mark.parametrize("flags", [(), ("--yes",)])
async def test_what_was_forgotten_is_said(api: str, fleet: Fleet, flags: tuple[str, ...]) -> None:
    """A script, which has no terminal to answer on, is not asked; it is told the host and how many VMs it listed."""
    done = await run("hosts", "forget", "gamma", *flags, api=api)
    assert (done.code, done.err) == (0, "")
    assert done.lines == ["gamma is forgotten; VMs that it listed: 1"]
    assert GAMMA not in fleet.view.hosts


@pytest.mark.parametrize("before", [True, False])
async def test_options_may_stand_before_or_behind(api: str, before: bool) -> None:  # noqa: FBT001 - two places
    """The view's address and --json mean the same wherever they stand."""
    options, words = ("--json", "--api", api), ("forget", "gamma")
    done = await run("hosts", *(*options, *words) if before else (*words, *options))
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"host": "gamma", "state": "gone", "vms": 1}


@pytest.mark.parametrize("answer, forgotten", [(b"y\n", True), (b"Yes\n", True), (b"\n", False), (b"\x04", False)])
async def test_whoever_can_answer_is_asked(api: str, fleet: Fleet, answer: bytes, forgotten: bool) -> None:  # noqa: FBT001 - as expected
    """On a terminal the host, its state and its VMs are named first, and only a yes forgets it."""
    done = await run_and_answer("hosts", "forget", "gamma", api=api, answer=answer)
    assert done.err.startswith("forget gamma (lost; VMs that it lists: 1)? [y/N] ")
    assert done.code == (0 if forgotten else 1)
    assert (GAMMA in fleet.view.hosts) is not forgotten
    assert ("nothing was forgotten" in done.err) is not forgotten


async def test_yes_spares_the_question(api: str) -> None:
    """With --yes nobody is asked, terminal or not."""
    done = await run_and_answer("hosts", "forget", "gamma", "--yes", api=api, answer=b"")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    "host, words",
    [
        ("alpha", "host alpha is live and cannot be forgotten; allowed: a host that is lost, stopped"),
        ("nobody", "there is no host 'nobody'; allowed: a host's id, FQDN or UUID"),
        ("", "there is no host"),
        ("../fleet", "there is nothing here"),
    ],
)
async def test_refusals_are_the_views(api: str, fleet: Fleet, host: str, words: str) -> None:
    """What the view refuses is one line in its own words, exit code 1, and nothing has changed."""
    done = await run("hosts", "forget", host, api=api)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"vmpulse: {words}")
    assert done.err.count("\n") == 1
    assert len(fleet.view.hosts) == 3


@pytest.mark.parametrize("arguments", [("forget",), ("forget", "a", "b"), ("forgive", "gamma"), ("gamma",)])
async def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """A host has to be named, and hosts are for nothing else: exit code 2."""
    done = await run("hosts", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "usage: vmpulse" in done.err
