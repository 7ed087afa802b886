"""Part 6: rounds of steps on the tokens, at the depths that ran, and on the head that chose them.

The tokens' steps leave what decides depths alone, the head's steps all else, so each half's state
goes on from its own last one, its optimizer's moments included.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import fresh_folder
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.members import policy_request, step_requests
from pipeline.depth.rl.course import Course, Steps
from pipeline.depth.rl.policy_part import UPDATE, export_head, update_of, work_of
from pipeline.depth.trainer_jobs import TokenUpdate
from pipeline.generate.journal import Journal
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.depth_stage import DepthStage, JointPhase

TOKENS, HEAD = "joint-tokens", "joint-head"  # folders of states and rows, and of the journal
TRAINER = "pipeline.depth.rl.joint_update"
BACKPROP_ITERATIONS = 8  # Huginn's, arXiv 2502.05171


def make(
    bench: Bench, out: Path, *, model: Path, warm: Path, ref_tokens: float, number: int
) -> Mapping[str, Any]:
    """One round from `model`, the last round's or policy 0; the last metrics of both halves.

    `warm` is the warm start, the reference of both halves: policy 0 has its language model.
    """
    joint = bench.spec.joint
    assert joint is not None
    tokens = Steps(bench, _tokens(bench, joint, warm=warm))
    learned = tokens.run(model, until=(number + 1) * joint.token_steps)
    between = fresh_folder(bench.ctx.work / "joint-model")
    job = head_job(bench.plan, bench.ctx, model=model, out=between)
    state = tokens.state((number + 1) * joint.token_steps)
    bench.ctx.cluster.call(f"{TRAINER}:export_model", job, state)
    head = Steps(bench, _head(bench, joint, warm=warm, ref_tokens=ref_tokens))
    chosen = head.run(between, until=(number + 1) * joint.head_steps)
    export_head(bench, out, model=between, state=head.state((number + 1) * joint.head_steps))
    return {"tokens": learned, "head": chosen}


def token_update_of(spec: DepthStage, joint: JointPhase, *, step: int) -> TokenUpdate:
    """What the trainer of tokens is told of a step."""
    return TokenUpdate(
        step=step,
        lr=joint.lr,
        updates=joint.updates_per_step,
        micro_batch_rows=joint.micro_batch_rows,
        backprop_iterations=joint.backprop_iterations or BACKPROP_ITERATIONS,
        clip=joint.clip,
        kl=joint.kl,
        temperature=spec.temperature,
        max_grad_norm=joint.max_grad_norm,
    )


def _tokens(bench: Bench, joint: JointPhase, *, warm: Path) -> Course:
    spec = bench.spec

    def number(step: int) -> int:
        whole, inside = divmod(step, joint.token_steps)
        return spec.rl.steps + whole * (joint.token_steps + joint.head_steps) + inside + 1

    return Course(
        work=bench.ctx.work / TOKENS,
        journal=_journal(bench, TOKENS),
        seed=_seed(bench, TOKENS),
        update=f"{TRAINER}:update",
        reference=warm,
        requests=lambda prices, _: {
            name: [policy_request(spec, log_price=price, sampled=True)] * spec.rl.samples_per_prompt
            for name, price in prices.items()
        },
        told=lambda step, _: token_update_of(spec, joint, step=step),
        number=number,
        numbers=_numbers(spec, joint),
        shown=_shown(bench),
    )


def _head(bench: Bench, joint: JointPhase, *, warm: Path, ref_tokens: float) -> Course:
    spec, seed = bench.spec, _seed(bench, HEAD)

    def number(step: int) -> int:
        whole, inside = divmod(step, joint.head_steps)
        before = (whole + 1) * joint.token_steps + whole * joint.head_steps
        return spec.rl.steps + before + inside + 1

    return Course(
        work=bench.ctx.work / HEAD,
        journal=_journal(bench, HEAD),
        seed=seed,
        update=UPDATE,
        reference=warm,
        requests=lambda prices, step: step_requests(spec, prices, seed=seed, step=step),
        told=lambda step, prices: update_of(
            spec, step=step, prices=prices, ref_tokens=ref_tokens, progress=1.0
        ),
        number=number,
        numbers=_numbers(spec, joint),
        shown=_shown(bench),
    )


def _journal(bench: Bench, name: str) -> Journal:
    return Journal(bench.ctx.run_dir / "journal" / bench.plan.name / name)


def _seed(bench: Bench, name: str) -> int:
    return derived_seed(bench.plan.seed, name) & 0x7FFFFFFF


def _shown(bench: Bench) -> list[Path]:
    return [work_of(bench, 0), bench.ctx.work / TOKENS, bench.ctx.work / HEAD]


def _numbers(spec: DepthStage, joint: JointPhase) -> int:
    return spec.rl.steps + joint.rounds * (joint.token_steps + joint.head_steps)
