"""The rates of a kind of stage from what its miniature did. Pure.

FLOPs a second are the estimate's FLOPs over measured seconds. Where the estimate knows lengths, of
our own tasks, they are counted of the tokens that were there: what a model learns to write is
longer than what the base writes. Where it assumes lengths, they are counted as it assumes them, so
that what is wrong with the assumption cancels, rows that are left out included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.plan.estimate import stage_load
from pipeline.plan.lengths import task_lengths
from pipeline.plan.measured import PartRate, Rate
from pipeline.plan.speeds import Load
from pipeline.recipe.depth_stage import CALIBRATION, COMPARISON, RIVAL, DepthStage
from pipeline.recipe.schema import Recipe


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one evaluation of the base sampled, and how long the stage took."""

    tokens: float  # of all completions
    completion_tokens: float  # of the mean one
    seconds: float


def training_rate(
    recipe: Recipe,
    name: str,
    rows: Sequence[Mapping[str, float]],
    *,
    seconds: float,
    stage: str,
) -> Rate | None:
    """Of stage `name` of a probe's `recipe`, from its metrics a step; None where there are not two.

    `seconds`: of the whole stage. `stage`: what it stands for. The first step warms up: the time
    that it took beyond the others' mean counts as starting.
    """
    spec, later = recipe.stages[name], rows[1:]
    if not later:
        return None

    def mean(key: str) -> float:
        return fmean(row.get(key, 0.0) for row in later)

    step_s = mean("step_seconds")
    start_s = max(seconds - len(rows) * step_s, 0.0)
    tokens = mean("training_tokens") * recipe.hardware.ranks
    if not spec.uses_engines:
        return Rate(
            kind=spec.kind,
            stage=stage,
            start_s=start_s,
            trained_tokens_per_s=tokens / step_s,
            train_flops_per_s=stage_load(recipe, name).train_flops / (len(rows) * step_s),
        )
    overlaps = bool(spec.samples_ahead)
    training_s = mean("seconds/training")
    generation_s = mean("rollout_seconds") if overlaps else mean("seconds/generation")
    work_s = max(training_s, generation_s) if overlaps else training_s + generation_s
    training_s, generation_s = max(training_s, 1e-9), max(generation_s, 1e-9)
    written = fmean(row["tokens_per_s"] * row["rollout_seconds"] for row in later)
    length = mean("completion_tokens")
    load, known = _load(recipe, name, completion_tokens=length)
    learned, sampled = (
        (tokens / load.trained_tokens, written / load.generated_tokens)
        if known
        else (1 / len(rows), 1 / len(rows))
    )
    return Rate(
        kind=spec.kind,
        stage=stage,
        start_s=start_s,
        trained_tokens_per_s=tokens / training_s,
        train_flops_per_s=learned * load.train_flops / training_s,
        generated_tokens_per_s=written / generation_s,
        generate_flops_per_s=sampled * load.generate_flops / generation_s,
        besides_s=max(step_s - work_s, 0.0),
        completion_tokens=length,
    )


def evaluation_rate(
    recipe: Recipe, name: str, few: Evaluation, many: Evaluation, *, stage: str
) -> Rate:
    """Of the evaluation `name` of a probe's `recipe`. `few` and `many` differ in how much they
    sample: that decides the rate, and what remains is the start."""
    more_tokens, more_s = many.tokens - few.tokens, many.seconds - few.seconds
    rate = many.tokens / many.seconds
    if more_s > 0 and more_tokens > 0:  # else noise is larger than the difference
        rate = max(more_tokens / more_s, rate)
    load, _ = _load(recipe, name, completion_tokens=many.completion_tokens)
    return Rate(
        kind="evaluate",
        stage=stage,
        start_s=max(many.seconds - many.tokens / rate, 0.0),
        generated_tokens_per_s=rate,
        generate_flops_per_s=load.generate_flops * rate / many.tokens,
        completion_tokens=many.completion_tokens,
    )


@dataclass(frozen=True, kw_only=True)
class DepthRun:
    """What a small depth stage took."""

    stage: DepthStage
    seconds: float
    parts: Mapping[str, float]  # seconds by part
    tokens: float  # of its mean completion


def depth_rate(
    recipe: Recipe,
    name: str,
    few: DepthRun,
    many: DepthRun,
    *,
    train_flops_per_s: float | None,
) -> Rate:
    """Of the parts of the recipe's depth stage `name`, by what two small ones of different sizes
    took. Where the estimate knows how long completions are, what a completion takes is scaled to
    that from what the base wrote."""
    length = task_lengths(recipe, name).completion
    longest = recipe.stages[name].longest_completion
    longer = 1.0 if length is None else min(length, longest) / many.tokens
    starts = {COMPARISON: many.stage.compared_methods}
    rates = {}
    for part, count in many.stage.part_completions.items():
        less_s, more_s = (_part_s(run, part) for run in (few, many))
        more = count - few.stage.part_completions[part]
        each = max(more_s - less_s, 0.0) / more if more else 0.0
        if more_s:
            start_s = max(more_s - each * count, 0.0) / starts.get(part, 1)
            rates[part] = PartRate(start_s=start_s, completion_s=each * longer)
    if CALIBRATION in rates:  # of a rival's part, which samples the same prompts
        rates[RIVAL] = rates[CALIBRATION]
    return Rate(
        kind="depth",
        stage=name,
        start_s=max(many.seconds - sum(many.parts.values()), 0.0),
        train_flops_per_s=train_flops_per_s,
        completion_tokens=many.tokens,
        parts=rates,
    )


def _part_s(run: DepthRun, part: str) -> float:
    """Of the parts whose names begin so, and with nothing longer that stands for another."""
    starts = run.stage.part_completions
    return sum(
        seconds
        for name, seconds in run.parts.items()
        if part == max((s for s in starts if name.startswith(s)), key=len, default="")
    )


def _load(recipe: Recipe, name: str, *, completion_tokens: float) -> tuple[Load, bool]:
    """What a stage of the probe computed, and whether the estimate knows its lengths: then with the
    completions that there were, else as it is planned."""
    known = task_lengths(recipe, name).completion is not None
    length = completion_tokens if known else None
    return stage_load(recipe, name, completion_tokens=length), known
