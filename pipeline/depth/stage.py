"""How many iterations each token deserves: the depth stage, part by part.

The language model is frozen after part 1; a small halting head learns. Only the joint phase, where
there is one, trains tokens too. Every part is a folder of its own, made once.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.depth import headroom_part, random_depth_part
from pipeline.depth.bench import Bench
from pipeline.depth.calibrate import calibrate_part
from pipeline.depth.compare import compare_part
from pipeline.depth.compare.compare_part import RESULTS_FILE, Contenders
from pipeline.depth.labels import label_parts
from pipeline.depth.parts import Part, part
from pipeline.depth.rl import joint_part, policy_part
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.shape import MODEL_TYPE
from pipeline.stages.context import Output, RunContext
from pipeline.stages.support import MODEL_FOLDER, model_of


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Learn a depth policy on `init`, calibrate it, and compare it with every baseline.

    Without headroom the stage ends well with the model as it is, unless `force` is set.

    Raises ValueError for a dense model, or one that iterates less deep.
    """
    spec = plan.spec
    assert isinstance(spec, DepthStage)
    model = model_of(ctx, spec.init)
    check_recurrent(model, spec)
    bench = Bench(plan, ctx)
    if spec.rows is not None:
        start = model
        sft = part(
            plan,
            ctx,
            "1-random-depth",
            lambda out: random_depth_part.make(plan, ctx, out, model=start),
        )
        model = sft.folder / MODEL_FOLDER
    room = part(plan, ctx, "2-headroom", lambda out: headroom_part.make(bench, out, model=model))
    if room.info["verdict"] == "no go" and not spec.force:
        shutil.copytree(model, ctx.out / MODEL_FOLDER)
        return Output(kind="checkpoint", info={"depth": {"headroom": _told(room)}})
    learned = _learn(bench, model, room)
    keys = part(
        plan,
        ctx,
        "7-calibrate",
        lambda _: calibrate_part.make(bench, model=learned.exported, area="calibrate"),
    ).info
    compared = part(
        plan,
        ctx,
        "8-pareto",
        lambda out: compare_part.make(bench, out, contenders=learned, calibration=keys),
    )
    calibrate_part.write_model(learned.exported, ctx.out / MODEL_FOLDER, keys)
    shutil.copyfile(compared.folder / RESULTS_FILE, ctx.out / RESULTS_FILE)
    return Output(
        kind="checkpoint", info={"depth": {"headroom": _told(room), **compared.info, **keys}}
    )


def check_recurrent(model: Path, spec: DepthStage) -> None:
    """Refuse a model without a core to iterate, or with one that iterates less deep."""
    config = json.loads((model / "config.json").read_text())
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{spec.init} is a {config.get('model_type')} model, which has no core to iterate: "
            "start from a recurrent one, such as a folder of `stepwell convert`"
        )
    if spec.max_depth > config["max_iterations"]:
        raise ValueError(
            f"max_depth={spec.max_depth} is over the max_iterations={config['max_iterations']} of "
            f"{spec.init}: lower it, or convert the model with more"
        )


def _learn(bench: Bench, model: Path, room: Part) -> Contenders:
    """Parts 3 to 6: labels, heads from labels, policy gradients for every seed, joint rounds."""
    plan, ctx, spec = bench.plan, bench.ctx, bench.spec
    marked = part(
        plan, ctx, "3-labels", lambda out: label_parts.label(bench, out, model=model)
    ).folder
    gated = part(
        plan, ctx, "4-gate", lambda out: label_parts.gate(bench, out, model=model, labels=marked)
    )
    base = gated.folder / MODEL_FOLDER
    accuracy = room.info["accuracy"]

    def head(name: str, *, bias: float = 0.0, own: bool = False) -> Path:
        def make(out: Path) -> Mapping[str, Any]:
            gain = accuracy[-1] - accuracy[0]
            return label_parts.halting(
                bench, out, model=base, labels=marked, gain=gain, bias=bias, own=own
            )

        return part(plan, ctx, name, make).folder / MODEL_FOLDER

    warm = head("4-warm-start", bias=spec.warm_start.bias)
    alone = head("4-labels-only")
    own = head("4-own-labels", own=True)
    critic = part(
        plan,
        ctx,
        "4-critic",
        lambda out: label_parts.critic(
            bench, out, model=warm, table=room.folder / headroom_part.TABLE
        ),
    )
    ref_tokens = room.info["ref_tokens"]

    def policy(number: int) -> Path:
        def make(out: Path) -> Mapping[str, Any]:
            return policy_part.make(bench, out, warm=warm, ref_tokens=ref_tokens, number=number)

        return part(plan, ctx, f"5-rl-{number}", make).folder / MODEL_FOLDER

    policies = [policy(number) for number in range(spec.rl.seeds)]
    return Contenders(
        policies=policies,
        warm=warm,
        labels=alone,
        own_labels=own,
        critic=critic.folder,
        joint=_jointly(bench, policies[0], warm=warm, ref_tokens=ref_tokens),
    )


def _jointly(bench: Bench, policy: Path, *, warm: Path, ref_tokens: float) -> Path | None:
    """Part 6: the model after the rounds of the joint phase; None without one."""

    def one_round(number: int, model: Path) -> Path:
        def make(out: Path) -> Mapping[str, Any]:
            return joint_part.make(
                bench, out, model=model, warm=warm, ref_tokens=ref_tokens, number=number
            )

        return part(bench.plan, bench.ctx, f"6-joint-{number}", make).folder / MODEL_FOLDER

    if bench.spec.joint is None:
        return None
    for number in range(bench.spec.joint.rounds):
        policy = one_round(number, policy)
    return policy


def _told(room: Part) -> dict[str, Any]:
    """The headroom for people and programs."""
    best = room.info["best_at_equal_cost"]["points"]
    return {
        "verdict": room.info["verdict"],
        "reason": room.info["reason"],
        "points": best["estimate"],
        "points_ci": [best["low"], best["high"]],
        "oracle_points": room.info["oracle"]["points"]["estimate"],
        "by_depth": room.info["by_depth"],
    }
