"""What keeps a soak from going on."""

from __future__ import annotations

from vmpulse_simulator.errors import SimulatorError


class NoRealHost(SimulatorError):
    """The host with real domains cannot be, or cannot go on."""


class ScrapeFailed(SimulatorError):
    """Metrics could not be had; asking again may help."""
