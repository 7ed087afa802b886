"""One policy-gradient step on the halting head, from rollouts that ran at the chosen depths."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import AdamW

from pipeline.depth.model import head as heads
from pipeline.depth.model.decisions import Decisions
from pipeline.depth.model.features import Features, all_logits, token_logprobs
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.replay import recorded_decisions, replay
from pipeline.depth.rl.advantage import Member, decision_advantages, grouped, solvability
from pipeline.depth.rl.collapse import alarms, mutual_information, spread
from pipeline.depth.rl.expected import Check, Draws, checks_of, expected_outcomes
from pipeline.depth.rl.optimise import Batch, head_optimizer, improve
from pipeline.depth.trainer_jobs import HeadJob, RlUpdate
from pipeline.records import Rollout, Scored, read_scored
from pipeline.recurrent.policy import HaltingPolicy

OPTIMIZER = "optimizer."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


def update(
    job: HeadJob,
    rollouts: Path,
    *,
    state: Path | None,
    new_state: Path,
    reference: Path,
    spec: RlUpdate,
) -> dict[str, Any]:
    """Improve the head on one step's scored rollouts and write head and optimizer to `new_state`.

    Members without a reward are left out. The result depends on the arguments and files alone.

    Args:
        rollouts: parquet of the step's members, by group.
        state: the last step's `new_state`; None: begin with the head in `job.model`.
        reference: head file, state file or model folder of the warm start.

    Returns:
        what `optimise.improve` returns, and depth_mean, depth_std, depth_prompt_std, cost, reward,
        reward_variance and outcome_variance (within groups; of the rewards, and of what members
        were credited with), solvability, mutual_information, logprob_gap (the largest difference
        between a token's recorded and replayed log-probability of its depth), decisions, members,
        left_out, alarms (sentences).

    Raises:
        ValueError: no member has a reward, or one lacks a price or depths that the policy drew; a
            state of another step than `spec.step - 1`.
    """
    with head_process(job) as model:
        everyone = read_scored(rollouts)
        scored = [s for s in everyone if s.reward is not None]
        if not scored:
            raise ValueError(f"no member in {rollouts} has a reward: see their verdicts")
        head, optimizer = _resumed(job, state, spec)
        runs = [s.rollout for s in scored]
        members = [_member(s, spec) for s in scored]
        decisions = recorded_decisions(runs, job)
        checks = [_checks(run, spec) for run in runs]
        replayed = replay(
            model,
            runs,
            decisions,
            log_prices=[m.log_price for m in members],
            job=job,
            asked=[[(c.token, c.reference) for c in own if not c.agrees] for own in checks],
            temperature=spec.temperature,
        )
        features = replayed.features
        if spec.references is not None:
            members = with_expected(members, runs, checks, replayed.chances)
        if not len(features):
            raise ValueError(f"max_depth={job.max_depth} leaves nothing to decide: set at least 2")
        gap = logprob_gap(features, all_logits(features, head, device=job.device), runs)
        report: dict[str, Any] = improve(
            head,
            optimizer,
            _credited(members, decisions, features, job=job, spec=spec),
            reference=heads.policy_of(heads.load(reference)).to(job.device),
            spec=spec,
            max_depth=job.max_depth,
            seed=job.seed,
            device=job.device,
        )
    _save(head, optimizer, new_state, step=spec.step)
    counts = {"decisions": len(features), "members": len(members)}
    counts["left_out"] = len(everyone) - len(members)
    rewards = [s.reward for s in scored if s.reward is not None]
    metrics = _metrics(members, rewards, job=job, spec=spec)
    return report | metrics | {"logprob_gap": gap, **counts}


def export_head(job: HeadJob, state: Path) -> Path:
    """Write `job.model` with the head of a state file to `job.out`."""
    return heads.with_head(job.model, job.out, heads.policy_of(heads.load(state)))


def logprob_gap(features: Features, logit: Tensor, runs: Sequence[Rollout]) -> float:
    """The largest difference between engine and replay in a token's depth log-probability, nats."""
    gaps = []
    for (rollout, token), replayed in token_logprobs(features, logit).items():
        recorded = runs[rollout].depth_logprobs
        assert recorded is not None  # a member without is refused
        gaps.append(abs(recorded[token] - replayed))
    return max(gaps)


def _member(scored: Scored, spec: RlUpdate) -> Member:
    run = scored.rollout
    if run.depths is None or run.depth_logprobs is None or scored.reward is None:
        raise ValueError(
            f"the rollout {run.prompt_id}/{run.sample} lacks depths that a policy drew: ask a "
            "recurrent model for it by a request of rule policy, sampled"
        )
    if run.group not in spec.log_prices:
        raise ValueError(
            f"the rollout {run.prompt_id}/{run.sample} lacks a price: name its group in log_prices"
        )
    return Member(
        group=run.group,
        outcome=scored.reward,
        log_price=spec.log_prices[run.group],
        depths=run.depths,
    )


def _checks(run: Rollout, spec: RlUpdate) -> list[Check]:
    return [] if spec.references is None else checks_of(run, spec.references[run.group])


def with_expected(
    members: Sequence[Member],
    runs: Sequence[Rollout],
    checks: Sequence[Sequence[Check]],
    chances: Sequence[Sequence[float]],
) -> list[Member]:
    """The members with expected outcomes in place of rewards.

    The engine recorded how likely the drawn tokens were; `chances` are of the references of checks
    that differ, in their order.
    """
    draws = []
    for member, run, own, others in zip(members, runs, checks, chances, strict=True):
        differing = iter(others)
        each = [math.exp(run.logprobs[c.token]) if c.agrees else next(differing) for c in own]
        draws.append(Draws(group=member.group, reward=member.outcome, checks=own, chances=each))
    return [
        dataclasses.replace(member, outcome=outcome)
        for member, outcome in zip(members, expected_outcomes(draws), strict=True)
    ]


def _credited(
    members: Sequence[Member],
    decisions: Sequence[Decisions],
    features: Features,
    *,
    job: HeadJob,
    spec: RlUpdate,
) -> Batch:
    advantages = decision_advantages(
        members,
        decisions,
        max_depth=job.max_depth,
        ref_tokens=spec.ref_tokens,
        solvability_floor=spec.solvability_floor,
        segment=job.segment,
    )
    return Batch(features=features, advantage=torch.cat(advantages))


def _metrics(
    members: Sequence[Member], rewards: Sequence[float], *, job: HeadJob, spec: RlUpdate
) -> dict[str, Any]:
    depths, prompts = [m.depths for m in members], [m.group for m in members]
    mean, std, prompt_std = spread(depths, prompts)
    information, z = mutual_information(
        depths, prompts, log_prices=[m.log_price for m in members], seed=job.seed
    )
    full = job.max_depth * spec.ref_tokens
    groups = grouped(members).values()
    return {
        "depth_mean": mean,
        "depth_std": std,
        "depth_prompt_std": prompt_std,
        "cost": sum(map(sum, depths)) / full / len(members),
        "reward": sum(rewards) / len(rewards),
        "reward_variance": variance_in_groups(list(zip(prompts, rewards, strict=True))),
        "outcome_variance": variance_in_groups([(m.group, m.outcome) for m in members]),
        "solvability": sum(solvability(group) for group in groups) / len(groups),
        "mutual_information": information,
        "alarms": alarms(depth_std=std, information_z=z),
    }


def variance_in_groups(values: Sequence[tuple[str, float]]) -> float:
    """Mean over groups of two members at least of the sample variance of (group, value); 0 of
    none."""
    groups: dict[str, list[float]] = {}
    for group, value in values:
        groups.setdefault(group, []).append(value)
    each = [statistics.variance(some) for some in groups.values() if len(some) > 1]
    return statistics.fmean(each) if each else 0.0


def _resumed(job: HeadJob, state: Path | None, spec: RlUpdate) -> tuple[HaltingPolicy, AdamW]:
    """The head and its optimizer as the last step left them."""
    head = heads.policy_of(heads.load(state or job.model)).to(job.device)
    optimizer = head_optimizer(head, lr=spec.lr)
    if state is None:
        return head, optimizer
    with safe_open(state, "pt") as file:
        last = int((file.metadata() or {}).get("step", -1))
    if last != spec.step - 1:
        raise ValueError(f"{state} is of step {last}: step {spec.step} goes on from the one before")
    saved = load_file(state)
    for name, parameter in head.named_parameters():
        optimizer.state[parameter] = {
            moment: saved[f"{OPTIMIZER}{name}.{moment}"].to(
                "cpu" if moment == "step" else job.device
            )
            for moment in MOMENTS
        }
    return head, optimizer


def _save(head: HaltingPolicy, optimizer: AdamW, path: Path, *, step: int) -> None:
    weights = heads.tensors(head)
    for name, parameter in head.named_parameters():
        for moment in MOMENTS:
            weights[f"{OPTIMIZER}{name}.{moment}"] = optimizer.state[parameter][moment].cpu()
    heads.write_whole(weights, path, metadata={"step": str(step)})
