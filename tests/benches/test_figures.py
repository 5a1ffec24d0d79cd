"""What `make bench` makes of what the benches have printed: tables, plots, and words where a file is none of theirs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benches.figures.__main__ import main
from benches.figures.catalogue import BENCHES
from benches.figures.goals import Goal
from benches.figures.pages import NotAReport, draw, keep, row
from benches.ingest.report import Report as Ingest
from tests.benches.running import completed

FIGURES = Path("docs/performance")
INGEST = Ingest(
    hosts=250,
    vms=10_000,
    rounds=2,
    messages=104,
    mix={"frame": 100, "roster": 4},
    us_per_message={"aio-pika": 50.0, "channel": 30.0, "view": 60.0},
    ratio_to_empty_callback=1.2,
    ratio_to_empty_channel=2.0,
    ratios=[1.1, 1.3],
    load_average=0.1,
    goals_missed=("ratio_to_empty_callback",),
)


def test_what_is_kept_is_drawn_and_judged(tmp_path: Path) -> None:
    """A plot and a table of the one bench that is there, with its goal beside its figure."""
    keep(tmp_path, "ingest", msgspec.json.encode(INGEST))
    assert draw(tmp_path) == {"ingest": [Goal("ratio_to_empty_callback", 1.2, 1.15)]}
    page = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert "| `ratio_to_empty_callback` | 1.2 | at most 1.15 | **missed** |" in page
    assert "![Ingest](ingest.svg)" in page
    assert "## Scale" not in page
    assert b"aio-pika" in (tmp_path / "ingest.svg").read_bytes()


def test_equal_figures_give_equal_files(tmp_path: Path) -> None:
    """No date and nothing drawn at random is in a plot, or each run would change all of them."""
    drawn = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        keep(folder, "ingest", msgspec.json.encode(INGEST))
        draw(folder)
        drawn.append([(folder / name).read_bytes() for name in ("ingest.svg", "ingest.json", "figures.md")])
    assert drawn[0] == drawn[1]


def test_what_is_no_report_is_refused_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said which file is wrong, where, and how to take it anew; nothing is written in its place."""
    with pytest.raises(NotAReport, match=r"what benches.ingest has printed .* `rounds`.*--only ingest"):
        keep(tmp_path, "ingest", b'{"hosts":1,"vms":2}')
    assert not list(tmp_path.iterdir())
    (tmp_path / "ingest.json").write_text("nothing", encoding="utf-8")
    assert main(["--draw", "--into", str(tmp_path)]) == 1
    assert "ingest.json is not what benches.ingest prints now" in capsys.readouterr().err


def test_a_goal_is_the_most_or_the_least() -> None:
    """A figure at its goal has met it; one that was not measured has not."""
    assert row(Goal("vdsm_today", 40.0, 40.0, least=True)) == "| `vdsm_today` | 40 | at least 40 | met |"
    assert row(Goal("bytes_per_vm", 1536, 1536)) == "| `bytes_per_vm` | 1,536 | at most 1,536 | met |"
    assert row(Goal("age_p99_s", None, 6.0)) == "| `age_p99_s` | not measured | at most 6 | **missed** |"


def test_published_figures_are_those_of_todays_benches(tmp_path: Path) -> None:
    """Every bench has its figures in the docs, and drawing them gives the files that are there."""
    for name in BENCHES:
        keep(tmp_path, name, (FIGURES / f"{name}.json").read_bytes())
    draw(tmp_path)
    for written in tmp_path.iterdir():
        if written.suffix != ".svg":  # another release of matplotlib draws a little differently
            assert written.read_bytes() == (FIGURES / written.name).read_bytes(), written.name
        assert (FIGURES / written.name).exists()


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_bench_is_run_and_published(tmp_path: Path) -> None:
    """Run by its name, its figures are in the folder, and the last line says which goals it met."""
    folder = tmp_path / "figures"
    told = completed(tmp_path, dict, "benches.figures", "--only=ingest", "--quick", f"--into={folder}")
    assert list(told["ran_s"]) == ["ingest"]
    assert sorted(path.name for path in folder.iterdir()) == ["figures.md", "ingest.json", "ingest.svg"]
