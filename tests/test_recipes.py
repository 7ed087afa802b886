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
from pipeline.recipe.sft_stage import SftStage

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


@pytest.mark.parametrize(
    ("name", "hub", "lr"),
    [
        ("distill-qwen2.5-math-1.5b-1n8g", "Qwen/Qwen2.5-Math-1.5B", 1e-4),
        ("distill-qwen2.5-math-7b-1n8g", "Qwen/Qwen2.5-Math-7B", 8e-5),
        ("distill-qwen2.5-14b-2n8g", "Qwen/Qwen2.5-14B", 7e-5),
        ("distill-qwen2.5-32b-4n8g", "Qwen/Qwen2.5-32B", 6e-5),
        ("distill-llama-3.1-8b-1n8g", "meta-llama/Llama-3.1-8B", 5e-5),
        ("distill-llama-3.3-70b-8n8g", "meta-llama/Llama-3.3-70B-Instruct", 2e-5),
    ],
)
def test_r1s_students_learn_at_its_rates_and_fit(name: str, hub: str, lr: float) -> None:
    """DeepSeek-R1's supplement: SFT alone, batch 64, two to three epochs, a rate for each size."""
    recipe = load_recipe(name)
    assert recipe.model.hub == hub
    student = recipe.stages["student"]
    assert isinstance(student, SftStage)
    assert (student.lr, student.batch_rows, student.epochs) == (lr, 64, 3)
    learned = estimate(recipe, device="cuda").stages[0]
    assert learned.memory_gib is not None
    assert learned.memory_gib < 80e9 / 2**30
