"""Progress: one rewritten line on a terminal, whole lines elsewhere."""

from __future__ import annotations

import io

from vmpulse_simulator.progress import ERASE, PLAIN_PERIOD_S, TERMINAL_PERIOD_S, Progress
from vmpulse_simulator.view_api import FleetReport

REPORT = FleetReport(
    ready=True, hosts={"live": 249, "late": 1}, vms=10_000, messages=1000, bytes=50_000, repairs=12, worst_age_s=3.04
)


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_plain_output_has_whole_lines() -> None:
    """Without a terminal each report is a line, with rates since the one before."""
    output = io.StringIO()
    progress = Progress(output, 250)
    progress.show(REPORT, 10.0)
    progress.show(FleetReport(hosts={"live": 250}, vms=10_000, messages=1520, bytes=215_000), 15.0)
    first, second = output.getvalue().splitlines()
    assert first == "249/250 hosts live  10,000 VMs  0 msg/s  0.0 kB/s  12 repairs  worst age 3.0 s"
    assert second == "250/250 hosts live  10,000 VMs  104 msg/s  33.0 kB/s  0 repairs  worst age unknown"
    assert progress.period_s == PLAIN_PERIOD_S


def test_terminal_line_is_rewritten_and_ended() -> None:
    """On a terminal the line is erased before the next, and ended before anything that stays."""
    output = Terminal()
    progress = Progress(output, 250)
    progress.show(REPORT, 10.0)
    progress.show(None, 11.0)
    progress.say("done")
    progress.close()
    assert output.getvalue().count(ERASE) == 3
    assert output.getvalue().endswith(f"{ERASE}the view does not answer{ERASE}done\n")
    assert progress.period_s == TERMINAL_PERIOD_S


def test_open_line_is_ended() -> None:
    """Whatever ends the demo, the shell's prompt begins on a line of its own."""
    output = Terminal()
    progress = Progress(output, 250)
    progress.show(REPORT, 10.0)
    progress.close()
    assert output.getvalue().endswith("\n")
