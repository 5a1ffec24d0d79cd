"""docs/sections.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from vmpulse_agent.libvirt_edge.canonical_xml import LEFT_OUT
from vmpulse_agent.libvirt_edge.guest_memory import TOLD_PERIODS
from vmpulse_agent.libvirt_edge.guest_pace import SLOW_S, Topic

PAGE = Path(__file__).parents[1] / "docs" / "sections.md"
BEGIN, END = "<!-- left out -->\n\n", "\n<!-- end of left out -->"


def left_out() -> str:
    """The table of what config leaves out."""
    rows = "".join(f"| {what} | {why} |\n" for what, why in LEFT_OUT)
    return f"| left out | because it changes on |\n|---|---|\n{rows}"


def renew() -> None:
    """Write the table into the page: ``python -c 'import tests.test_docs_sections as t; t.renew()'``."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + left_out() + END + after, encoding="utf-8")


def test_what_config_leaves_out_is_documented() -> None:
    """The table is the code's."""
    assert BEGIN + left_out() + END in PAGE.read_text(encoding="utf-8")


def test_paces_are_documented() -> None:
    """How often guests are asked for what."""
    page = PAGE.read_text(encoding="utf-8")
    for topic, seconds in SLOW_S.items():
        word = topic.name.lower().replace("_", " ").replace("apps", "packages")
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {word}:")]
        assert row.endswith(f"| {seconds:.0f} s |")


def test_how_long_answers_are_told_is_documented() -> None:
    """In minutes, by what becomes absent."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    minutes = {topic: TOLD_PERIODS * seconds / 60 for topic, seconds in SLOW_S.items()}
    assert f"after {minutes[Topic.USERS]:.0f} minutes `username` and `session` are absent" in page
    assert f"after {minutes[Topic.INTERFACES]:.0f} minutes `netIfaces` and `guestIPs`" in page
    assert f"after {minutes[Topic.FILE_SYSTEMS]:.0f} minutes `disksUsage`" in page
    assert f"after {minutes[Topic.APPS]:.0f} minutes `appsList`" in page
