"""What differs between the rights that are wanted and those that a broker has. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_contract.identity import HOST_ID
from vmpulse_contract.rights import HOST_EXCHANGES, host_rights
from vmpulse_edges.broker_definitions import is_password

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Document = dict[str, Any]

_RIGHTS: Final = ("configure", "write", "read")


class _Part(NamedTuple):
    """A part of the definitions: its entries' singular, what names one, and what is compared of it."""

    key: str
    singular: str
    names: tuple[str, ...]
    fields: tuple[str, ...]

    def entries(self, document: Document, vhost: str) -> dict[tuple[str, ...], dict[str, Any]]:
        """The entries of one virtual host by their names."""
        here = (one for one in document.get(self.key, ()) if one["vhost"] == vhost)
        return {tuple(one[name] for name in self.names): one for one in here}


_PERMISSIONS: Final = _Part("permissions", "permission", ("user",), _RIGHTS)
_TOPICS: Final = _Part("topic_permissions", "topic permission", ("user", "exchange"), ("write", "read"))
_POLICIES: Final = _Part("policies", "policy", ("name",), ("pattern", "apply-to", "definition", "priority"))
_OURS: Final = frozenset(f"vmpulse.{exchange}" for exchange in HOST_EXCHANGES)


def drift(wanted: Document, found: Document, passwords: Mapping[str, str], vhost: str) -> list[str]:
    """Say what is amiss in *found*, a sentence each, the worst first; an empty list: nothing.

    Both are definitions as RabbitMQ exports them. Passwords that are not given are not compared.
    """
    return [
        *_strangers(wanted, found, vhost),
        *_users(wanted, found, passwords),
        *(amiss for part in (_PERMISSIONS, _TOPICS, _POLICIES) for amiss in _entries(part, wanted, found, vhost)),
        *_wider(wanted, found, vhost),
    ]


def unlisted_hosts(wanted: Document, found: Document, vhost: str) -> list[str]:
    """Users that have what only we give a host, its own rpc queue, and are no host that is wanted any more."""
    known = {user["name"] for user in wanted["users"]}
    there = _PERMISSIONS.entries(found, vhost)
    return sorted(
        name
        for (name,), has in there.items()
        if name not in known and HOST_ID.fullmatch(name) and has["configure"] == host_rights(name).configure
    )


def _strangers(wanted: Document, found: Document, vhost: str) -> Iterator[str]:
    """Users that nobody asked for and that may do something here."""
    known = {user["name"] for user in wanted["users"]}
    admins = {user["name"] for user in found.get("users", ()) if "administrator" in _tags(user)}
    for entry in found.get("permissions", ()):
        name = entry["user"]
        if name in known or entry["vhost"] != vhost:
            continue
        if name == "guest":
            yield "user guest may do everything, and its password is known: rabbitmqctl delete_user guest"
        elif name not in admins:
            rights = ", ".join(f"{right} {entry[right]!r}" for right in _RIGHTS)
            yield f"user {name} is not listed and may here: {rights}"


def _users(wanted: Document, found: Document, passwords: Mapping[str, str]) -> Iterator[str]:
    there = {user["name"]: user for user in found.get("users", ())}
    for user in wanted["users"]:
        name, has = user["name"], there.get(user["name"])
        if has is None:
            yield f"user {name} is missing"
            continue
        if _tags(has) != _tags(user):
            yield f"user {name} has the tags {sorted(_tags(has))}, wanted are {sorted(_tags(user))}"
        if _plain(has.get("limits")) != _plain(user["limits"]):
            yield f"user {name} has the limits {_plain(has.get('limits'))}, wanted are {user['limits']}"
        if name in passwords and not is_password(passwords[name], has.get("password_hash", "")):
            yield f"user {name} has another password than its file"


def _entries(part: _Part, wanted: Document, found: Document, vhost: str) -> Iterator[str]:
    here = part.entries(found, vhost)
    for name, one in part.entries(wanted, vhost).items():
        shown, has = f"{part.singular} of {' on '.join(name)}", here.get(name)
        if has is None:
            yield f"{shown} is missing"
        else:
            amiss = (field for field in part.fields if has.get(field) != one[field])
            yield from (f"{shown}: {field} is {has.get(field)!r}, wanted is {one[field]!r}" for field in amiss)


def _wider(wanted: Document, found: Document, vhost: str) -> Iterator[str]:
    """Topic permissions of our users that nobody asked for, which may widen what they may say."""
    listed = _TOPICS.entries(wanted, vhost)
    users = {user for user, _ in listed}
    for user, exchange in sorted(_TOPICS.entries(found, vhost).keys() - listed.keys()):
        if user in users and exchange in _OURS:
            yield f"topic permission of {user} on {exchange} is not wanted"


def _tags(user: Mapping[str, Any]) -> set[str]:
    """RabbitMQ 3.8 writes one text, later versions a list."""
    tags = user.get("tags", "")
    return set(tags.split(",") if isinstance(tags, str) else tags) - {""}


def _plain(limits: object) -> dict[str, int]:
    """Limits; RabbitMQ writes an empty list for none."""
    return dict(limits) if isinstance(limits, dict) else {}
