"""pass@1 and pass@k on held-out prompts, with 95 % confidence intervals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.generate.groups import Group
from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import sampling_of
from pipeline.measure.accuracy import interval, majority_vote, pass_at_k
from pipeline.measure.drops import Drop, drop_rows
from pipeline.measure.energy import Energy, EnergyMeter
from pipeline.plan.forward_cost import answer_flops, forward_cost
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.records import Prompt, Scored, group_names, write_scored
from pipeline.recurrent.effort import request_for
from pipeline.recurrent.request import DepthRequest
from pipeline.stages.context import Output, RunContext, stage_journal
from pipeline.stages.sampling import sample_in_chunks
from pipeline.stages.support import energy_device, model_of, prompts_of, serve

NO_VOTE = ("no_answer", "several_answers", "unparsable")
"""Verdicts of a sample that gives no answer."""


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Evaluate `models` on `prompts`. All models get the same prompts and seeds."""
    spec = plan.spec
    assert isinstance(spec, EvaluateStage)
    prompts = prompts_of(ctx, spec.prompts)
    results = []
    for number, name in enumerate(spec.models, start=1):
        note = f"{name}, model {number} of {len(spec.models)}"
        ctx.console.stage(plan.name, "running", note=note)
        results.append(_evaluate(plan, ctx, name, prompts))
    write_atomic(ctx.out / "results.json", json.dumps(results, indent=1))
    unscored = [
        Drop(
            what="completions",
            reason=f"of {row['model']}, not scored by {spec.reward}",
            dropped=row["unscored"],
            total=len(prompts) * spec.samples_per_prompt,
            key="",
        )
        for row in results
    ]
    return Output(kind="report", info={"results": results, "drops": drop_rows(unscored)})


def _evaluate(
    plan: StagePlan, ctx: RunContext, name: str, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    spec = plan.spec
    assert isinstance(spec, EvaluateStage)
    model = model_of(ctx, name)
    request = asked_depth(spec, model)
    journal = stage_journal(ctx.console, ctx.work / f"chunks-{name}", stage=plan.name)
    resumed = journal.folder.exists()
    # an engine's start is no answer's energy
    serving = None if resumed else serve(ctx, model, rewards=[spec.reward])
    with EnergyMeter(energy_device(ctx)) as meter:
        groups = list(
            sample_in_chunks(
                ctx,
                plan,
                lambda: serving or serve(ctx, model, rewards=[spec.reward]),
                prompts,
                source=spec.prompts,
                sampling=sampling_of(spec),
                seed=derived_seed(plan.seed, "evaluate"),
                journal=journal,
                depths=None
                if request is None
                else {g: [request] * spec.samples_per_prompt for g in group_names(prompts)},
            )
        )
        flops = flops_of(groups, model)
        meter.add_flops(flops or 0.0)
    write_scored([s for g in groups for s in g.samples], ctx.out / f"{name}.parquet")
    result = {"model": name, "prompts": spec.prompts, **summary(groups, spec)}
    if spec.explore is not None:
        result["explore"] = spec.explore.model_dump()
    if flops is None:
        return result
    energy = None if resumed else meter.energy
    return result | compute(groups, flops, energy, device=energy_device(ctx))


def asked_depth(spec: EvaluateStage, model: Path) -> DepthRequest | None:
    """The depth that the stage asks for; None for the model's own.

    Raises ValueError for a model that cannot be asked: a dense one, or one never calibrated.
    """
    if spec.depth is not None:
        return DepthRequest(depth=spec.depth)
    if spec.effort is None and spec.budget is None:
        return None
    config = json.loads((model / "config.json").read_text())
    return request_for(config, effort=spec.effort, budget=spec.budget)


def flops_of(groups: Sequence[Group], model: Path) -> float | None:
    """Forward FLOPs of all answers: as engines recorded them, or of a dense model by its weights.

    None where a dense model's folder does not tell.
    """
    runs = [s.rollout for g in groups for s in g.samples]
    if any(run.depths is not None for run in runs):
        return sum(run.flops for run in runs)
    cost = forward_cost(model)
    if cost is None:
        return None
    return sum(
        answer_flops(cost, prompt_tokens=len(run.prompt_tokens), tokens=len(run.tokens))
        for run in runs
    )


def compute(
    groups: Sequence[Group], flops: float, energy: Energy | None, *, device: str
) -> dict[str, Any]:
    """What a model's answers took. Without a measured `energy`, an estimate by FLOPs."""
    runs = [s.rollout for g in groups for s in g.samples]
    if energy is None:  # part of the work was done by an earlier process
        with EnergyMeter(device, counter=None) as meter:
            meter.add_flops(flops)
        energy = meter.energy
    took: dict[str, Any] = {
        "flops_per_answer": flops / len(runs),
        "joules_per_answer": energy.joules / len(runs),
        "energy_source": energy.source,
    }
    if runs[0].depths is None:
        return took
    tokens = sum(len(run.tokens) for run in runs)
    return {"mean_depth": sum(sum(run.depths or ()) for run in runs) / max(tokens, 1), **took}


def summary(groups: Sequence[Group], spec: EvaluateStage) -> dict[str, Any]:
    """Accuracy with interval, pass@k, majority vote and mean length of one model's samples.

    Samples without a value (the verifier failed, not the model) are left out and counted. pass@k is
    of the prompts with at least k scored samples, `pass_at_problems` of them; None without any.

    Raises ValueError where no sample has a value.
    """
    samples = [s for g in groups for s in g.samples]
    unscored = sum(s.components[spec.reward] is None for s in samples)
    counts = [_counts(g, spec.reward) for g in groups]
    counts = [(correct, total) for correct, total in counts if total]
    if not counts:
        raise ValueError(f"reward {spec.reward} scored none of {len(samples)} samples")
    accuracy, low, high = interval([correct / total for correct, total in counts])
    votes = [_vote(g, spec.reward) for g in groups if _counts(g, spec.reward)[1]]
    chances = {k: [pass_at_k(c, n, k) for c, n in counts if n >= k] for k in spec.pass_k}
    return {
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "mean_tokens": sum(len(s.rollout.tokens) for s in samples) / len(samples),
        "truncated_share": sum(s.rollout.stop == "length" for s in samples) / len(samples),
        "pass_at": {
            str(k): sum(values) / len(values) if values else None for k, values in chances.items()
        },
        "pass_at_problems": {str(k): len(values) for k, values in chances.items()},
        "majority_vote": sum(votes) / len(votes),
        "problems": len(counts),
        "samples_per_prompt": spec.samples_per_prompt,
        "unscored": unscored,
    }


def _counts(group: Group, reward: str) -> tuple[int, int]:
    values = [v for s in group.samples if (v := s.components[reward]) is not None]
    return sum(v >= 1.0 for v in values), len(values)


def _vote(group: Group, reward: str) -> float:
    """The majority vote of a prompt's scored samples."""
    scored = [(s, v) for s in group.samples if (v := s.components[reward]) is not None]
    return majority_vote([_answer(s, reward) for s, _ in scored], [v >= 1.0 for _, v in scored])


def _answer(sample: Scored, reward: str) -> str | None:
    """What a sample answers: as the reward read it, else all that follows the reasoning."""
    detail = sample.details.get(reward, {})
    if "answer" in detail:
        return str(detail["answer"])
    if sample.verdicts.get(reward) in NO_VOTE:
        return None
    return " ".join(sample.text.rpartition("</think>")[2].split()) or None
