"""Which function judges which prompts: rewards that go by prompts entry, or by a column of rows.

Answers of the whole recipe: a reward's routes name prompts entries, or the values of the
`source_column` that an entry has.
"""

from collections.abc import Mapping, Sequence

from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.schema import Recipe
from rewards.registry import ABOUT_FORM
from rewards.routes import BY_ROW
from rewards.routes import by_row as by_row_args


def judges(recipe: Recipe, reward: str) -> Sequence[tuple[str | None, Judge]]:
    """Every judge of a reward with its prompts entry; None for one that judges all.

    An entry with `source_column` has one judge, which looks up each row's route.
    """
    spec = recipe.rewards[reward]
    if spec.use is not None:
        return spec.routes()
    routes = {source: (judge.use, judge.args) for source, judge in spec.routes() if source}
    by_row = [
        (entry, Judge(use=BY_ROW, args=by_row_args(source.source_key, routes)))
        for entry, source in recipe.prompts.items()
        if source.source_column is not None
    ]
    columns = {entry for entry, _ in by_row}
    return [*(pair for pair in spec.routes() if pair[0] not in columns), *by_row]


def judge_of(recipe: Recipe, reward: str, entry: str) -> Judge | None:
    """What judges samples of a prompts entry; None when nothing does."""
    whole = recipe.rewards[reward].use is not None
    return dict(judges(recipe, reward)).get(None if whole else entry)


def possible_judges(recipe: Recipe, reward: str, entry: str) -> list[Judge]:
    """All that may judge samples of a prompts entry."""
    spec, source = recipe.rewards[reward], recipe.prompts[entry]
    if source.source_column is not None and spec.use is None:
        return [judge for _, judge in spec.routes()]
    judge = judge_of(recipe, reward, entry)
    return [] if judge is None else [judge]


def watched_reward(recipe: Recipe, stage: GrpoStage) -> str:
    """The reward by which a stage's held-out accuracy is counted, as `Watch.reward` says."""
    if stage.watch is not None and stage.watch.reward is not None:
        return stage.watch.reward
    form = {f"builtin:{name}" for name in ABOUT_FORM}
    names = stage.reward_names()
    about_answers = [
        name for name in names if {judge.use for _, judge in recipe.rewards[name].routes()} - form
    ]
    return [*about_answers, *names][0]


def row_routes(recipe: Recipe, entry: str) -> Mapping[str, Sequence[str]]:
    """By reward that a stage uses on an entry with `source_column`: the values it has routes for.

    Empty for an entry whose rewards go by its name.
    """
    if recipe.prompts[entry].source_column is None:
        return {}
    names = [
        name
        for stage in recipe.stages.values()
        if any(item.is_sampled and item.name == entry for item in stage.inputs())
        for name in stage.reward_names()
        if name in recipe.rewards
    ]
    return {name: tuple(routes) for name in names if (routes := recipe.rewards[name].by_source)}
