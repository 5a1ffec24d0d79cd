"""What a broker has that nobody asked for, and that may speak, read or take from us: users, policies, bindings, queues.

No I/O. An entry that concerns nothing of ours is passed over: a broker may serve others as well.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_consumers.broker.parts import RIGHTS, TOPICS, Document, here, tags_of
from vmpulse_contract import topology
from vmpulse_contract.rights import IMPERSONATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX: Final = "vmpulse."
RPC_QUEUES: Final = f"{topology.RPC}."
OPERATOR_POLICY: Final = "operator_policy"
"""The component under which RabbitMQ keeps operator policies among its parameters."""
MOVERS: Final = frozenset({"shovel", "federation-upstream", "federation-upstream-set"})
"""Components that carry messages into a broker or out of it."""
PRUNE: Final = "apply --prune removes it"
ELSEWHERE: Final = "elsewhere"
"""A name that is nobody's: a pattern that matches it is meant for others' queues as well."""
_STREAM: Final = frozenset({topology.RUNTIME, topology.CHANGES, topology.DEVICES, topology.FLEET})
READERS: Final[Mapping[str, frozenset[str]]] = {
    "view": _STREAM,
    "capture": _STREAM,
    "warehouse": _STREAM,
    "worker": frozenset({topology.FLEET}),
    "replies": frozenset({topology.REPLIES}),
    "rpc": frozenset({topology.RPC}),
    "dead": frozenset({topology.DEAD}),
}
"""By the word after the prefix: the exchanges that a queue of such a name reads."""


class Stranger(NamedTuple):
    """Something that is not wanted: what it is, and what helps.

    ``place`` is where it stands in RabbitMQ's management API; without one it is not for us to remove, but somebody's.
    """

    words: str
    remedy: str
    place: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.words}: {self.remedy}"


def strange_users(wanted: Document, found: Document, vhost: str, admin: str) -> Iterator[str]:
    """Users that nobody asked for and that may do something here; *admin* is the administrator that there should be."""
    known = {user["name"] for user in wanted["users"]}
    tags = {user["name"]: tags_of(user) for user in found.get("users", ()) if user["name"] not in known}
    rights = {one["user"]: one for one in here(found, "permissions", vhost) if one["user"] not in known}
    for name in dict.fromkeys([*rights, *tags]):
        has = tags.get(name, set())
        if name == "guest" and (name in rights or "administrator" in has):
            yield "user guest may do everything, and its password is known: rabbitmqctl delete_user guest"
        elif "administrator" in has:
            if name != admin:
                yield f"user {name} is a second administrator: {_untag(name)}, unless it is wanted"
        elif name in rights:
            shown = ", ".join(f"{right} {rights[name][right]!r}" for right in RIGHTS)
            yield f"user {name} is not listed and may here: {shown}"
        if IMPERSONATOR in has and name != admin:
            yield f"user {name} is not listed and may publish in any user's name: {_untag(name)}"


def strangers(wanted: Document, found: Document, vhost: str) -> list[Stranger]:
    """Topic permissions, policies, shovels, federation, bindings and queues that nobody asked for, of what is ours."""
    return [
        *_topics(wanted, found, vhost),
        *_policies(wanted, found, vhost),
        *_movers(found, vhost),
        *_standing(found, vhost),
        *_bindings(found, vhost),
    ]


def _untag(name: str) -> str:
    return f"rabbitmqctl set_user_tags {shlex.quote(name)} takes its tags"


def _topics(wanted: Document, found: Document, vhost: str) -> Iterator[Stranger]:
    """Of our users: without one every key is allowed on an exchange that they may use, so one more takes keys away."""
    users, listed = {user["name"] for user in wanted["users"]}, TOPICS.entries(wanted, vhost)
    for user, exchange in sorted(TOPICS.entries(found, vhost).keys() - listed.keys()):
        if user in users and exchange.startswith(PREFIX):
            words = f"topic permission of {user} on {exchange} is not wanted, and may keep it from its work"
            yield Stranger(words, f"rabbitmqctl clear_topic_permissions -p {shlex.quote(vhost)} {user} {exchange}")


def _policies(wanted: Document, found: Document, vhost: str) -> Iterator[Stranger]:
    ours = {policy["name"] for policy in here(wanted, "policies", vhost)}
    names = {"queues": _queue_names(wanted, found, vhost), "exchanges": topology.EXCHANGES}
    for policy in here(found, "policies", vhost):
        if policy["name"] not in ours:
            yield from _matching("policy", policy["name"], policy, names, ("policies", vhost, policy["name"]))
    for one in here(found, "parameters", vhost):
        if one["component"] == OPERATOR_POLICY:
            place = ("operator-policies", vhost, one["name"])
            yield from _matching("operator policy", one["name"], one["value"], names, place)


def _matching(
    kind: str, name: str, policy: Mapping[str, Any], names: Mapping[str, Iterable[str]], place: tuple[str, ...]
) -> Iterator[Stranger]:
    """A policy, if its pattern matches anything of ours, by the search that RabbitMQ does."""
    pattern, shown = policy["pattern"], f"{kind} {name} ({policy['pattern']!r:.100})"
    try:
        search = re.compile(pattern).search
    except re.error as error:
        yield Stranger(f"{shown} cannot be read here ({error})", "see for yourself that it matches nothing of vmpulse")
        return
    to = policy.get("apply-to", "all")
    candidates = names["exchanges"] if to == "exchanges" else names["queues"]
    if to == "all":
        candidates = [*candidates, *names["exchanges"]]
    hit = next(filter(search, candidates), None)
    if hit is None:
        return
    words = f"{shown} is not ours and holds for {hit}"
    yield Stranger(words, "narrow its pattern, or remove it") if search(ELSEWHERE) else Stranger(words, PRUNE, place)


def _queue_names(wanted: Document, found: Document, vhost: str) -> list[str]:
    """Queues that are there or that may come, the usual ones first: of exclusive ones nothing is in definitions."""
    usual = [f"{PREFIX}{word}.{name}" for name in ("main", "0a") for word in READERS if word != "dead"]
    hosts = [f"{RPC_QUEUES}{user['name']}" for user in wanted["users"] if "." not in user["name"]]
    there = [one["name"] for one in here(found, "queues", vhost) if one["name"].startswith(PREFIX)]
    return [topology.DEAD, *usual, *hosts, *there]


def _movers(found: Document, vhost: str) -> Iterator[Stranger]:
    for one in here(found, "parameters", vhost):
        if one["component"] not in MOVERS:
            continue
        parts = one["value"] if isinstance(one["value"], list) else [one["value"]]
        # Nothing else of it is shown: its addresses have passwords.
        named = [f"{key} {value}" for part in parts for key, value in part.items() if str(value).startswith(PREFIX)]
        if named:
            which = f"{one['component']} {shlex.quote(one['name'])}"
            remedy = f"rabbitmqctl clear_parameter -p {shlex.quote(vhost)} {which}, unless it is wanted"
            yield Stranger(f"{one['component']} {one['name']} moves messages of ours ({', '.join(named)})", remedy)


def _bindings(found: Document, vhost: str) -> Iterator[Stranger]:
    seen = set()
    for one in here(found, "bindings", vhost):
        source, destination = one["source"], one["destination"]
        if one["destination_type"] == "exchange":
            if PREFIX in {source[: len(PREFIX)], destination[: len(PREFIX)]} and (source, destination) not in seen:
                seen.add((source, destination))
                words = f"exchange {destination} is bound to {source}, which no program of ours does"
                place = ("bindings", vhost, "e", source, "e", destination)
                yield Stranger(words, PRUNE, place)
        elif source.startswith(PREFIX) and source not in _read_by(destination) and (source, destination) not in seen:
            seen.add((source, destination))
            command = f"rabbitmqctl -p {shlex.quote(vhost)} delete_queue {shlex.quote(destination)}"
            remedy = f"{command}, unless it is wanted"
            yield Stranger(f"queue {destination} reads {source}, which queues of such a name do not", remedy)


def _read_by(queue: str) -> frozenset[str]:
    """The exchanges that a queue of this name may be bound to."""
    word = queue.removeprefix(PREFIX).partition(".")[0] if queue.startswith(PREFIX) else ""
    return READERS.get(word, frozenset())


def _standing(found: Document, vhost: str) -> Iterator[Stranger]:
    """Queues for requests that outlive their agent; an agent's own is exclusive, and in no definitions."""
    for one in here(found, "queues", vhost):
        if one["name"].startswith(RPC_QUEUES):
            words = f"queue {one['name']} is not exclusive, and keeps its host's agent out"
            yield Stranger(words, PRUNE, ("queues", vhost, one["name"]))
