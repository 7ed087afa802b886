"""The exit gate of the Q-exit baseline: Ouro's second stage, the language model frozen."""

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW

from pipeline.depth.labels.label_rules import step_labels
from pipeline.depth.labels.warm_start import BATCH_TOKENS, Tokens, decisions_at, full_depth_tokens
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import with_gate
from pipeline.depth.trainer_jobs import HeadJob


def train(job: HeadJob, rollouts: Path, losses: Path, *, steps: int, lr: float) -> dict[str, float]:
    """Write `job.model` with an exit gate to `job.out`.

    Each iteration's gate, a probability to leave, is fitted by cross-entropy to one less
    `labels.step_labels` (Ouro, arXiv 2510.25741, section 3.3). It decides for every token,
    whatever `job.segment` is, and is told no price: its threshold is the budget.

    Returns:
        loss and loss_constant (on held-out rollouts, beside the best constant's), mean_gate.
    """
    job = dataclasses.replace(job, segment=1)
    with head_process(job) as model:
        gate = nn.Linear(model.config.hidden_size, 1).to(job.device)
        tokens = full_depth_tokens(job, rollouts, losses)
        fit(gate, tokens, steps=steps, lr=lr, seed=job.seed, device=job.device)
        report = _report(gate, tokens, device=job.device)
        with_gate(job.model, job.out, gate)
        return report


def fit(
    gate: nn.Linear, tokens: Tokens, *, steps: int, lr: float, seed: int, device: str = "cpu"
) -> None:
    """Cross-entropy with AdamW; the learning rate falls linearly to 0."""
    optimizer = AdamW(gate.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    leave = 1 - step_labels(tokens.losses).t()  # [_M, R - 1]
    usable = tokens.to_fit
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        drawn = torch.randint(len(usable), (min(BATCH_TOKENS, len(usable)),), generator=generator)
        index = usable[drawn]
        state = tokens.features.state[decisions_at(tokens, index)].to(device)
        label = leave[index].reshape(-1).to(device)
        loss = F.binary_cross_entropy_with_logits(gate(state)[:, 0], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _report(gate: nn.Linear, tokens: Tokens, *, device: str) -> dict[str, float]:
    index = tokens.to_report
    label = (1 - step_labels(tokens.losses[:, index])).t().reshape(-1)
    state = tokens.features.state[decisions_at(tokens, index)].to(device)
    logit = gate(state)[:, 0].cpu()
    share = label.mean().expand_as(label)
    return {
        "loss": float(F.binary_cross_entropy_with_logits(logit, label)),
        "loss_constant": float(F.binary_cross_entropy(share, label)),
        "mean_gate": float(torch.sigmoid(logit).mean()),
    }
