"""Names of hosts and VMs."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.wirelings import vms
from vmpulse_contract.errors import BadName
from vmpulse_contract.identity import VmId, host_id, host_id_from_fqdn, is_engine_user, vm_id, vm_text


@given(st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True))
def test_no_host_looks_like_an_engine_user(text: str) -> None:
    """Whatever is a host id is not an engine user."""
    assert host_id(text) == text
    assert not is_engine_user(text)


@pytest.mark.parametrize("text", ["", "a" * 64, "a.b", "A", "a b", "a\n", "a*", "a#", "a/b", "ä", "engine.view"])
def test_bad_host_ids(text: str) -> None:
    """What means something in a routing key or a pattern is no host id, and the error says what is allowed."""
    with pytest.raises(BadName, match="allowed: 1 to 63 of"):
        host_id(text)


@pytest.mark.parametrize("fqdn, expected", [("Node1.Example.COM", "node1-example-com"), ("n1.", "n1"), (" n1\n", "n1")])
def test_default_host_id(fqdn: str, expected: str) -> None:
    """The default id is the lower-case FQDN with dashes for dots."""
    assert host_id_from_fqdn(fqdn) == expected


@pytest.mark.parametrize("user, engine", [("engine.view", True), ("engine.cli", True), ("h1", False), (None, False)])
def test_engine_users(user: str | None, *, engine: bool) -> None:
    """Engine users are those with a dot in their name; no user at all is none of them."""
    assert is_engine_user(user) is engine


@given(vms)
def test_vm_id_round_trip(vm: VmId) -> None:
    """A VM id written for people is the canonical UUID text and reads back, with dashes or without, in any case."""
    text = vm_text(vm)
    assert text == str(UUID(bytes=vm))
    assert vm_id(text) == vm_id(text.upper()) == vm_id(text.replace("-", "")) == vm


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123e4567",
        "123e4567-e89b-12d3-a456-42661417400g",
        "123e4567e89b12d3a456426614174_00",
        " 123e4567e89b12d3a45642661417400",
        "{123e4567-e89b-12d3-a456-426614174000}",
        "123e4567-e89b12d3-a456-426614174000",
        "\u066123e4567-e89b-12d3-a456-426614174000",
        "123e4567-e89b-12d3-a456-426614174000\n",
    ],
)
def test_bad_vm_ids(text: str) -> None:
    """Near misses of a UUID are refused, and the error shows one that is right."""
    with pytest.raises(BadName, match="allowed: a UUID such as"):
        vm_id(text)
