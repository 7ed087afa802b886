"""One step of the joint phase: GRPO on tokens whose depths are replayed. Files in, files out."""

import copy
import dataclasses
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import GATE, HALTING, write_whole
from pipeline.depth.rl.collapse import spread
from pipeline.depth.rl.joint_objective import (
    group_advantages,
    recorded_logprobs,
    token_logprobs,
    token_terms,
)
from pipeline.depth.rl.policy_update import MOMENTS, OPTIMIZER
from pipeline.depth.trainer_jobs import HeadJob, TokenUpdate
from pipeline.records import Rollout, Scored, read_scored
from pipeline.recurrent.convert.checkpoint import shards_of
from pipeline.recurrent.model import RecurrentForCausalLM

FROZEN = (HALTING, GATE)
"""Weights that decide depths: no token's probability at a given depth depends on them."""


@dataclass(frozen=True, kw_only=True)
class Credited:
    """A completion with its advantage."""

    rollout: Rollout
    group: str
    advantage: float


def update(
    job: HeadJob,
    rollouts: Path,
    *,
    state: Path | None,
    new_state: Path,
    reference: Path,
    spec: TokenUpdate,
) -> dict[str, Any]:
    """Improve the tokens on one step's scored rollouts; write weights and optimizer to `new_state`.

    Everything learns but what decides depths, which `new_state` does not hold. Members without a
    reward are left out. The result depends on the arguments and files alone. A model that computes
    in bfloat16 is trained on float32 weights, and replays in what the engine computes in.

    Args:
        rollouts: parquet of the step's members, by group.
        state: the last step's `new_state`; None: begin with the weights of `reference`.
        reference: model folder that the phase begins with, which `spec.kl` holds to; `job.model`
            is the same model with other weights and another head, and not read.

    Returns:
        policy (loss), token_loss (with the KL), kl (nats per token), clipped_share, grad_norm:
        means over optimizer steps; logprob_gap (the largest difference between a token's recorded
        and replayed log-probability, nats, before anything changes: over the first optimizer
        step's completions); depth_mean, depth_std, depth_prompt_std; members, left_out, alarms.

    Raises:
        ValueError: no member has a reward, or one lacks depths; a state of another step than
            `spec.step - 1`.
    """
    everyone = read_scored(rollouts)
    scored = [s for s in everyone if s.reward is not None]
    if not scored:
        raise ValueError(f"no member in {rollouts} has a reward: see their verdicts")
    with head_process(dataclasses.replace(job, model=reference)) as start:
        model = trainable(start, backprop_iterations=spec.backprop_iterations)
        weights = master_weights(model)
        optimizer = _resumed(model, weights, state, spec)
        members = _credited(scored)
        seen = []
        for batch in _batches(members, updates=spec.updates):
            found = _gradients(model, batch, start=start, job=job, spec=spec)
            found["grad_norm"] = _step(model, weights, optimizer, max_norm=spec.max_grad_norm)
            seen.append(found)
    _save(weights, optimizer, new_state, step=spec.step)
    gap = seen[0]["logprob_gap"]
    means = {name: sum(found[name] for found in seen) / len(seen) for name in seen[0]}
    return means | {
        "token_loss": means["policy"] + spec.kl * means["kl"],
        "logprob_gap": gap,
        **_depths([s.rollout for s in scored]),
        "members": len(members),
        "left_out": len(everyone) - len(members),
        "alarms": alarms(members, gap=gap, clip=spec.clip),
    }


def export_model(job: HeadJob, state: Path) -> Path:
    """Write `job.model` with the weights of a state to `job.out`, in the dtypes of its files.

    Raises ValueError where the model lacks a weight of the state.
    """
    shutil.copytree(job.model, job.out, dirs_exist_ok=True)
    trained = {k: v for k, v in load_file(state).items() if not k.startswith(OPTIMIZER)}
    for shard in shards_of(job.out):
        held = load_file(shard)
        mine = {k: trained.pop(k).to(v.dtype) for k, v in held.items() if k in trained}
        save_file(held | mine, shard, {"format": "pt"})
    if trained:
        raise ValueError(f"{job.model} has no {', '.join(sorted(trained)[:3])} of {state}")
    return job.out


def alarms(members: Sequence[Credited], *, gap: float, clip: float) -> list[str]:
    """What makes a step worthless, in sentences; none where all is well."""
    said = []
    if gap > math.log1p(clip):
        said.append(
            f"engine and replay are {gap:.3f} nats apart on a token, which alone takes its ratio "
            f"past clip={clip:g}: the tokens did not run at these depths with these weights, or "
            "the engine computes otherwise (hardware.engine, model.dtype)"
        )
    if not any(member.advantage for member in members):
        said.append(
            "no group's rewards differ, so the tokens learn nothing: choose prompts that are "
            "neither hopeless nor too easy, or raise rl.samples_per_prompt"
        )
    return said


def trainable(start: RecurrentForCausalLM, *, backprop_iterations: int) -> RecurrentForCausalLM:
    """A copy in which all that a token's probability depends on takes gradients, through each
    token's last iterations."""
    model = copy.deepcopy(start).train()
    model.config.backprop_iterations = backprop_iterations
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return model


def master_weights(model: RecurrentForCausalLM) -> dict[str, Tensor]:
    """What the optimizer changes, by checkpoint name, in float32: a float32 model's own weights,
    of any other a copy."""
    return {n: p.detach().float() for n, p in model.named_parameters() if p.requires_grad}


def _depths(runs: Sequence[Rollout]) -> dict[str, float]:
    mean, std, prompt_std = spread([r.depths or () for r in runs], [r.group for r in runs])
    return {"depth_mean": mean, "depth_std": std, "depth_prompt_std": prompt_std}


def _credited(scored: Sequence[Scored]) -> list[Credited]:
    groups = [s.rollout.group for s in scored]
    advantages = group_advantages([s.reward or 0.0 for s in scored], groups)
    return [
        Credited(rollout=s.rollout, group=group, advantage=advantage)
        for s, group, advantage in zip(scored, groups, advantages.tolist(), strict=True)
    ]


def _batches(members: Sequence[Credited], *, updates: int) -> Iterator[list[Credited]]:
    """Each optimizer step's members: whole groups, in their order."""
    names = list(dict.fromkeys(m.group for m in members))
    for part in torch.arange(len(names)).chunk(updates):
        chosen = {names[i] for i in part.tolist()}
        yield [m for m in members if m.group in chosen]


def _gradients(
    model: RecurrentForCausalLM,
    batch: Sequence[Credited],
    *,
    start: RecurrentForCausalLM,
    job: HeadJob,
    spec: TokenUpdate,
) -> dict[str, float]:
    """Add the batch's gradients to the model's; the parts of its loss, and its logprob_gap."""
    total = {"policy": 0.0, "kl": 0.0, "clipped_share": 0.0, "logprob_gap": 0.0}
    order = sorted(batch, key=lambda m: len(m.rollout.prompt_tokens) + len(m.rollout.tokens))
    for first in range(0, len(order), spec.micro_batch_rows):
        rows = order[first : first + spec.micro_batch_rows]
        runs, share = [m.rollout for m in rows], len(rows) / len(batch)
        replay = {
            "temperature": spec.temperature,
            "prompt_depth": job.prompt_depth,
            "device": job.device,
        }
        logprob, mask = token_logprobs(model, runs, **replay)
        recorded = recorded_logprobs(runs, device=job.device)
        held = None
        if spec.kl:
            with torch.no_grad():
                held = token_logprobs(start, runs, **replay)[0]
        terms = token_terms(
            logprob,
            behaviour_logprob=recorded,
            advantage=torch.tensor([m.advantage for m in rows], device=job.device),
            mask=mask,
            clip=spec.clip,
            reference_logprob=held,
        )
        (share * (terms.policy + spec.kl * terms.kl)).backward()
        for name in ("policy", "kl", "clipped_share"):
            total[name] += share * float(getattr(terms, name).detach())
        apart = float((logprob.detach() - recorded)[mask].abs().max())
        total["logprob_gap"] = max(total["logprob_gap"], apart)
    return total


def _step(
    model: RecurrentForCausalLM, weights: Mapping[str, Tensor], optimizer: AdamW, *, max_norm: float
) -> float:
    """One optimizer step on the model's gradients, which end; their norm before clipping."""
    for name, parameter in model.named_parameters():
        if name in weights and parameter.grad is not None:
            weights[name].grad = parameter.grad.float()
    norm = clip_grad_norm_(list(weights.values()), max_norm)
    optimizer.step()
    optimizer.zero_grad()
    model.zero_grad()
    _give(weights, model)
    return float(norm)


@torch.no_grad()
def _give(weights: Mapping[str, Tensor], model: RecurrentForCausalLM) -> None:
    """The model computes with these weights."""
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])


def _resumed(
    model: RecurrentForCausalLM,
    weights: Mapping[str, Tensor],
    state: Path | None,
    spec: TokenUpdate,
) -> AdamW:
    """The optimizer, and in place the weights, as the last step left them."""
    optimizer = AdamW(weights.values(), lr=spec.lr, betas=(0.9, 0.95), weight_decay=0.0)
    if state is None:
        return optimizer
    with safe_open(state, "pt") as file:
        last = int((file.metadata() or {}).get("step", -1))
    if last != spec.step - 1:
        raise ValueError(f"{state} is of step {last}: step {spec.step} goes on from the one before")
    held = load_file(state)
    for name, weight in weights.items():
        weight.copy_(held[name])
        moments = {m: held.get(f"{OPTIMIZER}{name}.{m}") for m in MOMENTS}
        optimizer.state[weight] = {
            moment: value.to("cpu" if moment == "step" else weight.device)
            for moment, value in moments.items()
            if value is not None
        }
    _give(weights, model)
    return optimizer


def _save(weights: Mapping[str, Tensor], optimizer: AdamW, path: Path, *, step: int) -> None:
    held = {name: weight.cpu() for name, weight in weights.items()}
    for name, weight in weights.items():
        for moment, value in optimizer.state.get(weight, {}).items():
            held[f"{OPTIMIZER}{name}.{moment}"] = value.cpu()
    write_whole(held, path, metadata={"step": str(step)})
