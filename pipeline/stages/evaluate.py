"""pass@1 and pass@k on held-out prompts, with 95 % confidence intervals."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.accuracy import interval, pass_at_k
from pipeline.artifacts import write_atomic
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal
from pipeline.generate.rollouts import sampling_of
from pipeline.generate.schedule import derived_seed
from pipeline.plan import StagePlan
from pipeline.recipe import EvaluateStage
from pipeline.records import Prompt, write_scored
from pipeline.stages.context import Output, RunContext
from pipeline.stages.sampling import sample_in_chunks
from pipeline.stages.support import model_of, prompts_of, serve


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Evaluate `models` on `prompts`. All models get the same prompts and seeds."""
    spec = plan.spec
    assert isinstance(spec, EvaluateStage)
    prompts = prompts_of(ctx, spec.prompts)
    results = [_evaluate(plan, ctx, name, prompts) for name in spec.models]
    write_atomic(ctx.out / "results.json", json.dumps(results, indent=1))
    return Output(kind="report", info={"results": results})


def _evaluate(
    plan: StagePlan, ctx: RunContext, name: str, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    spec = plan.spec
    assert isinstance(spec, EvaluateStage)
    groups = list(
        sample_in_chunks(
            ctx,
            plan,
            lambda: serve(ctx, model_of(ctx, name), rewards=[spec.reward]),
            prompts,
            source=spec.prompts,
            sampling=sampling_of(spec),
            seed=derived_seed(plan.seed, "evaluate"),
            journal=Journal(ctx.work / f"chunks-{name}"),
        )
    )
    write_scored([s for g in groups for s in g.samples], ctx.out / f"{name}.parquet")
    return {"model": name, "prompts": spec.prompts, **summary(groups, spec)}


def summary(groups: Sequence[Group], spec: EvaluateStage) -> dict[str, Any]:
    """Accuracy with interval, pass@k and mean length of one model's samples.

    Samples without a value (the verifier failed, not the model) are left out and counted.
    """
    samples = [s for g in groups for s in g.samples]
    unscored = sum(s.components[spec.reward] is None for s in samples)
    counts = [_counts(g, spec.reward) for g in groups]
    counts = [(correct, total) for correct, total in counts if total]
    accuracy, low, high = interval([correct / total for correct, total in counts])
    return {
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "mean_tokens": sum(len(s.rollout.tokens) for s in samples) / len(samples),
        "truncated_share": sum(s.rollout.stop == "length" for s in samples) / len(samples),
        "pass_at": {
            str(k): sum(pass_at_k(c, n, min(k, n)) for c, n in counts) / len(counts)
            for k in spec.pass_k
        },
        "problems": len(counts),
        "samples_per_prompt": spec.samples_per_prompt,
        "unscored": unscored,
    }


def _counts(group: Group, reward: str) -> tuple[int, int]:
    values = [v for s in group.samples if (v := s.components[reward]) is not None]
    return sum(v >= 1.0 for v in values), len(values)
