"""`stepwell eval`: a model on a recipe's evaluation, or on a set that has a name."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.answer import Answer, Json, UsageError
from pipeline.cli.depth_options import Budget, Depth, Effort, asked_depth
from pipeline.cli.hub_reach import reach_hub
from pipeline.cli.streams import say

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan
    from pipeline.recipe.schema import Recipe
    from pipeline.stages.progress import RunResult

SEED = 7


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder, a GGUF file or a hub id.")
    ],
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Whose evaluation; or give --on.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=c]...", help="Changes, such as hardware.engine=native."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="gsm8k, math500, humaneval, mbpp, task:NAME or a file of rows."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Rows of --on: a file, a folder or a hub id.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many rows.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Completions of a row; over 1: pass@k and a vote.")
    ] = 1,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of a completion.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Default: 0 for one sample, else 0.6.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Judge of --on's answers, such as own.py:judge.")
    ] = None,
    effort: Effort = None,
    depth: Depth = None,
    budget: Budget = None,
    sweep: Annotated[
        str | None, typer.Option(help="Settings one after another: effort=low,medium,high.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="vllm, native or auto; default: the recipe's.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that MODEL brings along.")
    ] = False,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Where to run; default runs/NAME.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Where results of --on are kept.")] = Path("evals"),
    as_json: Json = False,
) -> Answer:
    """Evaluate a model on a set that has a name, or as a recipe's evaluate stage does."""
    given = list(overrides or [])
    asked = asked_depth(effort, depth, budget)
    if on is None:
        if recipe is None:
            raise UsageError(
                "give a recipe to evaluate as it does, or --on gsm8k|math500|humaneval|mbpp|"
                "task:NAME|FILE"
            )
        _refuse_options_of_sets(data=data, limit=limit, sweep=sweep, reward=reward)
        return _of_recipe(
            model, recipe, given, asked=asked, engine=engine,
            trusted=trust_remote_code, run_dir=run_dir, as_json=as_json,
        )  # fmt: skip
    if recipe is not None:
        if "=" not in recipe:
            raise UsageError(f"--on {on} needs no recipe; leave {recipe} out, or leave --on out")
        given = [recipe, *given]
    if sweep and asked:
        raise UsageError(f"--sweep sets the depth itself; leave --{next(iter(asked))} out")
    return _on_set(
        model, on, given, data=data, limit=limit, samples=samples, max_tokens=max_tokens,
        temperature=temperature, reward=reward, asked=asked, sweep=sweep, engine=engine or "auto",
        trusted=trust_remote_code, run_dir=run_dir, to=to, as_json=as_json,
    )  # fmt: skip


def _refuse_options_of_sets(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--{name} is for --on; a recipe's evaluate stage has its own")


def _of_recipe(
    model: str,
    recipe: str,
    overrides: Sequence[str],
    *,
    asked: Mapping[str, Any],
    engine: str | None,
    trusted: bool,
    run_dir: Path | None,
    as_json: bool,
) -> Answer:
    from pipeline.cli.benchmarks import model_source
    from pipeline.cli.evaluation import evaluation_recipe
    from pipeline.plan.plan import make_plan
    from pipeline.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides, tell=say)
    source = model_source(model, device="cpu", trust_remote_code=trusted)
    del source["dtype"]  # the recipe's
    try:
        changed = evaluation_recipe(
            loaded, {"trust_remote_code": False, **source}, asked=asked, engine=engine
        )
    except ValueError as error:
        raise UsageError(f"{recipe}: {error}") from None
    setting = "".join(f"-{key}-{value}" for key, value in asked.items())
    folder = run_dir or Path("runs") / f"{loaded.name}-eval-{Path(model).name}{setting}"
    result = _run(make_plan(changed), folder, as_json=as_json)
    document = result.document()
    for row in result.results:  # one model, so one row
        document |= row
    return Answer(document=document, show=lambda: print(f"run folder: {result.run_dir}"))


def _on_set(
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
    as_json: bool,
) -> Answer:
    from pipeline.cli.benchmarks import benchmark_recipe, model_source, questions_on, swept
    from pipeline.plan.device import device_of
    from pipeline.plan.plan import make_plan
    from pipeline.recipe.hardware import Hardware

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
    recipe = _loaded(content, to / f"{name}.yaml", overrides)
    plan = make_plan(recipe)
    result = _run(plan, run_dir or Path("runs") / f"eval-{name}", as_json=as_json)
    rows = [{**s, **row} for s, row in zip(settings, result.results, strict=True)]
    file = _kept(to / f"{name}.json", model, on, plan, rows, result)
    document = {**result.document(), **rows[-1], "kept": str(file)}
    if sweep is not None:
        document["sweep"] = rows
    return Answer(document=document, show=lambda: _show(rows, result, file))


def _loaded(content: Mapping[str, Any], file: Path, overrides: Sequence[str]) -> "Recipe":
    """The recipe, written beside the results that it gives."""
    import yaml

    from pipeline.artifacts import write_atomic
    from pipeline.recipe.load import load_recipe

    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
    return load_recipe(str(file), overrides, tell=say)


def _run(plan: "Plan", folder: Path, *, as_json: bool) -> "RunResult":
    if (line := reach_hub(plan.recipe)) is not None:
        say(line)
    from pipeline.run import run as run_plan
    from pipeline.watch.console import make_console

    return run_plan(
        plan, run_dir=folder, from_stage=None, to_stage=None, console=make_console(json=as_json)
    )


def _kept(
    file: Path,
    model: str,
    on: str,
    plan: "Plan",
    rows: Sequence[Mapping[str, Any]],
    result: "RunResult",
) -> Path:
    """The results with what they rest on: versions, machine, and a hash of every question."""
    from pipeline.artifacts import write_atomic
    from pipeline.records import read_prompts
    from pipeline.stages.surroundings import Surroundings

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


def _show(rows: Sequence[Mapping[str, Any]], result: "RunResult", file: Path) -> None:
    for row in rows:
        setting = " ".join(f"{k} {row[k]}" for k in ("effort", "budget", "depth") if k in row)
        passes = ", ".join(
            f"pass@{k} {value:.1%}" for k, value in row["pass_at"].items() if value is not None
        )
        vote = (
            f", majority vote {row['majority_vote']:.1%}" if row["samples_per_prompt"] > 1 else ""
        )
        print(f"{f'{setting}: ' if setting else ''}{passes}{vote} of {row['problems']} problems")
    print(f"results: {file}")
    print(f"run folder: {result.run_dir}")


def _short(model: str) -> str:
    name = model.removeprefix("package:").rstrip("/")
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..", "model")]
    return "-".join(parts[-1:] or ["model"])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
