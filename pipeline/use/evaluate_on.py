"""A model on a set that has a name: its recipe, its run, and the results with what they rest on."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import write_atomic
from pipeline.errors import UsageError
from pipeline.plan.device import device_of
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.records import read_prompts
from pipeline.stages.context import Console
from pipeline.stages.progress import RunResult
from pipeline.stages.surroundings import Surroundings
from pipeline.start import Tell, run_planned
from pipeline.use.benchmarks import benchmark_recipe, model_source, questions_on, swept

SEED = 7


@dataclass(frozen=True, kw_only=True)
class SetEvaluation:
    """How a model did on a set."""

    rows: Sequence[Mapping[str, Any]]  # one a setting of the depth: an evaluate stage's, and it
    run: RunResult
    file: Path  # the same rows with versions, machine and hashes of the questions


def evaluate_on(
    model: str,
    on: str,
    overrides: Sequence[str],
    *,
    data: str | None,
    limit: int | None,
    samples: int,
    max_tokens: int | None,
    temperature: float | None,
    reward: str | None,
    asked: Mapping[str, Any],
    sweep: str | None,
    engine: str,
    trusted: bool,
    run_dir: Path | None,
    to: Path,
    console: Console,
    tell: Tell,
) -> SetEvaluation:
    """Evaluate a model as `stepwell eval --on` does; the arguments are its options.

    Args:
        asked: at most one of effort, budget and depth.
        trusted: whether the code that the model brings along may run.
        to: the folder for the results and their recipe.

    Raises UsageError for a set that is not there, and what `planned` and `run_planned` raise.
    """
    if sweep and asked:
        raise UsageError(f"--sweep sets the depth itself; leave --{next(iter(asked))} out")
    questions = questions_on(on, data=data, limit=limit, judge=reward, seed=SEED)
    source = model_source(model, device=device_of(Hardware()), trust_remote_code=trusted)
    settings = [dict(asked)] if sweep is None else swept(sweep)
    content = benchmark_recipe(
        questions,
        source,
        samples=samples,
        settings=settings,
        max_tokens=max_tokens,
        temperature=temperature,
        engine=engine,
        seed=SEED,
    )
    name = f"{_short(model)}-{questions.name}" + "".join(f"-{k}-{v}" for k, v in asked.items())
    plan = make_plan(_loaded(content, to / f"{name}.yaml", overrides, tell=tell))
    folder = run_dir or Path("runs") / f"eval-{name}"
    run = run_planned(plan, run_dir=folder, console=console, tell=tell)
    rows = [{**s, **row} for s, row in zip(settings, run.results, strict=True)]
    file = _kept(to / f"{name}.json", model, on, plan, rows, run)
    return SetEvaluation(rows=rows, run=run, file=file)


def _loaded(
    content: Mapping[str, Any], file: Path, overrides: Sequence[str], *, tell: Tell
) -> Recipe:
    """The recipe, written beside the results that it gives."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
    return load_recipe(str(file), overrides, tell=tell)


def _kept(
    file: Path,
    model: str,
    on: str,
    plan: Plan,
    rows: Sequence[Mapping[str, Any]],
    result: RunResult,
) -> Path:
    """The results with what they rest on: versions, machine, and a hash of every question."""
    here = Surroundings.here(device=plan.device)
    (name,) = plan.recipe.prompts
    prompts = read_prompts(result.run_dir / "inputs" / name / "prompts.parquet")
    hashes = {p.id: _sha256([p.question, list(map(dict, p.context)), p.answer]) for p in prompts}
    document = {
        "model": model,
        "on": on,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "results": list(rows),
        "versions": dict(here.packages),
        "machine": dict(here.machine),
        "prompts_sha256": _sha256(sorted(hashes.values())),
        "prompts": hashes,
        "run_dir": str(result.run_dir),
    }
    write_atomic(file, json.dumps(document, indent=1))
    return file


def _short(model: str) -> str:
    name = model.removeprefix("package:").rstrip("/")
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..", "model")]
    return "-".join(parts[-1:] or ["model"])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
