"""Data proves itself: every prompts entry loads, and its gold answers score full marks."""

from concurrent.futures import Future
from typing import Any

from pipeline.plan.sources import source_found
from pipeline.plan.stage_plan import PlanError
from pipeline.prompts.sources import check_golds, load_prompts
from pipeline.recipe.errors import did_you_mean
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.sampling_stages import EvaluateStage
from pipeline.recipe.schema import SAMPLED_ROLES, Recipe, inputs_of
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
    sampled = {
        reference
        for stage in recipe.stages.values()
        for role, reference in inputs_of(stage)
        if role in SAMPLED_ROLES
    }
    found = []
    with Pool(recipe.hardware.verifier_workers) as pool:
        for entry, source in recipe.prompts.items():
            prompts = load_prompts(entry, source_found(source), seed=recipe.seed)
            judge = recipe.rewards[name].judge(entry) if entry in sampled else None
            problems = _problems(pool, prompts, judge) if judge else []
            checked = f"gold answers wrong under {name}: {len(problems)}" if judge else "loaded"
            found.append(
                {"prompts": entry, "rows": len(prompts), "checked": checked, "problems": problems}
            )
    return found


def _judge(recipe: Recipe) -> str:
    stages = (s for s in recipe.stages.values() if isinstance(s, EvaluateStage))
    return next((stage.reward for stage in stages), "answer")


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
