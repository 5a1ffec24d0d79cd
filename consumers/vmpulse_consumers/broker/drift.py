"""What differs between the rights that are wanted and those that a broker has. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_consumers.broker.parts import PERMISSIONS, POLICIES, TOPICS, Document, Part, tags_of
from vmpulse_consumers.broker.strangers import strange_users, strangers
from vmpulse_contract.identity import HOST_ID
from vmpulse_contract.rights import host_rights
from vmpulse_edges.broker_definitions import is_password

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def drift(wanted: Document, found: Document, passwords: Mapping[str, str], vhost: str, admin: str) -> list[str]:
    """Say what is amiss in *found*, a sentence each, the worst first; an empty list: nothing.

    Both are definitions as RabbitMQ exports them. Passwords that are not given are not compared. *admin* is the one
    administrator that there should be.
    """
    return [
        *strange_users(wanted, found, vhost, admin),
        *_users(wanted, found, passwords),
        *(amiss for part in (PERMISSIONS, TOPICS, POLICIES) for amiss in _entries(part, wanted, found, vhost)),
        *map(str, strangers(wanted, found, vhost)),
    ]


def unlisted_hosts(wanted: Document, found: Document, vhost: str) -> list[str]:
    """Users that have what only we give a host, its own rpc queue, and are no host that is wanted any more."""
    known = {user["name"] for user in wanted["users"]}
    there = PERMISSIONS.entries(found, vhost)
    return sorted(
        name
        for (name,), has in there.items()
        if name not in known and HOST_ID.fullmatch(name) and has["configure"] == host_rights(name).configure
    )


def _users(wanted: Document, found: Document, passwords: Mapping[str, str]) -> Iterator[str]:
    there = {user["name"]: user for user in found.get("users", ())}
    for user in wanted["users"]:
        name, has = user["name"], there.get(user["name"])
        if has is None:
            yield f"user {name} is missing"
            continue
        if tags_of(has) != tags_of(user):
            yield f"user {name} has the tags {sorted(tags_of(has))}, wanted are {sorted(tags_of(user))}"
        if _plain(has.get("limits")) != _plain(user["limits"]):
            yield f"user {name} has the limits {_plain(has.get('limits'))}, wanted are {user['limits']}"
        if name in passwords and not is_password(passwords[name], has.get("password_hash", "")):
            yield f"user {name} has another password than its file"


def _entries(part: Part, wanted: Document, found: Document, vhost: str) -> Iterator[str]:
    there = part.entries(found, vhost)
    for name, one in part.entries(wanted, vhost).items():
        shown, has = f"{part.singular} of {' on '.join(name)}", there.get(name)
        if has is None:
            yield f"{shown} is missing"
        else:
            amiss = (field for field in part.fields if has.get(field) != one[field])
            yield from (f"{shown}: {field} is {has.get(field)!r}, wanted is {one[field]!r}" for field in amiss)


def _plain(limits: object) -> dict[str, int]:
    """Limits; RabbitMQ writes an empty list for none."""
    return dict(limits) if isinstance(limits, dict) else {}
