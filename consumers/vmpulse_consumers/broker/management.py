"""RabbitMQ's management API, as far as definitions go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from vmpulse_consumers.errors import ManagementRefused, ManagementUnreachable
from vmpulse_contract.errors import SettingsError

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S: Final = 30.0
"""Thousands of users at once take RabbitMQ some seconds."""
ALLOWED: Final = "http://HOST:15672 or https://HOST:15671, without user and path"


class Management:
    """The management API of one broker; a context manager.

    Args:
        url: its address.
        user: a user with the tag ``administrator``.
        password: of that user.

    Raises:
        SettingsError: the address is none.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = _checked(url)
        self.user = user
        self._client = httpx.Client(base_url=self.url, auth=(user, password), timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def definitions(self) -> dict[str, Any]:
        """All definitions of the broker. Raises ManagementUnreachable and ManagementRefused."""
        try:
            found = self._ask("GET", "/api/definitions").json()
        except ValueError as error:
            raise ManagementRefused(f"{self.url} does not answer as RabbitMQ's management API does") from error
        if not isinstance(found, dict):
            raise ManagementRefused(f"{self.url} does not answer as RabbitMQ's management API does")
        return found

    def put(self, document: dict[str, Any]) -> None:
        """Add and change what a document defines; nothing is removed. Raises as ``definitions`` does."""
        self._ask("POST", "/api/definitions", document)

    def delete_user(self, name: str) -> None:
        """Remove a user, which ends its connections. Raises as ``definitions`` does."""
        self._ask("DELETE", f"/api/users/{quote(name, safe='')}")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            reply = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            remedy = "enable it with `rabbitmq-plugins enable rabbitmq_management`, or mend --management-url"
            raise ManagementUnreachable(f"no management API answers at {self.url} ({reason}); {remedy}") from error
        if reply.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            remedy = "name a user with the tag administrator and its password (--admin, --admin-password-file)"
            raise ManagementRefused(f"{self.url} refuses the user {self.user!r}: {remedy}")
        if not reply.is_success:
            raise ManagementRefused(f"{self.url} answers {method} {path} with {reply.status_code}: {reply.text:.300}")
        return reply


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError("--management-url", url, ALLOWED) from error
    amiss = parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment or port == 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or amiss:
        raise SettingsError("--management-url", url, ALLOWED)
    return f"{parts.scheme}://{parts.netloc}"
