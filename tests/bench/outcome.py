"""What expected outcomes take from the noise of a step: `python -m tests.bench.outcome RUN`.

Reads the first step's rollouts of every seed of a run of `depth-tiny`: its warm start, its journal.
The same members are credited twice: with their rewards, and with rewards less the luck of their
answers' draws, as `outcome: expected` does. For both: the mean, the variance within groups, and the
noise of the head's gradient: the trace of the covariance of its mean over groups. Half a minute on
one core; nothing is sampled.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.depth.members import step_prices
from pipeline.depth.model import head as heads
from pipeline.depth.model.decisions import Decisions
from pipeline.depth.model.features import Features
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.replay import recorded_decisions, replay
from pipeline.depth.rl.advantage import Member, decision_advantages
from pipeline.depth.rl.expected import checks_of
from pipeline.depth.rl.policy_update import variance_in_groups, with_expected
from pipeline.depth.rl.references import reference_of
from pipeline.depth.trainer_jobs import HeadJob, Reference
from pipeline.generate.chat import load_chat
from pipeline.generate.schedule import derived_seed
from pipeline.plan.plan import stage_seed
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.load import load_recipe
from pipeline.records import Rollout, read_prompts, read_scored
from pipeline.recurrent.policy import HaltingPolicy, decision_logprob

STAGE = "depth"
REF_TOKENS, FLOOR = 60.0, 0.2


def main() -> None:
    run = Path(sys.argv[1])
    recipe = load_recipe(str(run / "recipe.yaml"), [])
    spec = recipe.stages[STAGE]
    assert isinstance(spec, DepthStage)
    seeds = [
        derived_seed(stage_seed(recipe.seed, STAGE), "rl", number) & 0x7FFFFFFF
        for number in range(spec.rl.seeds)
    ]
    print(json.dumps([measured(run, spec, seed, n) for n, seed in enumerate(seeds)], indent=1))


def measured(run: Path, spec: DepthStage, seed: int, number: int) -> dict[str, dict[str, float]]:
    """Of one seed's first step, by what members are credited with."""
    work = run / "work" / STAGE
    warm = work / "parts" / "4-warm-start" / "model"
    journal = run / "journal" / STAGE / (f"seed-{number}" if number else "")
    scored = read_scored(journal / "step-000000.parquet")
    scored = [s for s in scored if s.reward is not None]
    runs = [s.rollout for s in scored]
    prices = step_prices(spec, sorted({r.group for r in runs}), seed=seed, step=0)
    rewarded = [
        Member(
            group=s.rollout.group,
            outcome=s.reward or 0.0,
            log_price=prices[s.rollout.group],
            depths=s.rollout.depths or (),
        )
        for s in scored
    ]
    references = _references(run / "inputs" / spec.prompts / "prompts.parquet", warm, runs)
    job = HeadJob(
        model=warm,
        out=work,
        seed=0,
        threads=1,
        device="cpu",
        max_depth=spec.max_depth,
        prompt_depth=spec.prompt_depth,
        segment=spec.segment,
        batch_rows=spec.batch_rows,
    )
    head = heads.policy_of(heads.load(warm))
    decisions = recorded_decisions(runs, job)
    features, expected = _credited(rewarded, runs, decisions, references, job=job)
    return {
        name: _figures(members, decisions, features, head, cap=spec.max_depth)
        for name, members in {"sampled": rewarded, "expected": expected}.items()
    }


def _references(prompts: Path, model: Path, runs: Sequence[Rollout]) -> dict[str, Reference]:
    chat, by_id = load_chat(model), {p.id: p for p in read_prompts(prompts)}
    return {r.group: reference_of(by_id[r.prompt_id], chat) for r in runs}


def _credited(
    members: Sequence[Member],
    runs: Sequence[Rollout],
    decisions: Sequence[Decisions],
    references: dict[str, Reference],
    *,
    job: HeadJob,
) -> tuple[Features, list[Member]]:
    checks = [checks_of(run, references[run.group]) for run in runs]
    with head_process(job) as model:
        replayed = replay(
            model,
            runs,
            decisions,
            log_prices=[m.log_price for m in members],
            job=job,
            asked=[[(c.token, c.reference) for c in own if not c.agrees] for own in checks],
            temperature=1.0,
        )
    return replayed.features, with_expected(members, runs, checks, replayed.chances)


def _figures(
    members: Sequence[Member],
    decisions: Sequence[Decisions],
    features: Features,
    head: HaltingPolicy,
    *,
    cap: int,
) -> dict[str, float]:
    gradients = _gradients(members, decisions, features, head, cap=cap)
    return {
        "mean": statistics.fmean(m.outcome for m in members),
        "variance_in_groups": variance_in_groups([(m.group, m.outcome) for m in members]),
        "gradient_noise": float(gradients.var(dim=0).sum() / len(gradients)),
    }


def _gradients(
    members: Sequence[Member],
    decisions: Sequence[Decisions],
    features: Features,
    head: HaltingPolicy,
    *,
    cap: int,
) -> Tensor:
    """[groups, weights] of the surrogate, at the head that decided, by group."""
    advantage = torch.cat(
        decision_advantages(
            members, decisions, max_depth=cap, ref_tokens=REF_TOKENS, solvability_floor=FLOOR
        )
    )
    rows = []
    for group in sorted({m.group for m in members}):
        inside = torch.tensor([m.group == group for m in members])
        index = inside[features.rollout].nonzero()[:, 0]
        part = features.at(index)
        head.zero_grad()
        (decision_logprob(part.logits(head), part.goes_on) * advantage[index]).sum().backward()
        rows.append(
            torch.cat([p.grad.reshape(-1) for p in head.parameters() if p.grad is not None])
        )
    return torch.stack(rows)


if __name__ == "__main__":
    main()
