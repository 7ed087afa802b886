"""A recipe shrunk to what shows its rates: a few steps of its first stage of each kind. Pure.

Batches, lengths, the model and the hardware stay the recipe's own; steps, rows and held-out
prompts are few. Every stage starts from the base.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.plan.estimate import UNKNOWN_ROWS, source_rows
from pipeline.recipe.depth_parts import LEAST_PROMPTS
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.section import listed
from pipeline.recipe.sft_stage import SftStage
from pipeline.recipe.stage_base import BASE

STEPS = 3  # of a training: the first warms up, the others are measured
FEW, MANY = 1, 4  # samples of a prompt in the two evaluations, whose difference is the rate
EVALUATED = 64  # prompts of each, at most
EVALUATED_TOKENS = 20_000  # of both at full length, at most
KINDS = ("sft", "grpo", "evaluate", "depth")


@dataclass(frozen=True, kw_only=True)
class Small:
    """How small a depth stage is."""

    share: float  # of the prompts of each part
    steps: int  # of its RL


SMALLER, SMALL = Small(share=1 / 4, steps=1), Small(share=1 / 2, steps=3)
"""Not less: engines that are not full wait for their longest completion, however few there are."""


@dataclass(frozen=True, kw_only=True)
class ProbeRecipe:
    """What runs, and what it stands for."""

    recipe: Recipe
    stands_for: Mapping[str, str]  # stages of the probe by name: the recipe's own
    left_out: Mapping[str, str] = field(default_factory=dict)  # kinds, and why


def probe_recipe(recipe: Recipe) -> ProbeRecipe:
    """The shrunken recipe; without stages where none of KINDS can be measured."""
    stages: dict[str, Stage] = {}
    stands_for: dict[str, str] = {}
    left_out: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def add(name: str, stage: Stage, original: str) -> None:
        stages[name], stands_for[name] = stage, original

    for kind in ("sft", "grpo"):
        names = [name for name, stage in recipe.stages.items() if stage.kind == kind]
        for name in names:
            if (shrunk := _training(recipe, recipe.stages[name])) is not None:
                add(kind, shrunk, name)
                break
        else:
            if names:
                left_out[kind] = "its rows are made by other stages"
    for name, stage in recipe.stages.items():
        if not isinstance(stage, EvaluateStage):
            continue
        read = {item.name for one in stages.values() for item in one.inputs()}
        if stage.prompts in read:
            left_out["evaluate"] = "its prompts are learned from too"
            break
        most = EVALUATED_TOKENS // (stage.max_tokens * (FEW + MANY))
        sizes[stage.prompts] = max(min(most, EVALUATED), 4)
        add("few", _evaluation(stage, FEW), name)
        add("many", _evaluation(stage, MANY), name)
        break
    for name, stage in recipe.stages.items():
        if isinstance(stage, DepthStage):
            add("depth_few", _depth(stage, SMALLER), name)
            add("depth_many", _depth(stage, SMALL), name)
            break
    return ProbeRecipe(
        recipe=recipe.model_copy(
            update={
                "name": f"{recipe.name}-probe",
                "stages": stages,
                "prompts": {k: _sized(p, sizes.get(k)) for k, p in recipe.prompts.items()},
                "report_to": [],
            }
        ),
        stands_for=stands_for,
        left_out=left_out,
    )


def _training(recipe: Recipe, stage: Stage) -> Stage | None:
    """STEPS steps of a training from the base; None where its rows are not there before the run."""
    if isinstance(stage, GrpoStage):
        rewards = [reward for reward in stage.rewards if isinstance(reward, str)]
        update = {"init": BASE, "steps": STEPS, "watch": None, "rewards": rewards}
        return stage.model_copy(update=update)
    assert isinstance(stage, SftStage)
    rows = [row for row in listed(stage.rows) if row.partition(".")[0] in recipe.prompts]
    count = sum(source_rows(recipe.prompts[row.partition(".")[0]]) for row in rows)
    if not count:
        return None
    epochs = min(stage.epochs, STEPS * stage.batch_rows / count)
    return stage.model_copy(update={"init": BASE, "rows": rows, "epochs": epochs})


def _evaluation(stage: EvaluateStage, samples: int) -> Stage:
    update = {"models": [BASE], "samples_per_prompt": samples, "pass_k": [1]}
    depth = {"effort": None, "budget": None}  # of a calibration, which the base need not have
    return stage.model_copy(update={**update, **depth})


def _depth(stage: DepthStage, small: Small) -> DepthStage:
    """Every part but the SFT at random depths, on fewer prompts, with few steps of one seed and
    without the policy's rivals, one of which has a part of its own."""

    def size(whole: int) -> int:
        return min(whole, max(LEAST_PROMPTS, round(small.share * whole)))

    def shrunk(part: Any, **changes: Any) -> Any:
        return part.model_copy(update={"size": size(part.size), **changes})

    update: dict[str, Any] = {
        "init": BASE, "rows": None, "random_depth": None, "force": True,
        "headroom": shrunk(stage.headroom),
        "warm_start": shrunk(stage.warm_start),
        "rl": stage.rl.model_copy(update={"steps": min(stage.rl.steps, small.steps), "seeds": 1}),
        "calibrate": shrunk(stage.calibrate),
        "pareto": shrunk(stage.pareto, baselines=[], transfer=[]),
    }  # fmt: skip
    if stage.joint is not None:
        steps = {"rounds": 1, "token_steps": small.steps, "head_steps": small.steps}
        update["joint"] = stage.joint.model_copy(update=steps)
    return stage.model_copy(update=update)


def _sized(source: PromptSource, most: int | None) -> PromptSource:
    """At most so many rows; of a hub's data set never more than an estimate counts."""
    limit = most if source.file or source.size else min(most or UNKNOWN_ROWS, UNKNOWN_ROWS)
    if limit is None:
        return source
    return source.model_copy(update={"size": min(source.size or limit, limit)})
