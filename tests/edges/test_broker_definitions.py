"""How long the stream's queues may be: so that a host which says all it can leaves room for what others say."""

from __future__ import annotations

from vmpulse_contract import topology
from vmpulse_contract.rights import SIMULATOR, VIEW, engine_rights, host_rights, simulator_rights
from vmpulse_edges.broker_definitions import LEAST_MESSAGES, MESSAGES_PER_HOST, DefinedUser, definitions


def view_length(hosts: int, *others: DefinedUser) -> int | None:
    """How many messages the definitions let a view's queue hold; None: they do not say."""
    users = [DefinedUser(f"h{number}", "", host_rights(f"h{number}")) for number in range(hosts)]
    users += [DefinedUser(VIEW, "", engine_rights()[VIEW]), *others]
    for policy in definitions(users)["policies"]:
        if policy["name"] == "vmpulse-view":
            length: int = policy["definition"]["max-length"]
            return length
    return None


def test_the_streams_queues_are_as_long_as_the_hosts_need() -> None:
    """Twenty messages for each host, and never less than a small fleet needs when it starts."""
    assert view_length(2) == LEAST_MESSAGES
    assert view_length(2500) == 2500 * MESSAGES_PER_HOST


def test_where_one_user_speaks_for_many_nobody_counts_hosts() -> None:
    """A simulated fleet has one user, so its queue stays as the view declares it."""
    assert view_length(2, DefinedUser(SIMULATOR, "", simulator_rights())) is None


def test_the_policy_wins_over_the_wider_one() -> None:
    """A queue has one policy only; the narrow one of views and captures has the higher priority."""
    found = {policy["name"]: policy for policy in definitions([])["policies"]}
    assert found["vmpulse-view"]["priority"] > found["vmpulse-readers"]["priority"]
    assert int(topology.view_queue("main").arguments["x-max-length"]) > LEAST_MESSAGES
