"""Whether a stage's rewards tell the base's own samples apart: 16 of them, written by transformers
in a process of its own. GRPO learns from differences within a group alone."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.cli.data_check import gold_sample
from pipeline.cli.doctor.check import Check, wrong
from pipeline.cli.doctor.data_checks import spread
from pipeline.generate.service import weighted_sum
from pipeline.plan.stage_plan import Plan, StagePlan
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.routing import judge_of
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt
from rewards.api import Sample
from rewards.pool import Pool

PROMPTS, SAMPLES = 4, 4
MOST_TOKENS = 512  # of a probe's completion: longer ones are cut off here, and said to be
PROBE_LIMIT_S = 900
PROGRAM = "pipeline.cli.doctor.base_samples"


def probe_checks(
    plan: Plan, entries: Mapping[str, Sequence[Prompt]], *, folder: Path
) -> Iterator[Check]:
    """The first GRPO stage's rewards on samples of the base; `folder` is for its files."""
    stage = next((s for s in plan.stages if isinstance(s.spec, GrpoStage)), None)
    if stage is None or not isinstance(stage.spec, GrpoStage):
        yield Check(name="signal", status="fine", why="no stage learns from rewards")
        return
    prompts = spread(entries.get(stage.spec.prompts, ()), PROMPTS)
    if not prompts:
        yield Check(
            name="signal",
            status="warning",
            why=f"prompts.{stage.spec.prompts} has no rows here to sample on",
            fix="mend what is wrong with the data first",
        )
        return
    answer = _samples(plan, stage, prompts, folder=folder)
    if "error" in answer:
        yield wrong("signal", f"the base cannot be sampled: {answer['error']}")
        return
    yield from _signal(plan.recipe, stage, prompts, answer["texts"])


def _samples(
    plan: Plan, stage: StagePlan, prompts: Sequence[Prompt], *, folder: Path
) -> Mapping[str, Any]:
    spec = stage.spec
    assert isinstance(spec, GrpoStage)
    preface = list(map(dict, plan.recipe.prompts[spec.prompts].preface))
    question = {
        "source": plan.recipe.model.model_dump(mode="json", exclude_unset=True),
        "folder": str(folder / "model"),
        "preface": preface,
        "prompts": [
            {"question": p.question, "context": list(map(dict, p.context))} for p in prompts
        ],
        "samples": SAMPLES,
        "max_tokens": min(spec.max_tokens, MOST_TOKENS),
        "temperature": spec.temperature,
        "seed": stage.seed,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", PROGRAM],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"16 samples took over {PROBE_LIMIT_S} s; lower max_tokens"}
    try:
        return json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": last}


def _signal(
    recipe: Recipe, stage: StagePlan, prompts: Sequence[Prompt], texts: Sequence[Sequence[Any]]
) -> Iterator[Check]:
    """What the rewards say. `texts`: by prompt, [text, ended] of each sample."""
    spec = stage.spec
    assert isinstance(spec, GrpoStage)
    scores: dict[str, list[list[float | None]]] = {}
    with Pool(recipe.hardware.verifier_workers) as pool:
        for name in spec.reward_names():
            judge = judge_of(recipe, name, spec.prompts)
            if judge is None:
                continue
            values = [
                [
                    pool.submit(judge.use, _sample(prompt, text, ended), args=judge.args)
                    for text, ended in group
                ]
                for prompt, group in zip(prompts, texts, strict=True)
            ]
            scores[name] = [[f.result().value for f in group] for group in values]
    cut = sum(not ended for group in texts for _, ended in group)
    weights = {name: recipe.rewards[name].weight for name in scores}
    yield signal_check(stage.name, scores, weights, cut=cut)


def signal_check(
    stage: str,
    scores: Mapping[str, Sequence[Sequence[float | None]]],
    weights: Mapping[str, float],
    *,
    cut: int,
) -> Check:
    """What rewards say of a few groups of a stage's samples: `scores` by reward, group and sample,
    None where a reward could not tell, which leaves the sample out. `cut`: samples without an end.
    """
    samples = [list(zip(*groups, strict=True)) for groups in zip(*scores.values(), strict=True)]
    sums = [[weighted_sum(dict(zip(scores, s, strict=True)), weights) for s in g] for g in samples]
    totals = [[total for total in group if total is not None] for group in sums]
    uneven = sum(max(group) - min(group) > 1e-9 for group in totals if group)
    count, told = sum(map(len, sums)), sum(map(len, totals))
    unscored = f"; {count - told} could not be scored" if told < count else ""
    why = (
        f"stages.{stage}: {count} samples of the base: mean {_means(scores)}; rewards differ "
        f"within {uneven} of {len(totals)} groups; {cut} cut off{unscored}"
    )
    if uneven:
        return Check(name="signal", status="fine", why=why)
    if not told:
        fix = "no reward could tell: see what it says with stepwell reward explain"
        return Check(name="signal", status="warning", why=why, fix=fix)
    best = max(max(group) for group in totals if group)
    worst = min(min(group) for group in totals if group)
    fix = (
        "the base never earns a reward: take easier prompts, a cold start, or a larger max_tokens"
        if best <= 0
        else "the base earns them all: take harder prompts"
        if worst >= best
        else "take other prompts, a higher temperature or more samples_per_prompt"
    )
    return Check(name="signal", status="warning", why=why, fix=fix)


def _means(scores: Mapping[str, Sequence[Sequence[float | None]]]) -> str:
    """Each reward's mean over the samples that it scored."""
    told = {n: [v for g in groups for v in g if v is not None] for n, groups in scores.items()}
    return ", ".join(f"{n} {fmean(v):.2f}" if v else f"{n} none" for n, v in told.items())


def _sample(prompt: Prompt, text: str, ended: bool) -> Sample:
    from dataclasses import replace

    return replace(gold_sample(prompt, says=""), completion=text, finished=ended)
