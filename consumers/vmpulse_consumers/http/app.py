"""The app: routes, error replies and the API's own description, for one view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ControllerRouterHandler
from prometheus_client import CollectorRegistry

from vmpulse_consumers.http.event_metrics import EventCollector
from vmpulse_consumers.http.event_stream import EventStreams, event_routes
from vmpulse_consumers.http.metrics import FleetCollector, metrics_route
from vmpulse_consumers.http.refusals import HANDLERS
from vmpulse_consumers.http.routes import fleet_routes, host_routes, vm_routes
from vmpulse_consumers.view import View


def build_app(
    view: View,
    clock: Callable[[], float],
    events: EventStreams,
    *,
    applied: Callable[[], None] = lambda: None,
    registry: CollectorRegistry | None = None,
    more_routes: Sequence[ControllerRouterHandler] = (),
) -> Litestar:
    """Build the app.

    Args:
        view: what to show. The app reads it, and forgets hosts; both only in the loop that it runs in.
        clock: the monotonic clock, in seconds, that the view is fed with.
        events: serves what happens.
        applied: called when the view was told to forget a host, so that what follows is told at once.
        registry: metrics of other parts of the program, to show with ours. A registry serves one app.
        more_routes: routes beside the API's own.
    """
    registry = CollectorRegistry(auto_describe=False) if registry is None else registry
    registry.register(FleetCollector(view, clock))
    registry.register(EventCollector(events))
    return Litestar(
        [
            *vm_routes(view, clock),
            *host_routes(view, clock, applied),
            *fleet_routes(view, clock),
            *event_routes(events),
            metrics_route(view, clock, registry),
            *more_routes,
        ],
        exception_handlers=HANDLERS,
        # Stated, because otherwise an environment variable decides whether tracebacks leave the process.
        debug=False,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="vmpulse",
            version=version("vmpulse"),
            description="What every VM of the fleet is doing. It is only read, but for hosts that are forgotten.",
            path="/schema",
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        ),
    )
