"""The parts of RabbitMQ's definitions that are compared: what names an entry, and what of it counts. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Document = dict[str, Any]
"""Definitions as RabbitMQ exports them."""

RIGHTS: Final = ("configure", "write", "read")


class Part(NamedTuple):
    """A part of the definitions: its entries' singular, what names one, and what is compared of it."""

    key: str
    singular: str
    names: tuple[str, ...]
    fields: tuple[str, ...]

    def entries(self, document: Document, vhost: str) -> dict[tuple[str, ...], dict[str, Any]]:
        """The entries of one virtual host by their names."""
        return {tuple(one[name] for name in self.names): one for one in here(document, self.key, vhost)}


PERMISSIONS: Final = Part("permissions", "permission", ("user",), RIGHTS)
TOPICS: Final = Part("topic_permissions", "topic permission", ("user", "exchange"), ("write", "read"))
POLICIES: Final = Part("policies", "policy", ("name",), ("pattern", "apply-to", "definition", "priority"))


def here(document: Document, key: str, vhost: str) -> Iterator[dict[str, Any]]:
    """The entries of a part that are of one virtual host."""
    return (one for one in document.get(key, ()) if one["vhost"] == vhost)


def tags_of(user: Mapping[str, Any]) -> set[str]:
    """A user's tags; RabbitMQ 3.8 writes one text, later versions a list."""
    tags = user.get("tags", "")
    return set(tags.split(",") if isinstance(tags, str) else tags) - {""}
