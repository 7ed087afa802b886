"""Every shipped recipe loads, plans, and survives dumping."""

import re
from pathlib import Path

import pytest

from pipeline.plan.estimate import estimate
from pipeline.plan.plan import make_plan
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.load import load_recipe
from pipeline.recipe.places import shipped_recipes
from pipeline.recipe.schema import Recipe

NAMES = sorted(path.stem for path in shipped_recipes().glob("*.yaml"))


def lacks_a_model(recipe: Recipe) -> bool:
    """Whether this machine has not got a model file that the recipe names."""
    own = [source for stage in recipe.stages.values() for source in stage.own_models.values()]
    return any(
        not Path(place).exists()
        for source in (recipe.model, *own)
        for place in (source.path, source.gguf)
        if place is not None
    )


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_plan(name: str) -> None:
    recipe = load_recipe(name)
    if lacks_a_model(recipe):
        pytest.skip(f"{name} needs a model that is not installed here")
    assert make_plan(recipe).stages


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_survive_dumping(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "dump.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(str(tmp_path / "dump.yaml")) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_named_after_their_files(name: str) -> None:
    assert load_recipe(name).name == name


def test_recipes_state_only_differences() -> None:
    longest = max(len(path.read_text().splitlines()) for path in shipped_recipes().glob("*.yaml"))
    assert longest <= 100


@pytest.mark.parametrize("name", [name for name in NAMES if re.search(r"-\d+n\d+g$", name)])
def test_recipes_for_gpus_use_those_in_their_names(name: str) -> None:
    nodes, gpus = (int(n) for n in re.search(r"-(\d+)n(\d+)g$", name).groups())  # type: ignore[union-attr]
    assert estimate(load_recipe(name), device="cuda").gpus == nodes * gpus
