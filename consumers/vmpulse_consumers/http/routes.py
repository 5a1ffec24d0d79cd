"""The API's routes. Each reads one moment of the view, without awaiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from litestar import MediaType, Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Struct

from vmpulse_consumers.http.access import KNOWN_KEY
from vmpulse_consumers.http.host_forgetting import Forgotten, forget, refuse_pages
from vmpulse_consumers.http.host_list import HostDetail, HostPage, host_detail, host_page
from vmpulse_consumers.http.queries import HostQuery, VmQuery, documented, read
from vmpulse_consumers.http.refusals import Refused, shorten
from vmpulse_consumers.http.vm_devices import VmDevices, vm_devices
from vmpulse_consumers.http.vm_list import VmPage, vm_page
from vmpulse_consumers.view import View
from vmpulse_consumers.view.ownership import Vm
from vmpulse_consumers.view.rows import FleetRow, VmRow, fleet_row, vm_row
from vmpulse_contract import identity
from vmpulse_contract.errors import BadName

API: Final = "/api/v1"
AnyRequest = Request[Any, Any, Any]


class Health(Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Readiness(Struct, frozen=True):
    """Whether the view's picture is complete, and if not, why."""

    ready: bool
    reasons: list[str]


def vm_routes(view: View, clock: Callable[[], float]) -> list[HTTPRouteHandler]:
    """Give the routes of VMs."""
    turns = asyncio.Lock()

    @get(
        f"{API}/vms",
        operation_class=documented(VmQuery),
        summary="List VMs",
        responses={200: ResponseSpec(VmPage, description="The page", generate_examples=False)},
    )
    async def list_vms(request: AnyRequest) -> Stream:
        query = read(VmQuery, request.scope["query_string"])
        async with turns:
            pieces = vm_page(view, clock(), query)
        return Stream(_one_at_a_time(pieces, turns), media_type=MediaType.JSON)

    @get(f"{API}/vms/{{vm:str}}", summary="One VM with its sections and the claims on it")
    async def show_vm(request: AnyRequest, vm: FromPath[str]) -> VmRow:
        refuse_parameters(request)
        return vm_row(view, clock(), _found(view, vm), with_sections=True, with_claims=True)

    @get(f"{API}/vms/{{vm:str}}/devices", summary="One VM's device statistics, as its host reported them last")
    async def show_devices(request: AnyRequest, vm: FromPath[str]) -> VmDevices:
        refuse_parameters(request)
        return vm_devices(_found(view, vm), clock())

    return [list_vms, show_vm, show_devices]


async def _one_at_a_time(pieces: Iterator[bytes], turns: asyncio.Lock) -> AsyncIterator[bytes]:
    """Hold the loop for one piece at a time, however many lists are being read."""
    while True:
        async with turns:
            piece = next(pieces, None)
            await asyncio.sleep(0)
        if piece is None:
            return
        yield piece


def _found(view: View, text: str) -> Vm:
    found = view.vms.get(_vm_id(text))
    if found is None:
        raise Refused(404, f"there is no VM {shorten(text)}", "path", f"an id that GET {API}/vms lists")
    return found


def _vm_id(text: str) -> identity.VmId:
    try:
        return identity.vm_id(text)
    except BadName as error:
        allowed = "a UUID such as 123e4567-e89b-12d3-a456-426614174000"
        raise Refused(400, f"VM id {shorten(text)} is not allowed", "path", allowed) from error


def host_routes(view: View, clock: Callable[[], float], applied: Callable[[], None]) -> list[HTTPRouteHandler]:
    """Give the routes of hosts; *applied* is called when one was forgotten."""

    @get(f"{API}/hosts", operation_class=documented(HostQuery), summary="List hosts")
    async def list_hosts(request: AnyRequest) -> HostPage:
        return host_page(view, clock(), read(HostQuery, request.scope["query_string"]))

    @get(f"{API}/hosts/{{host:str}}", summary="One host, by id, FQDN or UUID, with its VMs and tombstones")
    async def show_host(request: AnyRequest, host: FromPath[str]) -> HostDetail:
        refuse_parameters(request)
        return host_detail(view, clock(), host)

    @post(f"{API}/hosts/{{host:str}}/forget", status_code=200, summary="Forget a host that is gone for good")
    async def forget_host(request: AnyRequest, host: FromPath[str]) -> Forgotten:
        refuse_pages(request)
        refuse_parameters(request)
        forgotten = forget(view, clock(), host)
        applied()
        return forgotten

    return [list_hosts, show_host, forget_host]


def fleet_routes(view: View, clock: Callable[[], float]) -> list[HTTPRouteHandler]:
    """Give the route of the fleet's row, and the two that supervisors ask."""

    @get(f"{API}/fleet", summary="The fleet in one row")
    async def show_fleet(request: AnyRequest) -> FleetRow:
        refuse_parameters(request)
        return fleet_row(view, clock())

    @get("/healthz", summary="Whether the process answers")
    async def healthz() -> Health:
        return Health()

    @get("/readyz", summary="Whether the view is ready (200) or why it is not (503)")
    async def readyz(request: AnyRequest) -> Response[Readiness]:
        reasons = view.not_ready(clock())
        # Reasons name hosts: not for those who may not read.
        told = reasons if request.scope["state"].get(KNOWN_KEY, True) else []
        return Response(Readiness(not reasons, told), status_code=503 if reasons else 200)

    return [show_fleet, healthz, readyz]


def refuse_parameters(request: AnyRequest) -> None:
    """Raise Refused (400) if the query is not empty, for routes that read none."""
    if request.scope["query_string"]:
        raise Refused(400, "this route has no parameters", "query", "none")
