import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.watch.report import ReportError, curve_picture, write_report
from pipeline.watch.run_reading import RunReadError, metrics_by_part, metrics_of


def page_of(run_dir: Path) -> str:
    return write_report(run_dir).read_text()


def test_a_report_shows_every_piece(page: str) -> None:
    for part in (
        "15.3% <i>→</i> 70.2%",
        "7 <i>of</i> 8",
        "58.0% to 64.0%",
        "pass@4",
        "3:10",
        "stages/harvest",
        "<b>cold_start</b>, by step",
        "<b>reason</b>, by step",
        "data-hover",
        "Held-out accuracy",
        "What harvest kept",
        "16,000",
        "22.5%",
        "What was left out",
        "6,390",
        "39.9%",
        "stages.harvest.threshold",
        "21.2 tokens on average, a rejected one 20.5",
        "75.0% are told apart",
        "3 of 8 rows are in held_out &lt;b&gt;",
        "Rollouts of reason",
        "a=1;b=a+1;b?",
        "cut off",
        "The resolved recipe",
        "sharding none",
    ):
        assert part in page, part
    assert "/runs" not in page


def test_a_report_needs_no_network(page: str) -> None:
    page = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"https?:|<script [^>]*src|<link|@import|url\((?!#)|src=", page)


def test_model_output_is_escaped(page: str) -> None:
    assert "b = 7 &lt;b&gt;" in page
    assert "<think>" not in page


def test_tags_are_balanced(page: str) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "!doctype"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_both_colour_schemes_are_served(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "currentColor" in page
    assert "#010203" not in page


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("results.json", "Results on"),
        ("state.json", "stages done"),
        ("metrics", "<svg"),
        ("journal", "Rollouts of"),
        ("stages", "What harvest"),
        ("stages", "What was left out"),
        ("findings.json", "What is odd about the data"),
        ("prompts", "a=1;b=a+1;b?"),
    ],
)
def test_what_a_run_has_not_made_is_left_out(run_folder: Path, missing: str, gone: str) -> None:
    for stage in ("cold_start", "reason"):  # one picture is enough, and quick
        (run_folder / "metrics" / f"{stage}.jsonl").unlink()
    path = run_folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(run_folder)
    assert ("<svg" in page) == (missing not in ("metrics", "state.json"))
    assert gone not in page
    assert "The resolved recipe" in page


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: fresh\n")
    state = [{"name": "reason", "kind": "grpo", "status": "running", "seconds": None}]
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert "fresh" in page_of(tmp_path)


def test_a_report_is_the_same_when_made_again(run_folder: Path, page: str) -> None:
    assert page_of(run_folder) == page


def test_a_folder_without_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunReadError, match=r"no recipe\.yaml"):
        write_report(tmp_path)


def test_a_cut_metrics_line_is_left_out(run_folder: Path) -> None:
    assert len(metrics_of(run_folder, "reason")) == 120
    assert metrics_of(run_folder, "export") == []


def test_metrics_are_also_found_in_the_work_folder(run_folder: Path) -> None:
    (run_folder / "work").mkdir()
    (run_folder / "work" / "align").mkdir()
    shutil.copy(run_folder / "metrics/reason.jsonl", run_folder / "work/align/metrics.jsonl")
    assert metrics_of(run_folder, "align") == metrics_of(run_folder, "reason")


def test_a_part_that_trains_by_itself_has_curves_of_its_own(run_folder: Path) -> None:
    part = run_folder / "work" / "reason" / "random-depth"
    part.mkdir(parents=True)
    shutil.copy(run_folder / "metrics/cold_start.jsonl", part / "metrics.jsonl")
    found = metrics_by_part(run_folder, "reason")
    assert list(found) == ["reason, random depth", "reason"]
    assert found["reason"] == metrics_of(run_folder, "reason")
    assert found["reason, random depth"] == metrics_of(run_folder, "cold_start")
    assert "<b>reason, random depth</b>, by step" in page_of(run_folder)


def test_a_curve_picture_is_a_png(run_folder: Path, tmp_path: Path) -> None:
    out = curve_picture(run_folder, "reason", tmp_path / "curve.png")
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ReportError, match="cold_start"):
        curve_picture(run_folder, "cold_start", out)
