"""Expected outcomes where rows have more than one right answer. Loads no ML library."""

from collections.abc import Iterator

from pipeline.prompts.entries import source_prompts
from pipeline.prompts.findings import golds_of, place_of
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.routing import possible_judges
from pipeline.recipe.schema import Recipe, Stage

ONE_GOLD = "builtin:exact_match"
"""The reward that pays one text of a row alone, but for its white space."""


def outcome_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """A depth stage that expects outcomes of rewards, or of rows, with several right answers."""
    if not isinstance(stage, DepthStage) or stage.rl.outcome != "expected":
        return
    if stage.reward not in recipe.rewards or stage.prompts not in recipe.prompts:
        return  # the references' own check says it
    key = f"stages.{name}.rl.outcome: expected needs one right answer a row"
    for judge in possible_judges(recipe, stage.reward, stage.prompts):
        if judge.use != ONE_GOLD or judge.args:
            yield (
                f"{key}, and rewards.{stage.reward} judges {stage.prompts} by {judge.use}"
                f"{' with args' if judge.args else ''}, which may pay several; set outcome: "
                f"sampled, or judge by {ONE_GOLD}"
            )
            return
    if recipe.prompts[stage.prompts].file is None:
        return
    try:
        prompts = source_prompts(recipe, stage.prompts)
    except PromptError:  # the entry's own check says it
        return
    several = [prompt for prompt in prompts if len(golds_of(prompt)) != 1]
    if several:
        yield (
            f"{key}; prompts.{stage.prompts}: {place_of(several[0])} has "
            f"{len(golds_of(several[0]))}, and so it is with {len(several):,} of "
            f"{len(prompts):,} rows; set outcome: sampled, or correct the rows"
        )
