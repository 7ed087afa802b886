"""Part 4: the halting head, the exit gate and the critic, learned from labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.depth import depth_calls
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.labels.labels_part import LATER, LOSSES, ROLLOUTS
from pipeline.stages.support import MODEL_FOLDER

LR = 2e-3  # of the head, the gate and the critic; ours


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Folders of what labels taught."""

    warm: Path  # the head where policy gradients begin
    labels: Path  # the head from labels alone
    own_labels: Path  # the head from labels of every token's own loss
    critic: Path  # of the critic's file
    request_depth: Path  # of the regression's file
    losses: Path  # what leaving early costs, token by token
    right: Path | None = None  # the "right already?" head, where it is compared


def gate(bench: Bench, out: Path, *, model: Path, labels: Path) -> Mapping[str, Any]:
    """The exit gate of the Q-exit baseline, in a copy of the model."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.call(
        depth_calls.train_gate,
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        steps=bench.spec.warm_start.steps,
        lr=LR,
    )


def halting(
    bench: Bench,
    out: Path,
    *,
    model: Path,
    labels: Path,
    gain: float,
    bias: float = 0.0,
    own_loss: bool = False,
) -> Mapping[str, Any]:
    """A halting head from labels, in a copy of the model.

    Args:
        gain: accuracy at full depth over that at depth 1.
        bias: towards going on, nats; where policy gradients begin.
        own_loss: labels of each token's own loss, whatever the recipe's are.
    """
    spec = bench.spec
    kind = "best" if own_loss else spec.warm_start.labels
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.call(
        depth_calls.train_halting,
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        prices=spec.rl.price,
        steps=spec.warm_start.steps,
        lr=LR,
        bias=bias,
        width=spec.halting_width,
        labels=kind,
        later=labels / LATER if kind == "later" else None,
        accuracy_gain=gain,
    )


def critic(bench: Bench, out: Path, *, model: Path, table: Path) -> Mapping[str, Any]:
    """The critic of accuracy by depth, from the headroom's table."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out)
    return bench.call(
        depth_calls.train_critic,
        job,
        table,
        steps=bench.spec.warm_start.steps,
        lr=LR,
    )


def request_depth(bench: Bench, out: Path, *, model: Path, table: Path) -> Mapping[str, Any]:
    """The regression of the cheapest right depth, from the same table."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out)
    return bench.call(
        depth_calls.train_request_depth,
        job,
        table,
        steps=bench.spec.warm_start.steps,
        lr=LR,
    )
