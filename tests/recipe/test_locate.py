"""Paths of a recipe: absolute once it is read, wherever they were written."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import PlanError
from pipeline.prompts.row_files import row_files
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.load import load_recipe
from pipeline.recipe.locate import locate, locate_beside
from pipeline.recipe.places import data_path
from pipeline.recipe.schema import Recipe

REWARD = "def f(sample): return 1.0\n"
ROW = json.dumps({"question": "1+1", "answer": "2"}) + "\n"
RECIPE = """
name: mine
model: {path: model}
prompts: {mine: {file: rows.jsonl}}
rewards: {own: {use: 'mine.py:f'}, routed: {mine: 'mine.py:f'}}
stages:
  small: {kind: distill, teacher: base, student: {path: model}, rows: mine.answer}
  reason: {kind: grpo, prompts: mine, rewards: [own, routed], steps: 2}
"""


def files(folder: Path) -> Path:
    """A recipe's files, the recipe left out."""
    (folder / "model").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "model" / name).write_text("{}")
    (folder / "rows.jsonl").write_text(ROW)
    (folder / "mine.py").write_text(REWARD)
    return folder


def places(recipe: Recipe) -> set[str]:
    """Every path of the recipe, as text."""
    own = [source for stage in recipe.stages.values() for source in stage.own_models.values()]
    judges = [judge for spec in recipe.rewards.values() for _, judge in spec.routes()]
    return {
        *(str(source.path) for source in (recipe.model, *own)),
        *(str(source.file) for source in recipe.prompts.values()),
        *(judge.use.removesuffix(":f") for judge in judges),
    }


@pytest.mark.parametrize("here", ["beside", "current"])
def test_every_path_is_absolute_after_loading(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = files(tmp_path / "home")
    recipes = home if here == "beside" else tmp_path / "elsewhere"
    recipes.mkdir(exist_ok=True)
    (recipes / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path if here == "beside" else home)
    recipe = load_recipe(str(recipes / "r.yaml"))
    assert places(recipe) == {str(home / n) for n in ("model", "rows.jsonl", "mine.py")}


def test_a_dumped_recipe_finds_its_files_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = files(tmp_path / "home")
    (home / "r.yaml").write_text(RECIPE)
    recipe = load_recipe(str(home / "r.yaml"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(dump_recipe(recipe))
    monkeypatch.chdir(tmp_path / "run")
    assert load_recipe("recipe.yaml") == recipe


def test_what_is_nowhere_is_refused_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert places(recipe) == {"model", "rows.jsonl", "mine.py"}
    with pytest.raises(PlanError) as caught:
        make_plan(recipe)
    assert "model.path: there is no folder model;" in str(caught.value)
    assert "prompts.mine.file: there is no file rows.jsonl;" in str(caught.value)


def test_overrides_and_layers_are_looked_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = files(tmp_path / "home")
    (home / "r.yaml").write_text(RECIPE)
    (tmp_path / "other.jsonl").write_text(ROW)
    (tmp_path / "child.yaml").write_text("defaults: home/r\nname: child\n")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("child", ["prompts.mine.file=other.jsonl"])
    assert recipe.prompts["mine"].file == str(tmp_path / "other.jsonl")
    assert recipe.model.path == str(home / "model")


def test_a_package_with_one_gguf_file_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "holds_a_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "m.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    text = "name: x\nmodel: {gguf: 'package:holds_a_model'}\nstages: {}\n"
    (tmp_path / "r.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "r.yaml")).model.gguf == str(package / "m.gguf")
    (package / "n.gguf").touch()
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert recipe.model.gguf == "package:holds_a_model"
    with pytest.raises(PlanError, match="holds several"):
        make_plan(recipe)


def test_the_place_of_a_file_is_in_no_fingerprint(tmp_path: Path) -> None:
    prints = []
    for name in ("one", "two"):
        home = files(tmp_path / name)
        (home / "r.yaml").write_text(RECIPE)
        prints.append(make_plan(load_recipe(str(home / "r.yaml"))).fingerprints)
    assert prints[0] == prints[1]


def test_shipped_data_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(data_path("data/models")).is_dir()
    assert data_path("data/none") == "data/none"
    (tmp_path / "data" / "models").mkdir(parents=True)
    assert data_path("data/models") == str(tmp_path / "data" / "models")
    assert data_path("rows.jsonl") == "rows.jsonl"


def test_patterns_lists_and_data_folders_are_found_beside_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "odd [name]"
    (home / "rows" / "saved").mkdir(parents=True)
    (home / "rows" / "a.jsonl").touch()
    here = tmp_path / "here"
    (here / "own").mkdir(parents=True)
    monkeypatch.chdir(here)
    content: dict[str, Any] = {
        "prompts": {
            "pattern": {"file": "rows/*.jsonl"},
            "several": {"file": ["rows/a.jsonl", "own/*.csv", "no*.jsonl", "none/*.jsonl"]},
            "saved": {"hub": "rows/saved"},
            "hub": {"hub": "openai/gsm8k:main"},
        }
    }
    locate_beside(content, home)
    locate(content)
    prompts = content["prompts"]
    assert row_files(prompts["pattern"]["file"]) == [home / "rows" / "a.jsonl"]
    assert prompts["several"]["file"] == [
        str(home / "rows" / "a.jsonl"),
        str(here / "own" / "*.csv"),
        str(here / "no*.jsonl"),
        "none/*.jsonl",
    ]
    assert prompts["saved"]["hub"] == str(home / "rows" / "saved")
    assert prompts["hub"]["hub"] == "openai/gsm8k:main"
