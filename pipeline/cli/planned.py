"""A recipe's plan, for the commands that begin with one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.streams import say

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan


def planned(
    ref: str, overrides: Sequence[str], *, run_dir: Path | None = None, goes_on: bool = False
) -> "Plan":
    """The recipe's plan; of one that `goes_on`, for the cores that its run began with.

    Raises RecipeError or PlanError, each line with the recipe's name.
    """
    from pipeline.plan.plan import make_plan
    from pipeline.plan.stage_plan import PlanError
    from pipeline.recipe.load import load_recipe
    from pipeline.stages.run_folder import RunFolder

    try:
        recipe = load_recipe(ref, overrides, tell=say)
        cores = RunFolder(run_dir or Path("runs") / recipe.name).cores if goes_on else None
        return make_plan(recipe, cores=cores)
    except PlanError as error:
        raise PlanError("\n".join(f"{ref}: {line}" for line in str(error).splitlines())) from None
