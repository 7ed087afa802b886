"""Data proves itself: every prompts entry loads, and its gold answers score full marks."""

from concurrent.futures import Future
from typing import Any

from pipeline.plan.stage_plan import PlanError
from pipeline.prompts.golds import check_golds
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.routing import judge_of, row_routes
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt
from rewards.api import Reward, Sample
from rewards.pool import Pool


def check_data(recipe: Recipe, *, reward: str | None = None) -> list[dict[str, Any]]:
    """One row per prompts entry: `prompts`, `rows`, `checked` (in words) and `problems`.

    Golds are judged by `reward`, by default the first evaluate stage's. Entries that no stage
    samples from are only loaded.

    Raises PlanError for an unknown reward, PromptError for an entry that cannot be loaded.
    """
    name = reward or _judge(recipe)
    if name not in recipe.rewards:
        guess = did_you_mean(name, recipe.rewards)
        known = ", ".join(recipe.rewards) or "none"
        raise PlanError(f"rewards.{name}: there is no such reward{guess} (rewards has {known})")
    inputs = [item for stage in recipe.stages.values() for item in stage.inputs()]
    sampled = {item.name for item in inputs if item.is_sampled}
    entries = []
    with Pool(recipe.hardware.verifier_workers) as pool:
        for entry, source in recipe.prompts.items():
            routes = row_routes(recipe, entry)
            prompts = load_prompts(entry, source, seed=recipe.seed, routes=routes)
            judge = judge_of(recipe, name, entry) if entry in sampled else None
            problems = _problems(pool, prompts, judge) if judge else []
            checked = f"gold answers wrong under {name}: {len(problems)}" if judge else "loaded"
            entries.append(
                {"prompts": entry, "rows": len(prompts), "checked": checked, "problems": problems}
            )
    return entries


def _judge(recipe: Recipe) -> str:
    reports = (stage for stage in recipe.stages.values() if stage.product == "report")
    return next((name for stage in reports for name in stage.reward_names()), "answer")


def _problems(pool: Pool, prompts: list[Prompt], judge: Judge) -> list[dict[str, Any]]:
    """Prompts whose own answer does not score 1. All are under way at once."""
    scores: dict[str, Future[Reward]] = {
        prompt.id: pool.submit(judge.use, _gold_sample(prompt), args=judge.args)
        for prompt in prompts
        if prompt.answer is not None
    }
    return check_golds(prompts, lambda prompt: scores[prompt.id].result().value)


def _gold_sample(prompt: Prompt) -> Sample:
    return Sample(
        prompt=prompt.question,
        completion=f"<think>It is given.</think>{prompt.answer}",
        gold=prompt.answer,
        columns=prompt.columns,
        id=prompt.id,
    )
