"""How a running demo tells its user what goes on: a line that is rewritten on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from vmpulse_simulator.view_api import FleetReport

TERMINAL_PERIOD_S: Final = 1.0
PLAIN_PERIOD_S: Final = 5.0
ERASE: Final = "\r\x1b[K"


class Progress:
    """Tells of one demo.

    Args:
        output: where to.
        hosts: how many hosts there are.
    """

    def __init__(self, output: TextIO, hosts: int) -> None:
        self._output = output
        self._hosts = hosts
        self._terminal = output.isatty()
        self._open = False
        self._last: tuple[float, int, int] | None = None
        self.period_s = TERMINAL_PERIOD_S if self._terminal else PLAIN_PERIOD_S

    def say(self, text: str) -> None:
        """Tell something that stays."""
        self._output.write(f"{ERASE if self._open else ''}{text}\n")
        self._output.flush()
        self._open = False

    def show(self, report: FleetReport | None, now: float) -> None:
        """Tell where things stand."""
        line = "the view does not answer" if report is None else self._line(report, now)
        if not self._terminal:
            self.say(line)
            return
        width = shutil.get_terminal_size().columns
        self._output.write(ERASE + line[: width - 1])
        self._output.flush()
        self._open = True

    def close(self) -> None:
        """End the line that is being rewritten."""
        if self._open:
            self.say("")

    def _line(self, report: FleetReport, now: float) -> str:
        messages, sent = self._since(report, now)
        age = "unknown" if report.worst_age_s is None else f"{report.worst_age_s:.1f} s"
        return (
            f"{report.live()}/{self._hosts} hosts live  {report.vms:,} VMs  {messages:,.0f} msg/s  "
            f"{sent / 1000:,.1f} kB/s  {report.repairs:,} repairs  worst age {age}"
        )

    def _since(self, report: FleetReport, now: float) -> tuple[float, float]:
        """Messages and bytes per second since the last time."""
        last, self._last = self._last, (now, report.messages, report.bytes)
        if last is None or now <= last[0]:
            return 0.0, 0.0
        span = now - last[0]
        return max(0.0, (report.messages - last[1]) / span), max(0.0, (report.bytes - last[2]) / span)
