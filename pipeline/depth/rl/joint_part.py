"""Part 6: rounds of two halves, GRPO on the tokens and steps of the head that chooses depths.

    round n   tokens: the one GRPO path, at the depths that the policy drew; the head as it is
              head: the course of part 5 goes on, on the new weights

Each half is a part of its own. The tokens' optimizer begins anew every round, the head's goes on.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cluster.setups import GrpoSetup
from pipeline.depth.bench import Bench
from pipeline.depth.members import policy_request
from pipeline.depth.rl.course import Course, Steps, keep_row, show_rows
from pipeline.depth.rl.policy_part import export_head, update_of, work_of
from pipeline.generate.priced_depths import PricedDepths
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.depth_parts import JointPhase
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.stages.context import stage_journal
from pipeline.stages.support import MODEL_FOLDER, prompts_of, serve, train_job, train_on_rollouts
from pipeline.train import training_calls
from pipeline.train.job import CHECKPOINTS, METRICS_FILE

TOKENS, HEAD = "joint-tokens", "joint-head"  # folders of states and rows, and of the journal
MICRO_BATCH_ROWS = 8  # completions per forward pass at most: memory only
CHECKPOINTS_PER_ROUND = 4


def tokens(bench: Bench, out: Path, *, model: Path, number: int) -> Mapping[str, Any]:
    """GRPO on the tokens of round `number`, from the last round's model or policy 0; the trainer's
    info. `model` is the reference too."""
    joint, ctx, plan = _phase(bench.spec), bench.ctx, bench.plan
    name = f"{TOKENS}-{number}"
    own = dataclasses.replace(ctx, work=ctx.work / name)
    own.work.mkdir(exist_ok=True)
    spec = token_stage(bench.spec, joint, ranks=ctx.plan.recipe.hardware.ranks)
    seed = _seed(bench, name)
    bench.forget()
    serving = serve(own, model, rewards=[bench.spec.reward], version=-1)
    setup = GrpoSetup(
        spec=spec,
        prompts=tuple(prompts_of(ctx, spec.prompts)),
        journal=ctx.run_dir / "journal" / plan.name / name,
        seed=seed,
        preference=None,
        watch=(),
        watch_reward=bench.spec.reward,
        depths=priced_depths(bench.spec),
    )
    serving.open_grpo(setup)
    job = dataclasses.replace(
        train_job(own, plan, model=model, spec=spec, out=out / MODEL_FOLDER), seed=seed
    )

    def as_shown(row: Mapping[str, Any]) -> Mapping[str, Any]:
        before = bench.spec.rl.steps + number * (joint.token_steps + joint.head_steps)
        return {**row, "step": before + row["step"], "steps": _last(bench.spec, joint)}

    training = partial(training_calls.grpo, job)
    info = train_on_rollouts(own, plan, training, setup=setup, as_shown=as_shown)
    for row in map(json.loads, (own.work / METRICS_FILE).read_text().splitlines()):
        keep_row(own.work, row["step"] - 1, as_shown(row))
    show_rows(bench, _shown(bench))
    shutil.rmtree(own.work / CHECKPOINTS, ignore_errors=True)
    return info


def head(
    bench: Bench, out: Path, *, model: Path, warm: Path, ref_tokens: float, number: int
) -> Mapping[str, Any]:
    """Steps of the head in round `number` on the tokens' `model`; the last one's metrics.

    `warm` is the warm start, which the head's divergence is measured from.
    """
    joint = _phase(bench.spec)
    steps = Steps(bench, _course(bench, joint, warm=warm, ref_tokens=ref_tokens))
    until = (number + 1) * joint.head_steps
    last = steps.run(model, until=until)
    export_head(bench, out, model=model, state=steps.state(until))
    return last


def token_stage(spec: DepthStage, joint: JointPhase, *, ranks: int) -> GrpoStage:
    """The tokens' half of a round as a stage of its own: GRPO's defaults but for what is here."""
    rows = spec.rl.prompts_per_step * spec.rl.samples_per_prompt // ranks
    return GrpoStage(
        kind="grpo",
        init=spec.init,
        prompts=spec.prompts,
        rewards=[spec.reward],
        steps=joint.token_steps,
        prompts_per_step=spec.rl.prompts_per_step,
        samples_per_prompt=spec.rl.samples_per_prompt,
        max_tokens=spec.max_tokens,
        temperature=spec.temperature,
        lr=joint.lr,
        kl=joint.kl,
        reference_every=None,
        micro_batch_rows=max(n for n in range(1, MICRO_BATCH_ROWS + 1) if rows % n == 0),
        save_steps=max(joint.token_steps // CHECKPOINTS_PER_ROUND, 1),
    )


def priced_depths(spec: DepthStage) -> PricedDepths:
    """Depths that the policy draws, at prices over their whole range."""
    low, high = spec.rl.price
    return PricedDepths(
        request=policy_request(spec, log_price=0.0, sampled=True), low=low, high=high
    )


def _course(bench: Bench, joint: JointPhase, *, warm: Path, ref_tokens: float) -> Course:
    spec = bench.spec

    def number(step: int) -> int:
        whole, inside = divmod(step, joint.head_steps)
        before = (whole + 1) * joint.token_steps + whole * joint.head_steps
        return spec.rl.steps + before + inside + 1

    return Course(
        work=bench.ctx.work / HEAD,
        journal=stage_journal(
            bench.ctx.console,
            bench.ctx.run_dir / "journal" / bench.plan.name / HEAD,
            stage=bench.plan.name,
        ),
        seed=_seed(bench, HEAD),
        reference=warm,
        settings=lambda step, prices: update_of(
            spec, step=step, prices=prices, ref_tokens=ref_tokens, progress=1.0
        ),
        number=number,
        numbers=_last(spec, joint),
        shown=_shown(bench),
    )


def _phase(spec: DepthStage) -> JointPhase:
    assert spec.joint is not None
    return spec.joint


def _seed(bench: Bench, name: str) -> int:
    return derived_seed(bench.plan.seed, name) & 0x7FFFFFFF


def _shown(bench: Bench) -> list[Path]:
    work, rounds = bench.ctx.work, range(_phase(bench.spec).rounds)
    return [work_of(bench, 0), *(work / f"{TOKENS}-{n}" for n in rounds), work / HEAD]


def _last(spec: DepthStage, joint: JointPhase) -> int:
    return spec.rl.steps + joint.rounds * (joint.token_steps + joint.head_steps)
