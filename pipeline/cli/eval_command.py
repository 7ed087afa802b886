"""`stepwell eval`: a model on a recipe's evaluation, or on a set that has a name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.depth_options import Budget, Depth, Effort, asked_depth
from pipeline.cli.streams import say
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.stages.progress import RunResult


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
    from pipeline.use.evaluate_on import evaluate_on
    from pipeline.watch.console import make_console

    found = evaluate_on(
        model, on, given, data=data, limit=limit, samples=samples, max_tokens=max_tokens,
        temperature=temperature, reward=reward, asked=asked, sweep=sweep, engine=engine or "auto",
        trusted=trust_remote_code, run_dir=run_dir, to=to, console=make_console(json=as_json),
        tell=say,
    )  # fmt: skip
    document = {**found.run.document(), **found.rows[-1], "kept": str(found.file)}
    if sweep is not None:
        document["sweep"] = found.rows
    return Answer(document=document, show=lambda: _show(found.rows, found.run, found.file))


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
    from pipeline.plan.plan import make_plan
    from pipeline.recipe.load import load_recipe
    from pipeline.start import run_planned
    from pipeline.use.benchmarks import model_source
    from pipeline.use.evaluation import evaluation_recipe
    from pipeline.watch.console import make_console

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
    result = run_planned(
        make_plan(changed), run_dir=folder, console=make_console(json=as_json), tell=say
    )
    document = result.document()
    for row in result.results:  # one model, so one row
        document |= row
    return Answer(document=document, show=lambda: print(f"run folder: {result.run_dir}"))


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
