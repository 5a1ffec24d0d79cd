"""The view: what the fleet's stream adds up to. State machine without I/O; numpy columns for runtime values."""

from vmpulse_consumers.view.events import BrokerEvent, Event, HostEvent
from vmpulse_consumers.view.host import Host, Request
from vmpulse_consumers.view.ownership import Vm
from vmpulse_consumers.view.states import HostInput, HostState
from vmpulse_consumers.view.view import View

__all__ = ["BrokerEvent", "Event", "Host", "HostEvent", "HostInput", "HostState", "Request", "View", "Vm"]
