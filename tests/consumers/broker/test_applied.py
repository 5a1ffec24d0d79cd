"""`vmpulse broker`, as its user runs it, against a real broker's management API."""

from __future__ import annotations

import json

import pytest

from tests.consumers.broker.operating import Operator
from vmpulse_simulator.private_broker import PrivateBroker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


async def test_what_was_applied_differs_in_nothing(operator: Operator) -> None:
    """All users get in with the passwords that were made, `check` finds nothing, and a second run changes nothing."""
    done = operator.apply()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "made 7 passwords" in done.stderr
    assert "7 users" in done.stderr
    assert [await operator.connects(user) for user in ("h001", "engine.view")] == [True, True]
    checked = operator.run("check", "--passwords", str(operator.passwords))
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "nothing differs" in checked.stderr
    assert "0 things differed, 0 do now" in operator.apply().stderr


async def test_what_differs_is_named_and_mended(operator: Operator, open_broker: PrivateBroker) -> None:
    """Somebody changed rights, tags, limits, a password, a policy, and let guest in: a line each, and exit code 1."""
    operator.apply()
    for command in (
        ["set_permissions", "h001", ".*", ".*", ".*"],
        ["clear_topic_permissions", "h001", "vmpulse.rpc"],
        ["set_topic_permissions", "engine.view", "vmpulse.rpc", ".*", ".*"],
        ["set_user_tags", "h002", "administrator"],
        ["clear_user_limits", "h002", "max-channels"],
        ["change_password", "engine.view", "another"],
        ["clear_policy", "vmpulse-rpc"],
        ["add_user", "guest", "guest"],
        ["set_permissions", "guest", ".*", ".*", ".*"],
    ):
        open_broker.ctl(*command)
    done = operator.run("check", "--passwords", str(operator.passwords))
    told = done.stdout.splitlines()
    assert done.returncode == 1
    assert told[0] == "user guest may do everything, and its password is known: rabbitmqctl delete_user guest"
    for part in (
        "user h002 has the tags ['administrator'], wanted are []",
        "user h002 has the limits {'max-connections': 4}",
        "user engine.view has another password than its file",
        "permission of h001: configure is '.*'",
        "topic permission of h001 on vmpulse.rpc is missing",
        "policy of vmpulse-rpc is missing",
    ):
        assert any(line.startswith(part) for line in told), (part, told)
    # What nobody listed is somebody's: it removes none, but says how.
    left = operator.apply().stdout.splitlines()
    assert [line.partition(" is not wanted")[0] for line in left] == [
        told[0],
        "topic permission of engine.view on vmpulse.rpc",
    ]
    for line in left:
        open_broker.ctl(*line.rpartition("rabbitmqctl ")[2].split())
    assert operator.apply().stdout == ""
    assert await operator.connects("engine.view")


@pytest.mark.parametrize("name", ["guest", "admin"])
async def test_no_host_takes_an_administrators_place(operator: Operator, name: str) -> None:
    """A host of that name would take rights and password of who administers the broker, so the list is refused."""
    operator.list("h001", name)
    done = operator.apply()
    assert (done.returncode, name in done.stderr) == (2, True), done.stderr


async def test_hosts_that_are_not_listed_go_only_when_told(operator: Operator) -> None:
    """Without --prune they are named; with it they are removed, and the engine's users and the administrator stay."""
    operator.list("h001", "h002", "h003")
    operator.apply()
    operator.list("h001", "h002")
    assert "users with a host's rights that are not listed: 1, among them h003" in operator.apply().stderr
    assert operator.run("check").stdout.startswith("user h003 is not listed and may here: configure")
    assert "removed user h003" in operator.apply("--prune").stderr
    assert not await operator.connects("h003")
    assert operator.run("check").returncode == 0


def test_definitions_are_what_a_node_loads(operator: Operator) -> None:
    """They go to stdout, hold hashes and no password, and every user of the list."""
    done = operator.run("definitions", "--passwords", str(operator.passwords), "--simulator")
    document = json.loads(done.stdout)
    assert {"h001", "h002", "engine.view", "engine.simulator"} <= {user["name"] for user in document["users"]}
    assert all(file.read_text(encoding="ascii") not in done.stdout for file in operator.passwords.iterdir())


@pytest.mark.parametrize(
    "more, amiss",
    [
        (["--admin", "nobody"], "refuses the user 'nobody': name a user with the tag administrator"),
        (["--management-url", "http://127.0.0.1:1"], "rabbitmq-plugins enable rabbitmq_management"),
        (["--management-url", "ftp://x"], "http://HOST:15672"),
        (["--view", "a.b"], "1 to 63 of a-z"),
    ],
)
def test_what_is_in_the_way_is_one_line_with_a_remedy(operator: Operator, more: list[str], amiss: str) -> None:
    """Wrong user, nobody there, wrong address, wrong name."""
    done = operator.run("check", *more)
    assert done.returncode in {1, 2}
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert amiss in done.stderr
