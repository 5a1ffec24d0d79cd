"""RabbitMQ definitions: users with their rights, and policies, as the document that a node loads or takes over HTTP.

Passwords are in it as RabbitMQ keeps them, salted and hashed. This module needs the standard library alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from vmpulse_contract.rights import IMPERSONATOR, Rights

HASHING: Final = "rabbit_password_hashing_sha256"
SALT_BYTES: Final = 4
MESSAGES_PER_HOST: Final = 20
"""An honest host says two frames within the 6 s that a frame lives, and seldom anything else."""
LEAST_MESSAGES: Final = 5_000
QUEUE_BYTES: Final = 64 << 20
"""What an honest fleet leaves in a queue for a few seconds; large messages are to fill no broker's memory."""
SEGMENT_BYTES: Final = 16 << 20


class Policy(NamedTuple):
    """What holds for the queues of a pattern; of several policies a queue has the one of the highest priority."""

    pattern: str
    bounds: Mapping[str, int | str]
    priority: int = 0


POLICIES: Final[Mapping[str, Policy]] = {
    # Requests wait 5 s at most for an agent, and an asker for its answers; what piles up beyond is of nobody's use.
    "vmpulse-rpc": Policy(
        r"^vmpulse\.(rpc|replies)\.",
        {"max-length": 10_000, "max-length-bytes": QUEUE_BYTES, "message-ttl": 10_000},
        priority=1,
    ),
    # A policy with a bound that a queue's type does not know is passed over as a whole: without this one a host that
    # declares its queue as a stream had no bound, and filled the disk. Whole segments are dropped of a stream.
    "vmpulse-rpc-stream": Policy(
        r"^vmpulse\.(rpc|replies)\.",
        {"max-length-bytes": QUEUE_BYTES, "stream-max-segment-size-bytes": SEGMENT_BYTES},
    ),
    # Queues that outlive their readers; those that vmpulse declares have narrower bounds, of which the least holds.
    "vmpulse-readers": Policy(
        r"^vmpulse\.(view|capture|worker|warehouse|dead)(\.|$)",
        {"max-length": 1_000_000, "max-length-bytes": 1 << 30, "overflow": "drop-head"},
    ),
}
"""By name: bounds for queues that a reader declared without any."""


def view_policy(hosts: int) -> Policy:
    """A stream queue no longer than so many hosts need.

    Where one of them says all it can, the others' messages wait behind its own: in a short queue they are still of use
    when they come out (benches.flood: with 200,000 messages none of them was, with 5,000 a third).
    """
    length = max(LEAST_MESSAGES, hosts * MESSAGES_PER_HOST)
    return Policy(r"^vmpulse\.(view|capture)\.", {"max-length": length, "max-length-bytes": QUEUE_BYTES}, priority=1)


class DefinedUser(NamedTuple):
    """A user to define, with a password as ``password_hash`` gives it."""

    name: str
    hash: str
    rights: Rights


def password_hash(password: str, salt: bytes | None = None) -> str:
    """RabbitMQ's rabbit_password_hashing_sha256: base64 of a 4-byte salt and the hash of salt and password."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode("ascii")


def is_password(password: str, hashed: str) -> bool:
    """Whether a hash is of this password; not for one that is none."""
    try:
        salt = base64.b64decode(hashed, validate=True)[:SALT_BYTES]
    except ValueError:
        return False
    return hmac.compare_digest(password_hash(password, salt), hashed)


def definitions(users: Iterable[DefinedUser], vhost: str = "/", *, policies: bool = True) -> dict[str, Any]:
    """The document, for one virtual host."""
    known = tuple(users)
    return {
        "vhosts": [{"name": vhost}],
        "users": [_user(user) for user in known],
        "permissions": [
            {
                "user": user.name,
                "vhost": vhost,
                "configure": user.rights.configure,
                "write": user.rights.write,
                "read": user.rights.read,
            }
            for user in known
        ],
        "topic_permissions": [
            {"user": user.name, "vhost": vhost, "exchange": exchange, "write": write, "read": read}
            for user in known
            for exchange, (write, read) in user.rights.topics.items()
        ],
        "policies": [_policy(name, each, vhost) for name, each in _policies(known).items()] if policies else [],
    }


def _user(user: DefinedUser) -> dict[str, Any]:
    return {
        "name": user.name,
        "password_hash": user.hash,
        "hashing_algorithm": HASHING,
        "tags": ",".join(user.rights.tags),
        "limits": dict(user.rights.limits),
    }


def _policies(users: Collection[DefinedUser]) -> Mapping[str, Policy]:
    """The policies for these users. Hosts have no dot in their names; an impersonator is nobody knows how many."""
    if any(IMPERSONATOR in user.rights.tags for user in users):
        return POLICIES
    return {**POLICIES, "vmpulse-view": view_policy(sum("." not in user.name for user in users))}


def _policy(name: str, policy: Policy, vhost: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "pattern": policy.pattern,
        "apply-to": "queues",
        "priority": policy.priority,
        "definition": dict(policy.bounds),
    }
