"""Forgetting a host: the one request of the API that changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from vmpulse_consumers.errors import IllegalTransition
from vmpulse_consumers.http.host_list import find_host
from vmpulse_consumers.http.refusals import Refused
from vmpulse_consumers.view.states import HostState

if TYPE_CHECKING:
    from litestar import Request

    from vmpulse_consumers.view.view import View


class Forgotten(Struct, frozen=True, kw_only=True):
    """A host that was forgotten. ``vms``: how many VMs it listed, whether or not others list them too."""

    host: str
    state: HostState
    vms: int


def forget(view: View, now: float, name: str) -> Forgotten:
    """Forget the host that *name* means. Raises Refused (404; 409 while it is heard, or where it means several)."""
    host = find_host(view, name)
    vms = len(host.vms)
    try:
        view.forget(host.id, now)
    except IllegalTransition as error:
        what = f"host {host.id} is {host.state} and cannot be forgotten"
        allowed = "a host that is lost, stopped or was never confirmed; stop its agent first"
        raise Refused(409, what, "path", allowed) from error
    return Forgotten(host=host.id, state=HostState.GONE, vms=vms)


def refuse_pages(request: Request[Any, Any, Any]) -> None:
    """Raise Refused (403) if a browser sends the request, for routes that change anything: the API has no login.

    Whatever page a reader of the view has open may post to it, but not without this header. That it equals Host proves
    nothing, since a page's own name may be made to resolve to our address.
    """
    if "origin" in request.headers:
        allowed = "no Origin: a request of a program, such as `vmpulse hosts forget`"
        raise Refused(403, "web pages may not change anything", "header Origin", allowed)
