"""Part 5: policy-gradient steps on the halting head, from rollouts at the depths it chose.

    driver                      engines, verifiers           trainer (policy_update.py)
    prices, requests  --------> rollouts, rewards
    journal <------------------ groups
    journal, state t  --------------------------------------> replay, advantages, epochs
    row of metrics    <-------------------------------------- state t + 1
    state t + 1       --------> the head of step t + 1

Each waits for the one before: the head that learns is the head that decided.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.depth import depth_calls
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.rl.course import Course, Steps
from pipeline.depth.trainer_jobs import RlUpdate
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.depth_stage import DepthStage
from pipeline.stages.context import stage_journal
from pipeline.stages.support import MODEL_FOLDER

FINAL_LR = 0.1
"""Share of the learning rate that the last step has left; ours."""

EPOCHS, MINIBATCHES = 2, 4
"""Passes over a step's decisions, and optimizer steps of a pass; ours."""

CLIP = 0.2
"""How far the ratio of new to old probability counts (PPO, arXiv 1707.06347, section 6.1)."""

ENTROPY = 0.02
"""Worth of a nat of entropy per decision at the first step, in iterations at lambda = 1; ours."""

MAX_GRAD_NORM = 1.0
"""Gradients of the head are scaled down to this norm; ours."""


def make(
    bench: Bench, out: Path, *, warm: Path, ref_tokens: float, number: int
) -> Mapping[str, Any]:
    """Run the steps of one seed and export the head; the last step's metrics."""
    steps = Steps(bench, _course(bench, warm=warm, ref_tokens=ref_tokens, number=number))
    last = steps.run(warm, until=bench.spec.rl.steps)
    export_head(bench, out, model=warm, state=steps.state(bench.spec.rl.steps))
    return last


def export_head(bench: Bench, out: Path, *, model: Path, state: Path) -> None:
    """Write `model` with the head of a state."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    bench.call(depth_calls.export_head, job, state)


def work_of(bench: Bench, number: int) -> Path:
    """Where the steps of a seed are kept."""
    return bench.ctx.work / f"rl-{number}"


def update_of(
    spec: DepthStage,
    *,
    step: int,
    prices: Mapping[str, float],
    ref_tokens: float,
    progress: float | None = None,
) -> RlUpdate:
    """What the trainer is told of a step: learning rate and entropy fall linearly.

    `progress`: from 0 to 1; default: of `rl.steps`.
    """
    rl = spec.rl
    progress = step / rl.steps if progress is None else progress
    return RlUpdate(
        step=step,
        log_prices=prices,
        ref_tokens=ref_tokens,
        lr=rl.lr * (1 - (1 - FINAL_LR) * progress),
        epochs=EPOCHS,
        minibatches=MINIBATCHES,
        clip=CLIP,
        entropy=ENTROPY * (1 - progress),
        max_grad_norm=MAX_GRAD_NORM,
        temperature=spec.temperature,
    )


def _course(bench: Bench, *, warm: Path, ref_tokens: float, number: int) -> Course:
    spec = bench.spec
    seed = derived_seed(bench.plan.seed, "rl", number) & 0x7FFFFFFF
    journal = bench.ctx.run_dir / "journal" / bench.plan.name
    work = work_of(bench, number)
    return Course(
        work=work,
        journal=stage_journal(
            bench.ctx.console,
            journal / f"seed-{number}" if number else journal,
            stage=bench.plan.name,
        ),
        seed=seed,
        reference=warm,
        settings=lambda step, prices: update_of(
            spec, step=step, prices=prices, ref_tokens=ref_tokens
        ),
        number=lambda step: step + 1,
        numbers=spec.rl.steps,
        shown=[work] if number == 0 else [],
    )
