"""The view over HTTP: lists of VMs and hosts, health, and metrics. It reads the view and never changes it.

Everything runs in the view's own event loop, without a lock: between two awaits nobody else touches the view, so each
reply shows one moment. A reply is therefore computed without awaiting, and quickly.
"""

from vmpulse_consumers.http.app import build_app
from vmpulse_consumers.http.event_stream import EventStreams
from vmpulse_consumers.http.server import serve, serve_on
from vmpulse_consumers.listener import listen

__all__ = ["EventStreams", "build_app", "listen", "serve", "serve_on"]
