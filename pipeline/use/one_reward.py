"""The reward of one completion, as a run would give it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.recipe.reward_spec import Judge, RewardSpec
from pipeline.use.evaluation import first_reason
from rewards import score
from rewards.api import Reward, Sample


def one_reward(
    spec: str | Mapping[str, Any],
    completion: str,
    *,
    prompt: str,
    gold: str | float | Sequence[str] | None,
    columns: Mapping[str, Any],
    args: Mapping[str, Any],
) -> Reward:
    """What a reward gives to a completion; the arguments are as for `pipeline.api.reward`.

    Raises UsageError for what is no reward of a recipe, RewardNotFound where it names nothing or
    does not take the arguments.
    """
    judge = _judge(spec)
    golds = () if gold is None else (gold,) if isinstance(gold, str | float | int) else tuple(gold)
    sample = Sample(
        prompt=prompt,
        completion=completion,
        gold=str(golds[0]) if golds else None,
        golds=tuple(map(str, golds)) if len(golds) > 1 else (),
        columns=dict(columns),
        id="sample",
    )
    (reward,) = score(judge.use, [sample], args={**judge.args, **args}, base=Path.cwd())
    return reward


def _judge(spec: str | Mapping[str, Any]) -> Judge:
    """The one judge of a reward that is written as in a recipe."""
    try:
        if isinstance(spec, str):
            return Judge(use=spec)
        routes = RewardSpec.model_validate(dict(spec)).routes()
    except ValidationError as error:
        raise UsageError(f"reward {spec}: {first_reason(error)}") from None
    if len(routes) > 1:
        sources = ", ".join(str(source) for source, _ in routes)
        raise UsageError(f"the reward has a judge for each of {sources}: give one of them")
    return routes[0][1]
