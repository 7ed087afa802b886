"""What axe, which checks pages by WCAG, says of all pages that we write, wide and on a phone."""

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.errors import OK
from pipeline.watch.explorer import write_explorer
from pipeline.watch.report import write_report
from tests.chromium import AVAILABLE, Chromium
from tests.watch.runs import evaluated_run

MODELS = Path(__file__).resolve().parents[2] / "data/models"
PAGES = ("report", "explorer", "compare", "leaderboard", "trace")
ASK = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]})
  .then(found => done(found.violations.map(
    rule => `${rule.impact}: ${rule.help}: ${rule.nodes.map(node => node.html).join(" ")}`)))
  .catch(error => done([String(error)]));
"""

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all kinds of pages, by name."""
    place = tmp_path_factory.mktemp("pages")
    runs = []
    for name, right in (("one", 1.0), ("two", 0.0)):
        marks = {"base": [[0.0, 1.0], [0.0, 0.0]], "reason": [[right, 1.0], [1.0, right]]}
        run = evaluated_run(place / name / "run", marks)
        shutil.copytree(MODELS / "tiny", run / "inputs" / "base" / "model")
        runs.append(str(run))
    write_explorer(Path(runs[0]))
    write_report(Path(runs[0]))
    for name in ("report", "explorer"):
        shutil.copy(Path(runs[0]) / f"{name}.html", place)
    trace = ("trace", str(MODELS / "tiny-depth"), "ask", "--max-tokens", "8", "--out")
    for *words, out in (
        ("compare", *runs, "--html", "compare.html"),
        ("leaderboard", *runs, "--html", "leaderboard.html"),
        (*trace, "trace.html"),
    ):
        assert main([*words, str(place / out)]) == OK
    return place


@pytest.fixture(scope="module", params=[1280, 390])
def browser(request: pytest.FixtureRequest) -> Iterator[Chromium]:
    with Chromium(width=request.param, height=800) as window:
        yield window


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(page: str, pages: Path, browser: Chromium) -> None:
    browser.open((pages / f"{page}.html").as_uri())
    browser.script(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    assert browser.script_async(ASK) == []
