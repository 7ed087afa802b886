"""The README's first hour works as it stands, and the tables of all pages list what there is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.cli.app import app
from pipeline.cli.reward_commands import reward_app
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.recipe.reward_spec import RewardSpec
from rewards.api import Sample
from rewards.registry import BUILTINS, check, resolve
from tests.pages import ROOT, Page, pages

README = Page(path=ROOT / "README.md")
LONGEST = 265
"""Lines of the README: what does not fit is a page beside what it describes."""

FIRST_HOUR_S = 600.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader has saved the README's files, beside the models that ship."""
    README.save_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(first_column: str) -> list[str]:
    """What the first column of the only table with that head, on any page, has in backticks."""
    tables = [
        text
        for page in pages()
        for text in re.findall(
            rf"^\| {re.escape(first_column)} \|.*\n((?:\|.*\n)+)", page.text, re.M
        )
    ]
    (rows,) = tables
    cells = re.findall(r"^\| (`.*?) \|(?!`)", rows, re.MULTILINE)
    return re.findall(r"`([^`]+)`", "".join(cells).replace("\\|", "|"))


def test_the_readme_is_for_the_first_hour() -> None:
    assert len(README.text.splitlines()) <= LONGEST


def test_the_first_recipe_plans(folder: Path) -> None:
    recipe = load_recipe("mine.yaml", ["stages.reason.lr=2e-4"])
    assert [stage.name for stage in make_plan(recipe).stages] == ["reason", "report"]


def test_the_first_reward_works(folder: Path) -> None:
    spec = load_recipe("mine.yaml").rewards["brief"]
    assert spec.use is not None
    brief = resolve(spec.use)
    short, long = (
        Sample(prompt="", completion=text) for text in ("<think>12:2</think>2", "a" * 50)
    )
    assert [reward.value for reward in brief([short, long], **spec.args)] == [1.0, 0.0]


@pytest.mark.slow
def test_the_first_recipe_learns(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "pipeline", "run", "mine.yaml", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=FIRST_HOUR_S)
    assert run.returncode == 0, run.stderr[-3000:]
    base, reason = json.loads(run.stdout)["results"]
    assert base["accuracy"] < 0.55
    assert reason["ci_low"] > base["ci_high"] + 0.2
    assert (folder / "runs" / "mine" / "report.html").is_file()


def test_the_commands_listed_are_the_commands_there_are() -> None:
    rows = re.findall(r"^\| `stepwell (\w+)", README.text, re.MULTILINE)
    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert set(rows) == known | {"data", "reward"}


def test_the_reward_commands_listed_are_the_commands_there_are() -> None:
    known = {c.name or c.callback.__name__ for c in reward_app.registered_commands if c.callback}
    rows = {
        name
        for page in pages()
        for name in re.findall(r"^[|-] `(?:stepwell )?reward (\w+) ", page.text, re.M)
    }
    assert rows == known


def test_the_built_in_rewards_are_listed() -> None:
    assert set(table("built-in")) == set(BUILTINS)


def test_routed_rewards_name_rewards_that_there_are() -> None:
    parts = [
        yaml.safe_load(block.text)
        for page in pages()
        for block in page.blocks
        if block.language == "yaml" and "by_source" in block.text
    ]
    assert parts
    for spec in [value for part in parts for value in part.get("rewards", {}).values()]:
        for _, judge in RewardSpec.model_validate(spec).routes():
            check(judge.use, args=judge.args)
