"""How many iterations each token deserves: the depth stage, part by part.

The language model is frozen after part 1; a small halting head learns. Only the joint phase, where
there is one, trains tokens too. A part is a folder, made once; `parts.py` says how.

    driver: *_part.py        asks for rollouts and jobs, waits for them, writes the part
       |  Bench.measure, serving.sample      engines and verifiers: rollouts at given depths
       |  cluster.call(depth_calls.x, ...)   a trainer's process, files in and files out; everything
       |                                     here that loads torch runs there (labels/, model/, rl/)
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.depth import headroom_part, random_depth_part
from pipeline.depth.bench import Bench
from pipeline.depth.calibrate import calibrate_part
from pipeline.depth.compare import compare_part
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.compare.depth_report import (
    Calibration,
    ComparisonReport,
    DepthReport,
    HeadroomSummary,
)
from pipeline.depth.labels import labels_part, right_part, warm_start_part
from pipeline.depth.labels.labels_part import LATER, LOSSES
from pipeline.depth.labels.warm_start_part import Heads
from pipeline.depth.parts import Part, last_part, part
from pipeline.depth.rl import joint_part, policy_part
from pipeline.measure.drops import Drop, drop_rows
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.depth_parts import LEAST_COMPARED, LEAST_PROMPTS
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.explore import carry_judge
from pipeline.recurrent.shape import MODEL_TYPE
from pipeline.stages.context import Output, RunContext
from pipeline.stages.support import MODEL_FOLDER, model_of, prompts_of


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Learn a depth policy on `init`, calibrate it, and compare it with every baseline.

    Without headroom the stage ends well with the model as it is, unless `force` is set.

    Raises ValueError for a dense model, one that iterates less deep, or too few prompts.
    """
    bench = Bench(plan, ctx)
    spec, base = bench.spec, model_of(ctx, bench.spec.init)
    check_recurrent(base, spec)
    check_prompts(ctx, spec)

    drops: list[Drop] = []
    if spec.rows is not None:
        random_depth = part(bench, "1-random-depth", random_depth_part.make, model=base)
        base, drops = random_depth.model, [random_depth_part.too_long_rows(bench, random_depth)]

    room = part(bench, "2-headroom", headroom_part.make, model=base)
    if room.info["verdict"] == "no go" and not spec.force:
        return _unchanged(ctx, base, room, drops)

    labels = part(bench, "3-labels", labels_part.make, model=base)

    heads = _heads(bench, base, room=room, labels=labels)  # "4-gate" to "4-request-depth"

    tokens = room.info["ref_tokens"]
    policies = [
        part(
            bench, f"5-rl-{n}", policy_part.make, warm=heads.warm, ref_tokens=tokens, number=n
        ).model
        for n in range(spec.rl.seeds)
    ]

    joint = None
    if spec.joint is not None:  # "6-joint-0-tokens", "6-joint-0-head" and on
        joint = _joint(bench, policies[0], warm=heads.warm, ref_tokens=tokens)
    contenders = Contenders(policies=policies, joint=joint, heads=heads)

    calibration = part(bench, "7-calibrate", calibrate_part.make, model=contenders.exported)
    keys = Calibration.read(calibration.info)

    comparison = last_part(
        bench, "8-pareto", compare_part.make, contenders=contenders, calibration=keys
    )
    judge = heads.right if joint is None else None
    return _calibrated(
        ctx, contenders.exported, keys, room=room, comparison=comparison, judge=judge, drops=drops
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


def check_prompts(ctx: RunContext, spec: DepthStage) -> None:
    """Refuse fewer prompts than some part needs, before hours of others."""
    compared = dict.fromkeys((spec.held_out, *spec.pareto.transfer), LEAST_COMPARED)
    for entry, least in [(spec.prompts, LEAST_PROMPTS), *compared.items()]:
        count = len(prompts_of(ctx, entry))
        if count < least:
            raise ValueError(
                f"prompts.{entry} holds {count} prompts, and a depth stage needs at least {least} "
                "of them: give more"
            )


def _heads(bench: Bench, base: Path, *, room: Part, labels: Part) -> Heads:
    """Part 4: what labels teach. The gated model carries every head."""
    files = labels.folder
    gated = part(bench, "4-gate", warm_start_part.gate, model=base, labels=files).model
    by_depth = room.info["accuracy"]
    gain = by_depth[-1] - by_depth[0]
    halting = warm_start_part.halting
    warm = part(
        bench,
        "4-warm-start",
        halting,
        model=gated,
        labels=files,
        gain=gain,
        bias=bench.spec.warm_start.bias,
    ).model
    table = room.folder / headroom_part.TABLE
    right = None
    if "right" in bench.spec.pareto.baselines:
        right = part(
            bench, "4-right", right_part.make, model=gated, labels=files, room=room.folder
        ).model
    return Heads(
        warm=warm,
        labels=part(bench, "4-labels-only", halting, model=gated, labels=files, gain=gain).model,
        own_labels=part(
            bench, "4-own-labels", halting, model=gated, labels=files, gain=gain, own_loss=True
        ).model,
        critic=part(bench, "4-critic", warm_start_part.critic, model=warm, table=table).folder,
        request_depth=part(
            bench, "4-request-depth", warm_start_part.request_depth, model=warm, table=table
        ).folder,
        losses=files / (LATER if bench.spec.warm_start.labels == "later" else LOSSES),
        right=right,
    )


def _joint(bench: Bench, policy: Path, *, warm: Path, ref_tokens: float) -> Path:
    """Part 6: the model after the rounds of the joint phase, from the first seed's policy."""
    assert bench.spec.joint is not None
    for number in range(bench.spec.joint.rounds):
        tokens = part(
            bench, f"6-joint-{number}-tokens", joint_part.tokens, model=policy, number=number
        ).model
        policy = part(
            bench,
            f"6-joint-{number}-head",
            joint_part.head,
            model=tokens,
            warm=warm,
            ref_tokens=ref_tokens,
            number=number,
        ).model
    return policy


def _unchanged(ctx: RunContext, model: Path, room: Part, drops: Sequence[Drop]) -> Output:
    """The model as it is, where there is nothing to gain."""
    shutil.copytree(model, ctx.out / MODEL_FOLDER)
    report = DepthReport(headroom=_summary(room))
    info = {"depth": report.document(), "drops": drop_rows(drops)}
    return Output(kind="checkpoint", info=info)


def _calibrated(
    ctx: RunContext,
    model: Path,
    keys: Calibration,
    *,
    room: Part,
    comparison: Part,
    judge: Path | None,
    drops: Sequence[Drop],
) -> Output:
    """The policy's model with its calibration and the judge of paths of a model of the same states;
    and all that was measured."""
    calibrate_part.write_model(model, ctx.out / MODEL_FOLDER, keys)
    if judge is not None:
        carry_judge(judge, ctx.out / MODEL_FOLDER)
    shutil.copyfile(
        comparison.folder / compare_part.RESULTS_FILE, ctx.out / compare_part.RESULTS_FILE
    )
    report = DepthReport(
        headroom=_summary(room),
        comparison=ComparisonReport.read(comparison.info),
        calibration=keys,
    )
    info = {"depth": report.document(), "drops": drop_rows(drops)}
    return Output(kind="checkpoint", info=info)


def _summary(room: Part) -> HeadroomSummary:
    """The headroom for people and programs."""
    best = room.info["best_at_equal_cost"]["points"]
    return HeadroomSummary(
        verdict=room.info["verdict"],
        reason=room.info["reason"],
        points=best["estimate"],
        points_ci=[best["low"], best["high"]],
        oracle_points=room.info["oracle"]["points"]["estimate"],
        by_depth=room.info["by_depth"],
    )
