"""What a broker has that nobody asked for: named by `vmpulse broker check`, and removed by --prune where it is safe."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aio_pika
import pytest

from tests.consumers.broker.operating import ADMIN, Operator
from vmpulse_consumers.broker.strangers import PRUNE, strange_users, strangers
from vmpulse_contract import topology
from vmpulse_simulator.private_broker import PrivateBroker

VHOST = "/"
OURS: dict[str, Any] = {
    "users": [{"name": "h001", "tags": ""}, {"name": "engine.view", "tags": ""}],
    "policies": [{"name": "vmpulse-rpc", "vhost": VHOST, "pattern": r"^vmpulse\.(rpc|replies)\."}],
}


def amiss(**found: Any) -> list[str]:
    """What is said of definitions that have this, all on our virtual host."""
    document = {part: [{"vhost": VHOST, **one} for one in entries] for part, entries in found.items()}
    return list(map(str, strangers(OURS, document, VHOST)))


def policy(name: str, pattern: str, to: str = "queues") -> dict[str, Any]:
    """A policy of somebody."""
    return {"name": name, "pattern": pattern, "apply-to": to}


def test_a_queue_with_many_bindings_is_one_line_and_comes_after_what_is_worse() -> None:
    """Who is named 50 times hides nothing: 100 lines are shown."""
    queue = "vmpulse.rpc.h001"
    binding = {"source": "vmpulse.rpc.h001", "destination": queue, "destination_type": "queue"}
    said = amiss(bindings=[{**binding, "routing_key": str(number)} for number in range(200)], queues=[{"name": queue}])
    assert [line.partition(",")[0] for line in said] == [
        f"queue {queue} is not exclusive",
        f"queue {queue} reads vmpulse.rpc.h001",
    ]


def test_a_topic_permission_of_ours_that_nobody_asked_for_is_named() -> None:
    """It takes keys away from an engine user; one that is wanted, and one of somebody else, is not named."""
    wanted = {**OURS, "topic_permissions": [{"vhost": VHOST, "user": "h001", "exchange": topology.RPC}]}
    users = (("h001", topology.RPC), ("h001", topology.FLEET), ("engine.view", topology.RUNTIME), ("x", topology.RPC))
    found = {"topic_permissions": [{"vhost": VHOST, "user": user, "exchange": on} for user, on in users]}
    assert [str(stranger) for stranger in strangers(wanted, found, VHOST)] == [
        f"topic permission of {user} on {exchange} is not wanted, and may keep it from its work: "
        f"rabbitmqctl clear_topic_permissions -p / {user} {exchange}"
        for user, exchange in (("engine.view", topology.RUNTIME), ("h001", topology.FLEET))
    ]


@pytest.mark.parametrize(
    "pattern, to, hit",
    [
        (r"^vmpulse\.view\.", "queues", "vmpulse.view.main"),
        ("view.main$", "queues", "vmpulse.view.main"),
        (r"rpc\.h001", "queues", "vmpulse.rpc.h001"),
        ("runtime", "exchanges", "vmpulse.runtime"),
        ("runtime", "all", "vmpulse.runtime"),
        ("dead", "classic_queues", "vmpulse.dead"),
    ],
)
def test_a_foreign_policy_on_our_names_is_named(pattern: str, to: str, hit: str) -> None:
    """By a search for its pattern anywhere in a name, as RabbitMQ does; so is an operator policy."""
    found = policy("theirs", pattern, to)
    operator = {"component": "operator_policy", "name": "op", "value": policy("op", pattern, to)}
    said = f"({pattern!r}) is not ours and holds for {hit}: {PRUNE}"
    assert amiss(policies=[found], parameters=[operator]) == [f"policy theirs {said}", f"operator policy op {said}"]


@pytest.mark.parametrize(
    "pattern, to",
    [("^theirs", "queues"), ("runtime", "queues"), (r"^vmpulse\.view\.", "exchanges"), ("h002", "queues")],
)
def test_a_policy_on_others_names_is_nobodys_business(pattern: str, to: str) -> None:
    """Nor is one for exchanges whose pattern fits queues of ours alone, and the reverse."""
    assert amiss(policies=[policy("theirs", pattern, to)]) == []


def test_our_own_policies_are_no_strangers() -> None:
    """What differs in them is said elsewhere."""
    assert amiss(policies=[policy("vmpulse-rpc", ".*")]) == []


@pytest.mark.parametrize("pattern", [".*", "", "^[a-z]"])
def test_a_policy_for_everything_is_named_and_left(pattern: str) -> None:
    """It may be what keeps others' queues: only its owner can say how to narrow it."""
    (stranger,) = strangers(OURS, {"policies": [{"vhost": VHOST, **policy("all", pattern)}]}, VHOST)
    assert "narrow its pattern" in stranger.remedy
    assert stranger.place == ()


def test_a_pattern_that_cannot_be_read_is_named() -> None:
    """RabbitMQ's expressions know more than Python's; who reads the line has to look."""
    (said,) = amiss(policies=[policy("odd", r"\p{L}+")])
    assert said.startswith("policy odd ('\\\\p{L}+') cannot be read here (bad escape")


def test_what_moves_our_messages_is_named_without_its_passwords() -> None:
    """Shovels and federation that name queues or exchanges of ours; others are not ours to judge."""
    shovel = {"src-uri": "amqp://u:secret@x", "src-queue": "vmpulse.view.main", "dest-queue": "q"}
    federation = {"uri": "amqp://u:secret@x", "exchange": "vmpulse.changes"}
    said = amiss(
        parameters=[
            {"component": "shovel", "name": "out", "value": shovel},
            {"component": "federation-upstream", "name": "up", "value": federation},
            {
                "component": "federation-upstream-set",
                "name": "set",
                "value": [{"upstream": "up", "queue": "vmpulse.dead"}],
            },
            {"component": "shovel", "name": "theirs", "value": {"src-queue": "a", "dest-queue": "b"}},
        ]
    )
    assert [line.partition(":")[0] for line in said] == [
        "shovel out moves messages of ours (src-queue vmpulse.view.main)",
        "federation-upstream up moves messages of ours (exchange vmpulse.changes)",
        "federation-upstream-set set moves messages of ours (queue vmpulse.dead)",
    ]
    assert not any("secret" in line for line in said)


def bound(source: str, destination: str, kind: str = "queue", key: str = "#") -> dict[str, str]:
    """A binding."""
    return {"source": source, "destination": destination, "destination_type": kind, "routing_key": key}


def test_bindings_that_our_programs_make_are_no_strangers() -> None:
    """Each queue of the topology may be bound to what it reads, and the warehouse's to all of the stream."""
    queues = [
        topology.view_queue("main"),
        topology.capture_queue("0a"),
        topology.reply_queue("0a"),
        topology.worker_queue("ha", "vm.#"),
        topology.dead_queue(),
    ]
    ours = [bound(exchange, queue.name) for queue in queues for exchange, _ in queue.bindings]
    warehouse = [bound(f"vmpulse.{word}", "vmpulse.warehouse.x") for word in ("runtime", "changes", "devices", "fleet")]
    assert amiss(bindings=[*ours, *warehouse, bound("", "q"), bound("theirs", "q"), bound("a", "b", "exchange")]) == []


@pytest.mark.parametrize(
    "source, queue",
    [
        ("vmpulse.runtime", "ear"),
        ("vmpulse.changes", "vmpulse.other.x"),
        ("vmpulse.runtime", "vmpulse.rpc.h001"),
        ("vmpulse.rpc", "vmpulse.view.main"),
        ("vmpulse.replies", "vmpulse.worker.x"),
    ],
)
def test_a_queue_that_reads_what_is_not_for_it_is_named(source: str, queue: str) -> None:
    """By its name; it is left, for it may hold what somebody wants."""
    (said,) = strangers(OURS, {"bindings": [{"vhost": VHOST, **bound(source, queue)}]}, VHOST)
    assert said.words == f"queue {queue} reads {source}, which queues of such a name do not"
    assert said.place == ()


def test_a_name_is_no_command() -> None:
    """What a remedy tells to type is one word, whatever somebody called a queue."""
    (said,) = amiss(bindings=[bound("vmpulse.runtime", "x; reboot")])
    assert said.endswith("rabbitmqctl -p / delete_queue 'x; reboot', unless it is wanted")


def test_another_virtual_host_is_nobodys_business() -> None:
    """Whatever it has."""
    found = {
        "policies": [{"vhost": "other", **policy("theirs", "^vmpulse")}],
        "bindings": [{"vhost": "other", **bound("vmpulse.runtime", "ear")}],
        "queues": [{"vhost": "other", "name": "vmpulse.rpc.h001"}],
    }
    assert strangers(OURS, found, VHOST) == []


def test_tags_that_nobody_asked_for_are_named() -> None:
    """Second administrators and impersonators, with or without permissions, in the form of each version of RabbitMQ."""
    users = [
        {"name": "admin", "tags": ["administrator", "impersonator"]},
        {"name": "h001", "tags": ["administrator"]},
        {"name": "second", "tags": "administrator"},
        {"name": "mimic", "tags": ["impersonator"]},
        {"name": "both", "tags": ["administrator", "impersonator"]},
        {"name": "looks", "tags": ["monitoring"]},
        {"name": "guest", "tags": ["administrator"]},
    ]
    said = list(strange_users(OURS, {"users": users}, VHOST, "admin"))
    assert [line.partition(":")[0] for line in said] == [
        "user second is a second administrator",
        "user mimic is not listed and may publish in any user's name",
        "user both is a second administrator",
        "user both is not listed and may publish in any user's name",
        "user guest may do everything, and its password is known",
    ]
    assert said[0].endswith("rabbitmqctl set_user_tags second takes its tags, unless it is wanted")


@pytest.fixture
async def meddled(operator: Operator, open_broker: PrivateBroker) -> AsyncIterator[None]:
    """A host has bound exchanges and left a queue; somebody has made policies, administrators and an ear."""
    operator.apply()
    host = (operator.passwords / "h001").read_text(encoding="ascii")
    async with AsyncExitStack() as stack:
        stack.callback(operator.apply, "--prune")
        channels = []
        for url in (open_broker.url(ADMIN.name), f"amqp://h001:{host}@{open_broker.host}:{open_broker.port}/"):
            connection = await stack.enter_async_context(await aio_pika.connect(url))
            channels.append(await (await connection.channel()).get_underlay_channel())
        admin, taken_over = channels
        for exchange in topology.EXCHANGES:
            await admin.exchange_declare(exchange, exchange_type="topic", durable=True)
        await admin.queue_declare("ear", durable=True)
        stack.push_async_callback(admin.queue_delete, "ear")
        await admin.queue_bind("ear", topology.RUNTIME, "#")
        await taken_over.exchange_bind(destination=topology.RUNTIME, source=topology.RPC, routing_key="h001.list")
        await taken_over.exchange_bind(
            destination=topology.RUNTIME, source=topology.RPC, routing_key="h001.x", arguments={"x": 1}
        )
        await taken_over.queue_declare("vmpulse.rpc.h001", durable=True)
        limits = json.dumps({"max-length": 1})
        open_broker.ctl("set_policy", "theirs", r"^vmpulse\.view", limits, "--apply-to", "queues")
        open_broker.ctl("set_policy", "all", ".*", limits, "--priority", "-1")
        stack.callback(open_broker.ctl, "clear_policy", "all")
        open_broker.ctl("set_operator_policy", "op", r"^vmpulse\.rpc", limits)
        open_broker.ctl("add_user", "second", "second")
        stack.callback(open_broker.ctl, "delete_user", "second")
        open_broker.ctl("set_user_tags", "second", "administrator", "impersonator")
        yield


NAMED_ONLY = (
    "user second is a second administrator",
    "user second is not listed and may publish in any user's name",
    "policy all ('.*') is not ours and holds for vmpulse.dead: narrow its pattern, or remove it",
    "queue ear reads vmpulse.runtime",
)
PRUNED = (
    r"policy theirs ('^vmpulse\\.view') is not ours",
    r"operator policy op ('^vmpulse\\.rpc') is not ours",
    "exchange vmpulse.runtime is bound to vmpulse.rpc, which no program of ours does",
    "queue vmpulse.rpc.h001 is not exclusive",
)


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("meddled")
async def test_strangers_are_named_and_pruned_where_that_is_safe(operator: Operator) -> None:
    """`check` has a line for each; `apply` leaves all, and with --prune only what may be somebody's."""
    told = operator.run("check").stdout.splitlines()
    assert all(any(line.startswith(part) for line in told) for part in (*NAMED_ONLY, *PRUNED)), told
    assert len(told) == len((*NAMED_ONLY, *PRUNED))
    assert operator.apply().stdout.splitlines() == told
    pruned = operator.apply("--prune")
    assert all(f"removed: {part}" in pruned.stderr for part in PRUNED), pruned.stderr
    left = pruned.stdout.splitlines()
    assert all(line.startswith(part) for line, part in zip(left, NAMED_ONLY, strict=True)), left
    assert operator.run("check").stdout.splitlines() == left
