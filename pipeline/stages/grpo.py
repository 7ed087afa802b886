"""GRPO with rule rewards, and alignment RL with a reward model in the last steps."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from pipeline.cluster.setups import GrpoSetup, PreferenceSetup
from pipeline.measure.drops import Drop, drop_rows
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.routing import watched_reward
from pipeline.records import Prompt
from pipeline.stages.context import Output, RunContext
from pipeline.stages.support import model_of, named, prompts_of, serve, train_job, train_on_rollouts
from pipeline.train import training_calls
from pipeline.train.job import METRICS_FILE, read_metrics


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Train `init` by GRPO on `prompts`, rewarded by `rewards`."""
    spec = plan.spec
    assert isinstance(spec, GrpoStage)
    (init,) = named(plan, "init")
    model = model_of(ctx, init.name)
    watched = watched_reward(ctx.plan.recipe, spec)
    serving = serve(ctx, model, rewards=spec.reward_names(), version=-1)
    setup = GrpoSetup(
        spec=spec,
        prompts=tuple(prompts_of(ctx, spec.prompts)),
        journal=ctx.run_dir / "journal" / plan.name,
        seed=plan.seed,
        preference=_preference(ctx, spec),
        watch=_watched(ctx, spec),
        watch_reward=watched,
    )
    serving.open_grpo(setup)
    job = train_job(ctx, plan, model=model)
    info = train_on_rollouts(ctx, plan, partial(training_calls.grpo, job), setup=setup)
    if spec.watch is not None:
        info["watched_reward"] = watched
    rows = read_metrics(ctx.work / METRICS_FILE)
    drops = drop_rows(group_drops(rows, spec, name=plan.name))
    return Output(kind="checkpoint", info={**info, "drops": drops})


def group_drops(
    rows: Sequence[Mapping[str, float]], spec: GrpoStage, *, name: str
) -> Iterator[Drop]:
    """Groups that others replaced, and completions that no reward scored, over all steps."""
    steps = [row for row in rows if row["step"] % spec.updates_per_step == 0]
    replaced = [round(row.get("resampled_groups", 0)) for row in steps]
    groups = [spec.prompts_per_step + count for count in replaced]
    yield Drop(
        what="groups",
        reason="all rewards equal, so others replaced them",
        dropped=sum(replaced),
        total=sum(groups),
        key=f"stages.{name}.resample_rounds",
    )
    completions = [
        count * spec.samples_per_prompt - round(row.get("stopped_groups", 0)) * _left_out(spec)
        for count, row in zip(groups, steps, strict=True)
    ]
    yield Drop(
        what="completions",
        reason="not scored",
        dropped=sum(
            round(row.get("unscored_share", 0) * count)
            for row, count in zip(steps, completions, strict=True)
        ),
        total=sum(completions),
        key="",
    )


def _left_out(spec: GrpoStage) -> int:
    """Completions that a group lacks which stops early."""
    return 0 if spec.first_samples is None else spec.samples_per_prompt - spec.first_samples


def _preference(ctx: RunContext, spec: GrpoStage) -> PreferenceSetup | None:
    reward = spec.model_reward
    if reward is None:
        return None
    return PreferenceSetup(
        model=model_of(ctx, reward.model),
        name=reward.model,
        weight=reward.weight,
        last_fraction=reward.last_fraction,
    )


def _watched(ctx: RunContext, spec: GrpoStage) -> tuple[Prompt, ...]:
    if spec.watch is None:
        return ()
    return tuple(prompts_of(ctx, spec.watch.prompts)[: spec.watch.size])
