"""From a recipe to its run: what the command line and notebooks have in common."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan, PlanError
from pipeline.recipe.hub_reach import reach_hub
from pipeline.recipe.load import load_recipe, name_of
from pipeline.stages.context import Console
from pipeline.stages.progress import RunResult
from pipeline.stages.run_folder import RunFolder

Tell = Callable[[str], None]


def planned(
    recipe: str | PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str],
    *,
    tell: Tell,
    run_dir: Path | None = None,
    goes_on: bool = False,
) -> Plan:
    """The recipe's plan; of one that `goes_on`, for the cores that its run began with.

    Raises RecipeError or PlanError, each line with the recipe's name.
    """
    try:
        loaded = load_recipe(recipe, overrides, tell=tell)
        cores = RunFolder(run_dir or default_folder(loaded.name)).cores if goes_on else None
        return make_plan(loaded, cores=cores)
    except PlanError as error:
        name = name_of(recipe)
        raise PlanError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


def default_folder(name: str) -> Path:
    """Where a recipe of that name runs, unless another place is asked for."""
    return Path("runs") / name


def run_planned(
    plan: Plan,
    *,
    console: Console,
    tell: Tell,
    run_dir: Path | None = None,
    from_stage: str | None = None,
    to_stage: str | None = None,
    force: bool = False,
) -> RunResult:
    """Run a plan as `pipeline.run.run` does. `tell` gets a sentence where the hub is needed and
    does not answer; it is asked before its libraries are loaded."""
    if (line := reach_hub(plan.recipe)) is not None:
        tell(line)
    from pipeline.run import run  # loads the libraries

    return run(
        plan,
        run_dir=run_dir,
        from_stage=from_stage,
        to_stage=to_stage,
        console=console,
        force=force,
    )
