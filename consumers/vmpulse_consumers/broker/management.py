"""RabbitMQ's management API, as far as definitions, channels and connections go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from vmpulse_consumers.broker.conduct import Channel, Connection
from vmpulse_consumers.broker.parts import tags_of
from vmpulse_consumers.errors import ManagementRefused, ManagementUnreachable
from vmpulse_edges.tls import distrust

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from types import TracebackType

TIMEOUT_S: Final = 30.0
"""Thousands of users at once take RabbitMQ some seconds."""
GONE: Final = (httpx.codes.NOT_FOUND,)
"""What is not there need not be removed."""
CLOSE_S: Final = 1.0
"""RabbitMQ closes a client that reads nothing after 6 s, and answers that with an error; it goes on without us."""
CHANNELS: Final = (
    "user,vhost,number,messages_uncommitted,messages_unacknowledged,message_stats.publish,connection_details.name"
)
CONNECTIONS: Final = "user,vhost,name,recv_oct,send_pend"
PERMITTED: Final = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
STATISTICS: Final = "statistics have to be on: neither management.disable_stats nor disable_metrics_collector is true"
REMEDY: Final = "name a user with the tag administrator and its password (--admin, --admin-password-file)"


class Management:
    """The management API of one broker; a context manager. What asks raises ManagementUnreachable or ManagementRefused.

    Args:
        url: its address, checked.
        user: a user with the tag ``administrator``.
        password: of that user.
        trusted: the authorities that may have signed the certificate of an https address.
    """

    def __init__(self, url: str, user: str, password: str, trusted: ssl.SSLContext) -> None:
        self.url = url
        self.user = user
        self._client = httpx.Client(
            base_url=url, auth=(user, password), timeout=TIMEOUT_S, trust_env=False, verify=trusted
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def definitions(self) -> dict[str, Any]:
        """All definitions of the broker."""
        return self._object(self._ask("GET", "/api/definitions"))

    def put(self, document: dict[str, Any]) -> None:
        """Add and change what a document defines; nothing is removed."""
        self._ask("POST", "/api/definitions", json=document)

    def delete_user(self, name: str) -> None:
        """Remove a user, which ends its connections."""
        self._ask("DELETE", _path("users", name))

    def limit_connections(self, user: str, most: int) -> None:
        """Let a user have no more than so many connections; those that are there stay."""
        self._ask("PUT", _path("user-limits", user, "max-connections"), json={"value": most}, fine=GONE)

    def remove(self, place: Sequence[str]) -> None:
        """Remove what stands at a *place* of the API, such as ``("queues", "/", "name")``; of bindings all of them."""
        if place[0] != "bindings":
            self._ask("DELETE", _path(*place), fine=GONE)
            return
        for binding in self._list(self._ask("GET", _path(*place))):
            # RabbitMQ gives this name as it has to stand in a path.
            self._ask("DELETE", f"{_path(*place)}/{binding['properties_key']}", fine=GONE)

    def expect_administrator(self, vhost: str) -> None:
        """Raise ManagementRefused unless we may close others' connections, and that virtual host is there."""
        if "administrator" not in tags_of(self._object(self._ask("GET", "/api/whoami"))):
            raise ManagementRefused(f"the user {self.user!r} may not close others' connections at {self.url}: {REMEDY}")
        if self._ask("GET", _path("vhosts", vhost), fine=GONE).status_code == httpx.codes.NOT_FOUND:
            raise ManagementRefused(f"{self.url} has no virtual host {vhost!r}: create it, or name another (--vhost)")

    def connections(self) -> list[Connection]:
        """All connections of the broker, as its statistics have them."""
        reply = self._ask("GET", "/api/connections", remedy=STATISTICS, params={"columns": CONNECTIONS})
        return [
            Connection(one["user"], one["vhost"], one["name"], one.get("recv_oct", 0), one.get("send_pend", 0))
            for one in self._list(reply)
            if {"user", "vhost", "name"} <= one.keys()
        ]

    def channels(self) -> list[Channel]:
        """All channels of the broker, as its statistics have them."""
        # In one piece: 2,500 are 300 KB, and each page would have RabbitMQ sort all of them.
        reply = self._ask("GET", "/api/channels", remedy=STATISTICS, params={"columns": CHANNELS})
        return [channel for one in self._list(reply) if (channel := _channel(one)) is not None]

    def close_connection(self, name: str, reason: str) -> None:
        """Have a connection closed, if it is there; its client is told the reason. RabbitMQ may take longer than us."""
        told = {"X-Reason": reason}
        try:
            # 500 it says of one that is going, by itself or because it reads nothing; the next look sees if it has.
            going = (httpx.codes.NOT_FOUND, httpx.codes.INTERNAL_SERVER_ERROR)
            self._ask("DELETE", _path("connections", name), headers=told, timeout=CLOSE_S, fine=going)
        except ManagementUnreachable as error:
            if not isinstance(error.__cause__, httpx.ReadTimeout):
                raise

    def _ask(
        self, method: str, path: str, *, fine: Sequence[int] = (), remedy: str = "", **more: Any
    ) -> httpx.Response:
        """Ask; *fine*: codes that are no error either. *remedy*: for an answer that is an error."""
        try:
            reply = self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if reply.status_code in PERMITTED:
            raise ManagementRefused(f"{self.url} refuses the user {self.user!r}: {REMEDY}")
        if not reply.is_success and reply.status_code not in fine:
            answer = f"{self.url} answers {method} {path} with {reply.status_code}: {reply.text:.300}"
            raise ManagementRefused(f"{answer}; {remedy}" if remedy else answer)
        return reply

    def _away(self, error: httpx.TransportError) -> ManagementUnreachable | ManagementRefused:
        if distrusted := distrust(error):
            remedy = "name the file of its authority with --management-ca-file, and check the address"
            return ManagementRefused(f"the certificate of {self.url} is not trusted: {distrusted}; {remedy}")
        reason = str(error) or type(error).__name__
        remedy = "enable it with `rabbitmq-plugins enable rabbitmq_management`, or mend --management-url"
        return ManagementUnreachable(f"no management API answers at {self.url} ({reason}); {remedy}")

    def _object(self, reply: httpx.Response) -> dict[str, Any]:
        found = self._json(reply)
        if not isinstance(found, dict):
            raise self._stranger()
        return found

    def _list(self, reply: httpx.Response) -> list[dict[str, Any]]:
        found = self._json(reply)
        if not isinstance(found, list):
            raise self._stranger()
        return found

    def _json(self, reply: httpx.Response) -> object:
        try:
            return reply.json()
        except ValueError as error:
            raise self._stranger() from error

    def _stranger(self) -> ManagementRefused:
        return ManagementRefused(f"{self.url} does not answer as RabbitMQ's management API does")


def _path(*names: str) -> str:
    """The path of what has these names; each is one segment, a slash in it or not."""
    return "/api/" + "/".join(quote(name, safe="") for name in names)


def _channel(one: dict[str, Any]) -> Channel | None:
    """Read an entry; None: it has no connection that could be closed, or RabbitMQ knows nothing of it yet."""
    details = one.get("connection_details")
    if not isinstance(details, dict) or "name" not in details or "user" not in one:
        return None
    return Channel(
        one["user"],
        one["vhost"],
        details["name"],
        uncommitted=one.get("messages_uncommitted", 0),
        unacknowledged=one.get("messages_unacknowledged", 0),
        published=one.get("message_stats", {}).get("publish", 0),
        number=one.get("number", 1),
    )
