"""The README's examples work as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.app import app, main
from pipeline.cli.reward_commands import reward_app
from pipeline.plan.plan import make_plan
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.load import load_recipe
from pipeline.recipe.places import data_path
from pipeline.recipe.reward_spec import RewardSpec
from rewards.api import Sample
from rewards.registry import BUILTINS, check, resolve

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def block(language: str, having: str) -> str:
    """The README's only code block in that language that has a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = (text for text in blocks if having in text)
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(block("yaml", "name: mine"))
    (tmp_path / "brief.py").write_text(block("python", "def brief"))
    return str(tmp_path / "mine.yaml")


def test_the_first_recipe_loads_and_plans(recipe: str) -> None:
    loaded = load_recipe(recipe, ["stages.reason.lr=1e-4"])
    if not Path(data_path("data/models/tiny")).is_dir():
        loaded = load_recipe(recipe, ["model.hub=some/model"])
    assert [stage.name for stage in make_plan(loaded).stages] == ["reason", "report"]


def test_the_first_reward_works(recipe: str) -> None:
    use = load_recipe(recipe).rewards["brief"].use
    brief = resolve(use)
    short, long = (Sample(prompt="", completion=text) for text in ("a b", "a " * 50))
    assert [reward.value for reward in brief([short, long], words=30)] == [1.0, 0.0]


def test_the_recurrent_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(data_path("data/models/tiny")).parents[2])
    made: dict[str, Any] = {}
    exec(block("python", "DepthRequest"), made)  # the README's own words
    assert made["deep"].shape[1] > made["prompt"]["input_ids"].shape[1]
    assert made["early"].shape[1] > made["prompt"]["input_ids"].shape[1]


def test_the_recurrent_recipe_loads(tmp_path: Path) -> None:
    prompts = "prompts: {careful: {task: swaps, size: 9, difficulty: [1, 3]}}\n"
    (tmp_path / "mine.yaml").write_text("name: mine\n" + prompts + block("yaml", "random_depths"))
    assert load_recipe(str(tmp_path / "mine.yaml")).model.scratch is not None


def test_the_commands_listed_are_the_commands_there_are() -> None:
    listed = set(re.findall(r"^\| `stepwell (\w+)", README, re.MULTILINE))
    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert listed == known | {"data", "reward"}


def test_the_reward_commands_listed_are_the_commands_there_are() -> None:
    listed = set(re.findall(r"^\| `reward (\w+)", README, re.MULTILINE))
    known = {c.name or c.callback.__name__ for c in reward_app.registered_commands if c.callback}
    assert listed == known


def test_the_built_in_rewards_are_listed() -> None:
    table = README.partition("| built-in |")[2].partition("Each returns")[0]
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert set(listed) == set(BUILTINS)


def test_the_routed_rewards_load() -> None:
    spec = RewardSpec.model_validate(yaml.safe_load(block("yaml", "gsm8k"))["rewards"]["answer"])
    for _, judge in spec.routes():
        check(judge.use, args=judge.args)


def test_the_reward_with_holes_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contains.py").write_text(block("python", "def contains"))
    (tmp_path / "cases.jsonl").write_text(block("json", "plain"))
    session = block("console", "reward attack")
    for command, shown in re.findall(
        r"^\$ stepwell (.*?) \| head.*\n((?:[^$].*\n)+)", session, re.M
    ):
        main(command.split())
        assert capfd.readouterr().out.startswith(shown)


def test_the_hardware_keys_exist() -> None:
    table = README.partition("## Hardware")[2].partition("A batch is counted")[0]
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert keys
    assert set(keys) <= set(Hardware.model_fields)


def test_the_recipes_listed_exist() -> None:
    table = README.partition("| recipe |")[2].partition("## A first recipe")[0]
    names = re.findall(r"`([\w.-]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert len(names) >= 5
    for name in names:
        assert load_recipe(name).name == name
