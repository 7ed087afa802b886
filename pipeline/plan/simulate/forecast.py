"""A recipe's GRPO stages on clusters of several sizes, simulated."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.plan.lengths import task_lengths
from pipeline.plan.placement import gpus_of
from pipeline.plan.simulate.cluster import Layout, simulated
from pipeline.plan.simulate.costs import Costs, costs_of
from pipeline.plan.simulate.failures import NODE_MTBF_HOURS, best_interval_s, with_failures
from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.schema import Recipe

STEPS, SEQUENCES = 12, 30_000  # that are simulated of a stage at most, two steps at least


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One stage on so many GPUs at one staleness."""

    stage: str
    gpus: int
    staleness: int
    ranks: int
    engines: int
    step_s: float
    engine_share: float  # of their time with a sequence running
    trainer_share: float  # of their time that they compute
    bottleneck: str
    hours: float  # of the whole stage, failures included
    failure_hours: float  # lost to deaths and checkpoints
    deaths: int
    best_save_steps: int  # by Young's formula; the recipe's own counts

    def document(self) -> dict[str, Any]:
        return asdict(self)


def forecasts(
    recipe: Recipe,
    sizes: Sequence[int],
    *,
    costs: Costs | None = None,
    mtbf_hours: float = NODE_MTBF_HOURS,
) -> tuple[list[Forecast], dict[str, Costs]]:
    """Every GRPO stage at every size, with rollouts of now and of one step before; and what was
    taken for costs, by stage.

    The batch stays the recipe's; trainers and engines keep its ratio. `costs`: measured ones;
    default: assumed. `mtbf_hours`: of a node; 0: none fails. Raises PlanError where there is no
    such stage, or a size cannot hold it.
    """
    stages = {n: s for n, s in recipe.stages.items() if isinstance(s, GrpoStage)}
    if not stages:
        raise PlanError("--simulate: the recipe has no stage of kind grpo")
    spent = {name: costs or _assumed(recipe, name) for name in stages}
    rows = [
        one
        for name, stage in stages.items()
        for gpus in sizes
        for one in _at_size(recipe, name, stage, gpus, spent=spent[name], mtbf_hours=mtbf_hours)
    ]
    return rows, spent


def _assumed(recipe: Recipe, name: str) -> Costs:
    costs = costs_of(recipe, name, device="cuda")
    if costs is None:
        raise PlanError(
            f"--simulate: the size of {name}'s model cannot be told; give measured --costs"
        )
    return costs


def _at_size(
    recipe: Recipe,
    name: str,
    stage: GrpoStage,
    gpus: int,
    *,
    spent: Costs,
    mtbf_hours: float,
) -> Iterator[Forecast]:
    hardware = scaled(recipe, stage, gpus)
    placed = recipe.model_copy(update={"hardware": hardware})
    layout = layout_of(placed, name, stage)
    nodes = -(-gpus // hardware.gpus_per_node)
    mtbf_s = mtbf_hours * 3600 / nodes if mtbf_hours else math.inf
    saving = spent.checkpoint_s / hardware.ranks
    for staleness in (0,) if hardware.layout == "colocated" else (0, 1):
        steps = min(STEPS, stage.steps, max(SEQUENCES // stage.completions_per_step, 4))
        course = simulated(layout, spent, staleness=staleness, steps=steps, seed=recipe.seed)
        training = course.training_s + spent.sync_s
        losses = with_failures(
            steps=stage.steps,
            step_s=course.step_s,
            repeated_share=min(training / course.step_s, 1.0),
            every=stage.save_steps,
            checkpoint_s=saving,
            restart_s=spent.restart_s,
            mtbf_s=mtbf_s,
            seed=recipe.seed,
        )
        best = best_interval_s(checkpoint_s=saving, mtbf_s=mtbf_s) / course.step_s
        yield Forecast(
            stage=name,
            gpus=gpus,
            staleness=staleness,
            ranks=hardware.ranks,
            engines=hardware.engines,
            step_s=course.step_s,
            engine_share=course.engine_share,
            trainer_share=course.trainer_share,
            bottleneck=course.bottleneck,
            hours=losses.total / 3600,
            failure_hours=(losses.checkpoints + losses.repeated + losses.restarting) / 3600,
            deaths=losses.deaths,
            best_save_steps=max(round(min(best, stage.steps)), 1),
        )


def layout_of(recipe: Recipe, name: str, stage: GrpoStage) -> Layout:
    """The stage's batch on the recipe's processes."""
    hardware, lengths = recipe.hardware, task_lengths(recipe, name)
    return Layout(
        engines=hardware.engines,
        ranks=hardware.ranks,
        verifiers=hardware.verifier_workers,
        max_sequences=hardware.max_sequences_per_engine,
        prompts=stage.prompts_per_step,
        samples=stage.samples_per_prompt,
        prompt_tokens=lengths.prompt_tokens(stage.max_tokens),
        mean_tokens=lengths.completion_tokens(stage.max_tokens),
        max_tokens=stage.max_tokens,
    )


def scaled(recipe: Recipe, stage: GrpoStage, gpus: int) -> Hardware:
    """Hardware of so many GPUs with the recipe's ratio of trainers to engines, as near as the batch
    can be split; verifiers grow with the engines.

    Raises PlanError for fewer GPUs than a trainer and an engine need.
    """
    own, rows = recipe.hardware, stage.rows_per_update or 1
    scorer, shared = int(recipe.has_reward_model), own.layout == "colocated"
    least = 1 + (0 if shared else own.gpus_per_engine) + scorer
    if gpus < least:
        engine = " with its engine" if shared else f", an engine of {own.gpus_per_engine} GPU(s)"
        raise PlanError(
            f"--simulate {gpus}: a trainer{engine}"
            f"{' and a reward model' if scorer else ''} need {least} GPUs"
        )
    share = own.ranks / (gpus_of(recipe) - scorer)
    most = gpus - scorer - (0 if shared else own.gpus_per_engine)
    wanted = min(max(round((gpus - scorer) * share), 1), most)
    ranks = max(n for n in range(1, wanted + 1) if rows % n == 0)
    engines = ranks if shared else (gpus - scorer - ranks) // own.gpus_per_engine
    workers = max(round(own.verifier_workers * engines / own.engines), 1)
    changes = {"ranks": ranks, "engines": engines, "verifier_workers": workers, "nodes": None}
    return Hardware.model_validate(own.model_dump() | changes)
