"""The pages say what is there: settings, tests, links and files.

Renew the tables from the repository's root by

    python -c "from tests.test_docs_settings import renew; renew()"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct

from vmpulse_agent.settings import PREFIX, AgentSettings
from vmpulse_consumers.settings import CLI_PREFIX, VIEW_PREFIX, CallSettings, ViewSettings
from vmpulse_contract.settings import describe

ROOT: Final = Path(__file__).parents[1]
OPERATING: Final = ROOT / "docs" / "operating.md"
PAGES: Final = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: Final[dict[str, tuple[type[Struct], str]]] = {
    "vmpulse-agent run": (AgentSettings, PREFIX),
    "vmpulse view": (ViewSettings, VIEW_PREFIX),
    "vmpulse call": (CallSettings, CLI_PREFIX),
}
END: Final = "\n\n<!-- end of settings -->"


def begin(program: str) -> str:
    """The mark before a program's table."""
    return f"<!-- settings of {program} -->\n\n"


def rendered(program: str) -> str:
    """A program's settings as a Markdown table."""
    kind, prefix = PROGRAMS[program]
    lines = ["| setting | default | environment variable | meaning |", "|---|---|---|---|"]
    for name, default, meaning in describe(kind):
        lines.append(f"| `{name}` | {shown(default)} | `{prefix}{name.upper()}` | {meaning} |")
    return "\n".join(lines)


def shown(default: str) -> str:
    """A default as it is written in a TOML file, without quotes; enumerated values by their text."""
    text = re.sub(r"<\w+\.\w+: (.*)>", r"\1", default).strip("'\"")
    return f"`{text}`" if text not in {"", "{}"} else "none"


def renew() -> None:
    """Write the tables into the page."""
    page = OPERATING.read_text(encoding="utf-8")
    for program in PROGRAMS:
        before, rest = page.split(begin(program))
        page = f"{before}{begin(program)}{rendered(program)}{END}{rest.split(END, 1)[1]}"
    OPERATING.write_text(page, encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS)
def test_settings(program: str) -> None:
    """The page's table of settings is the code's."""
    rest = OPERATING.read_text(encoding="utf-8").split(begin(program))[1]
    assert rest.split(END)[0] == rendered(program)


def test_pages_name_tests_that_exist() -> None:
    """Whatever a page names as a test, or as a check of the lab, is there by that name."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))
    there = set(re.findall(r"(?:def|class) (\w+)", sources)) | set(re.findall(r"^(Test\w+) = ", sources, re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`(?:[\w/]+\.py::)?(test_\w+|Test\w+)`", text) + re.findall(r"lab: `(\w+)`", text)
        assert set(named) <= there, page.name


def test_links_lead_somewhere() -> None:
    """Each link of a page to another file of the repository finds it."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_named_in_pages_exist() -> None:
    """Each file or folder of the repository that a page names is there."""
    names = "agent|benches|consumers|contract|deploy|docs|requirements|simulator|tests"
    for page in PAGES:
        for path in re.findall(rf"`((?:{names})/[\w./-]*)`", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
