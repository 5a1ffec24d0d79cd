r"""What each user of the broker may do: RabbitMQ's permissions as regular expressions, in this file only.

A host's user is named like the host. It may declare and read its own rpc queue, publish keys that begin with its own
name, and nothing else: topic permissions hold for publishing and for binding alike (RabbitMQ, "Access Control"; a
``direct`` exchange knows none). The default exchange, through which any queue could be reached, is in nobody's rights.
Engine users have a dot in their names, which no host can have.

This module needs the standard library alone, so that definitions can be written before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

NOTHING: Final = "^$"
OWN_KEYS: Final = r"^{username}(\.|$)"
"""RabbitMQ puts the user's name in (``h001`` is no prefix of ``h0011`` here)."""
HOST_EXCHANGES: Final = ("changes", "devices", "replies", "rpc", "runtime")
"""Those that a host publishes to or binds, without ``vmpulse.``."""
VIEW: Final = "engine.view"
CLI: Final = "engine.cli"
WORKER: Final = "engine.worker"
WAREHOUSE: Final = "engine.warehouse"
MONITOR: Final = "engine.monitor"
SIMULATOR: Final = "engine.simulator"
IMPERSONATOR: Final = "impersonator"
"""RabbitMQ's tag of a user that may publish in other users' names (RabbitMQ, "Validated User-ID")."""
MAX_CONNECTIONS: Final = 4
"""Of a host's user: an agent has one, and another while it reconnects; ``vmpulse-agent check`` takes one more."""
MAX_CHANNELS: Final = 16
"""Of a host's user, in all its connections."""


class Rights(NamedTuple):
    """Permissions on one virtual host; ``topics``: exchange -> (write, read), patterns of routing keys.

    ``limits``: RabbitMQ's limits of a user, by their names.
    """

    configure: str
    write: str
    read: str
    topics: Mapping[str, tuple[str, str]] = {}
    tags: tuple[str, ...] = ()
    limits: Mapping[str, int] = {}


def _words(*words: str) -> str:
    """A pattern of whole names that begin with ``vmpulse.``."""
    return rf"^vmpulse\.{words[0]}$" if len(words) == 1 else rf"^vmpulse\.({'|'.join(words)})$"


def host_rights(host: str) -> Rights:
    """A host speaks for itself alone. *host* has to be a host id, in which no character is special."""
    own = rf"rpc\.{host}"
    topics = {f"vmpulse.{exchange}": (OWN_KEYS, OWN_KEYS) for exchange in HOST_EXCHANGES}
    return Rights(
        configure=_words(own),
        write=_words("runtime", "changes", "devices", "replies", own),
        read=_words("rpc", own),
        topics=topics,
        limits={"max-connections": MAX_CONNECTIONS, "max-channels": MAX_CHANNELS},
    )


def view_rights(view: str = "main") -> Rights:
    """A view reads the stream, asks hosts, and publishes its events; it can say nothing in a host's name."""
    own = (rf"view\.{view}", r"(capture|replies)\.[0-9a-f]+")
    return Rights(
        configure=_words("runtime", "changes", "devices", "rpc", "replies", "fleet", "dead", *own),
        write=_words("rpc", "fleet", "dead", *own),
        read=_words("runtime", "changes", "devices", "fleet", "dead", "replies", *own),
    )


def engine_rights(view: str = "main") -> dict[str, Rights]:
    """The engine's users by name, but for the simulator."""
    replies = r"replies\.[0-9a-f]+"
    return {
        VIEW: view_rights(view),
        CLI: Rights(_words(replies), _words("rpc", replies), _words("replies", replies)),
        WORKER: Rights(_words(r"worker\..*"), _words(r"worker\..*"), _words("fleet", r"worker\..*")),
        WAREHOUSE: Rights(
            _words(r"warehouse\..*"),
            _words(r"warehouse\..*"),
            _words("runtime", "changes", "devices", "fleet", r"warehouse\..*"),
        ),
        # For people and for scrapers of the broker: to look and not to touch.
        MONITOR: Rights(NOTHING, NOTHING, NOTHING, tags=("monitoring",)),
    }


def simulator_rights() -> Rights:
    """One connection speaks for all simulated hosts, and could speak for any real one: for demos and tests."""
    return Rights(
        configure=_words("runtime", "changes", "devices", "replies", "fleet", "dead", "rpc", r"rpc\.[a-z0-9_-]+"),
        write=_words("runtime", "changes", "devices", "replies", r"rpc\.[a-z0-9_-]+"),
        read=_words("rpc", r"rpc\.[a-z0-9_-]+"),
        tags=(IMPERSONATOR,),
    )
