"""The evaluation sets with a name, and recipes that evaluate one model on one of them. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.plan.model_origin import positions
from pipeline.prompts.own_rows import own_rows
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.places import data_path, hub_id_mistake, named_path
from pipeline.recipe.recipe_errors import did_you_mean
from rewards.cases import MARK

_STEPS = "\n\nThink step by step, and put the final answer into \\boxed{{}}."
_PROGRAM = "\n\nAnswer with one block of Python code."
TASK, TASK_ROWS = "task:", 200
_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set: where the hub has it, how its rows are asked, and what judges answers."""

    hub: str
    asked: Mapping[str, Any]  # other keys of the prompts entry
    judge: str
    max_tokens: int = 1024


BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark(
        hub="openai/gsm8k:main",
        asked={"template": "{question}" + _STEPS, "answer_after": "####"},
        judge="builtin:math_answer",
    ),
    "math500": Benchmark(
        hub="HuggingFaceH4/MATH-500",
        asked={"template": "{problem}" + _STEPS},
        judge="builtin:math_answer",
        max_tokens=2048,
    ),
    "humaneval": Benchmark(
        hub="openai/openai_humaneval",
        asked={
            "template": "Complete this function.\n\n```python\n{prompt}```" + _PROGRAM,
            "columns": {"answer": "canonical_solution", "prompt": "prompt"},
        },
        judge="builtin:code_tests",
    ),
    "mbpp": Benchmark(
        hub="google-research-datasets/mbpp:full",
        asked={
            "template": "{text}\n\nIt must pass these tests:\n{test_list}" + _PROGRAM,
            "columns": {"answer": "code"},
        },
        judge="builtin:code_tests",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What a model is evaluated on: a name, a prompts entry, and what judges answers."""

    name: str
    entry: Mapping[str, Any]
    judge: str
    max_tokens: int


def questions_on(
    on: str, *, data: str | None, limit: int | None, judge: str | None, seed: int
) -> Questions:
    """What `--on` names, with rows from `data` in place of the hub's where that is given.

    Raises UsageError for a set that is not there.
    """
    size = {} if limit is None else {"size": limit}
    if on in BENCHMARKS:
        known = BENCHMARKS[on]
        rows = {"hub": known.hub, "split": "test"} if data is None else _rows(data)
        return Questions(
            name=on,
            entry={**rows, **known.asked, **size},
            judge=judge or known.judge,
            max_tokens=known.max_tokens,
        )
    if data is not None:
        raise UsageError(f"--data is for {', '.join(BENCHMARKS)}; --on {on} names its rows itself")
    if on.startswith(TASK):
        name = on.removeprefix(TASK)
        entry = {"task": name, "size": limit or TASK_ROWS, "split": "test", "seed": seed}
        return Questions(
            name=plain_name(name), entry=entry, judge=judge or "builtin:exact_match", max_tokens=256
        )
    if not Path(data_path(on)).exists():
        sets = [*BENCHMARKS, f"{TASK}NAME"]
        raise UsageError(
            f"--on {on}: there is no such file{did_you_mean(on, list(BENCHMARKS))}; write one of "
            f"{', '.join(sets)}, or a file of rows with question and answer"
        )
    return Questions(
        name=plain_name(Path(on).name.partition(".")[0]),
        entry={**_own_rows(on), **size},
        judge=judge or "builtin:math_answer",
        max_tokens=1024,
    )


def _own_rows(on: str) -> dict[str, str]:
    """Rows of one's own; where all their answers follow a mark, as GSM8K's do, what follows it."""
    place = _rows(on)
    marked = "file" in place and own_rows(Path(place["file"])).marked("answer")
    return {**place, "answer_after": MARK} if marked else place


def _rows(data: str) -> dict[str, str]:
    """Where rows lie that a user named: a file, a folder of a data set, or a hub id."""
    path = Path(data_path(data)).expanduser()
    if path.is_file():
        return {"file": str(path.resolve())}
    if path.is_dir():
        return {"hub": str(path.resolve()), "split": "test"}
    if path.suffix in _FILES:
        raise UsageError(f"--data: there is no file {data}; correct the path")
    if (mistake := hub_id_mistake(data)) is not None:
        raise UsageError(f"--data: there is no file {data}, and {mistake}")
    return {"hub": data, "split": "test"}


def model_source(model: str, *, device: str, trust_remote_code: bool) -> dict[str, Any]:
    """The source of a folder, of a run's artifact, of a GGUF file or `package:NAME`, or of a hub
    id."""
    place = named_path(model)
    folder = place / "model" if (place / "model").is_dir() else place
    kind = "path" if folder.is_dir() else "hub"
    if model.startswith("package:") or model.endswith(".gguf"):
        kind = "gguf"
    return {
        kind: str(folder.resolve()) if kind == "path" else model,
        "dtype": "float32" if device == "cpu" else "bfloat16",
        **({"trust_remote_code": True} if trust_remote_code else {}),
    }


def benchmark_recipe(
    questions: Questions,
    source: Mapping[str, Any],
    *,
    samples: int,
    settings: Sequence[Mapping[str, Any]],
    max_tokens: int | None,
    temperature: float | None,
    engine: str,
    seed: int,
) -> dict[str, Any]:
    """A recipe of an evaluate stage for each of the `settings`: none, or effort, budget or depth.

    One sample is the likeliest tokens, several are drawn as R1's (temperature 0.6, top_p 0.95).
    """
    drawn = samples > 1 if temperature is None else temperature > 0
    stage = {
        "kind": "evaluate",
        "models": ["base"],
        "prompts": questions.name,
        "samples_per_prompt": samples,
        "pass_k": sorted({1, samples}),
        "temperature": temperature if temperature is not None else 0.6 if drawn else 0.0,
        "top_p": 0.95 if drawn else 1.0,
        "max_tokens": max_tokens or _fitting(questions.max_tokens, source),
    }
    stages = {setting_name(setting): {**stage, **setting} for setting in settings}
    return {
        "name": f"eval-{questions.name}",
        "seed": seed,
        "model": dict(source),
        "prompts": {questions.name: {"too_long": "drop", **questions.entry}},
        "rewards": {"answer": {"use": questions.judge}},
        "stages": stages,
        "hardware": {"engine": engine},
    }


def setting_name(setting: Mapping[str, Any]) -> str:
    """A stage's name for a setting.

    >>> setting_name({"budget": 0.25}), setting_name({})
    ('budget-0_25', 'report')
    """
    words = [f"{key}-{value}".replace(".", "_") for key, value in setting.items()]
    return "-".join(words) or "report"


def swept(text: str) -> list[dict[str, Any]]:
    """The settings of `--sweep`.

    >>> swept("budget=0.25,0.5")
    [{'budget': 0.25}, {'budget': 0.5}]

    Raises UsageError for another form.
    """
    key, _, values = text.partition("=")
    kinds: Mapping[str, Any] = {"effort": str, "budget": float, "depth": int}
    try:
        settings = [{key: kinds[key](value.strip())} for value in values.split(",")]
        if not all(one[key] for one in settings):
            raise ValueError
    except (KeyError, ValueError):
        raise UsageError(
            f"--sweep {text}: write effort=low,medium,high, budget=0.25,0.5 or depth=1,2,4"
        ) from None
    return settings


def _fitting(tokens: int, source: Mapping[str, Any]) -> int:
    """Tokens of a completion, at most half of what the model takes, where files say that."""
    most = positions(ModelSource.model_validate(source))
    return tokens if most is None else min(tokens, most // 2)


def plain_name(text: str) -> str:
    """A text as a name in a recipe: letters, digits, `_` and `-`."""
    return _NO_NAME.sub("-", text).strip("-") or "rows"
