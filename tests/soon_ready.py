"""Views that are ready, and tell of VMs, within a second of a cold start."""

from __future__ import annotations

import pytest


def soon_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have views take a second of hearing the stream for enough to know their fleet, whatever ticks hosts have."""
    monkeypatch.setattr("vmpulse_consumers.view.listening.LONGEST_TICK_S", 0.5)
    monkeypatch.setattr("vmpulse_consumers.view.listening.SLACK_S", 0.5)
    monkeypatch.setattr("vmpulse_consumers.view.view.TELL_SOONEST_S", 1.0)
    monkeypatch.setattr("vmpulse_consumers.view.view.CANARY_MISSING_S", 1.0)
