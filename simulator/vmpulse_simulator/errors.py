"""What can go wrong in the simulator, as types.

SimulatorError
├── BrokerError               the private broker
│   ├── BrokerUnavailable     this machine cannot run one; says what to do
│   ├── BrokerStartError      it was started and did not come up; carries the end of its log
│   └── BrokerCommandError    a command of its own tools failed
├── PortTaken                 the port of the view's HTTP API is in use
└── ViewError                 the view that a demo runs
    ├── ViewDied              its process ended; carries the end of its log
    ├── ViewNotReady          it did not come to see the whole fleet in time
    └── ViewUnreachable       it did not answer a request; asking again may help
"""

from __future__ import annotations

from pathlib import Path


class SimulatorError(Exception):
    """The root of this package's errors."""


class BrokerError(SimulatorError):
    """Something about the private broker."""


class BrokerUnavailable(BrokerError):
    """RabbitMQ cannot run on this machine as it is; the message ends with the remedy."""


class BrokerStartError(BrokerError):
    """The node did not answer in time, or ended while starting."""

    def __init__(self, reason: str, *, log: Path, last_lines: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy} (log: {log})\n{last_lines}")
        self.reason = reason
        self.log = log
        self.last_lines = last_lines
        self.remedy = remedy


class BrokerCommandError(BrokerError):
    """A command of the broker's tools ended with a status other than 0."""

    def __init__(self, arguments: tuple[str, ...], status: int, output: str) -> None:
        super().__init__(f"rabbitmqctl {' '.join(arguments)}: exit status {status}\n{output}")
        self.arguments = arguments
        self.status = status
        self.output = output


class PortTaken(SimulatorError):
    """Somebody else listens where the view's HTTP API is to be."""


class ViewError(SimulatorError):
    """Something about the view that a demo runs."""


class ViewDied(ViewError):
    """The view's process ended though nobody asked it to."""


class ViewNotReady(ViewError):
    """The view runs, but did not come to see every host live before the deadline."""


class ViewUnreachable(ViewError):
    """The view did not answer a request in time, or with an error."""
