"""Rejection sampling: harvest the policy's correct, readable, new completions, with lineage."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.generate.chat import load_chat, with_opening
from pipeline.generate.service import RewardUse, sampling_of
from pipeline.measure.drops import Drop, drop_rows
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.reject_stage import RejectStage
from pipeline.records import Prompt, Scored, write_scored
from pipeline.stages.context import Output, RunContext, stage_journal
from pipeline.stages.harvest import LANGUAGE, empty_warning, funnel_drops, harvest, prompt_hash
from pipeline.stages.sampling import sample_in_chunks
from pipeline.stages.support import model_of, prefaces, prompts_of, serve
from pipeline.stages.training_rows import HARVEST_FILE

ROLLOUTS_FILE = "rollouts.parquet"  # in a reject artifact: every sample, kept or not


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Sample `policy` on `prompts` and keep what `rewards` and the filters let through."""
    spec = plan.spec
    assert isinstance(spec, RejectStage)
    prompts = prompts_of(ctx, spec.prompts)[: spec.size]
    groups = list(
        sample_in_chunks(
            ctx,
            plan,
            lambda: serve(
                ctx, model_of(ctx, spec.policy), rewards=spec.rewards, unweighted=_language(spec)
            ),
            prompts,
            source=spec.prompts,
            sampling=sampling_of(spec),
            seed=plan.seed,
            journal=stage_journal(ctx.console, ctx.work / "chunks", stage=plan.name),
        )
    )
    result = harvest(groups, spec)
    readers = [s.name for s in ctx.plan.stages if any(i.name == plan.name for i in s.inputs)]
    if (warning := empty_warning(result.funnel, name=plan.name, readers=readers)) is not None:
        ctx.console.log(warning)
    _write_rows(ctx, plan, result.kept, prompts)
    write_scored([s for g in groups for s in g.samples], ctx.out / ROLLOUTS_FILE)
    drops = funnel_drops(result.funnel, name=plan.name)
    barren = Drop(
        what="prompts",
        reason="no completion was kept",
        dropped=len(groups) - len({s.rollout.prompt_id for s in result.kept}),
        total=len(groups),
        key=f"stages.{plan.name}.samples_per_prompt",
    )
    info = {"funnel": dict(result.funnel), "drops": drop_rows([*drops, barren])}
    return Output(kind="rollouts", info=info)


def _language(spec: RejectStage) -> list[RewardUse]:
    """The language filter, computed beside the rewards and without weight in their sum."""
    if spec.language is None:
        return []
    args = {"target": spec.language}
    return [RewardUse(name=LANGUAGE, ref="builtin:language", weight=0.0, args=args)]


def _write_rows(
    ctx: RunContext, plan: StagePlan, kept: Sequence[Scored], prompts: Sequence[Prompt]
) -> None:
    spec = plan.spec
    assert isinstance(spec, RejectStage)
    asked = {p.id: p for p in prompts}
    chat = load_chat(model_of(ctx, spec.policy))
    preface = prefaces(ctx)[spec.prompts]
    policy = ctx.artifacts[spec.policy].manifest.fingerprint
    rows = [
        {
            "question": prompt.question,
            "context": json.dumps(prompt.context),
            "completion": with_opening(
                chat.render(prompt.question, preface, prompt.context), s.text
            ),
            "source": spec.prompts,
            "prompt_id": s.rollout.prompt_id,
            "prompt_hash": prompt_hash(prompt.question),
            "policy": f"{spec.policy}@{policy[:16]}",
            "seed": s.rollout.seed,
            "sample": s.rollout.sample,
            "verdicts": json.dumps(dict(s.verdicts)),
            "filters": "finished,correct,readable,new",
        }
        for s in kept
        for prompt in (asked[s.rollout.prompt_id],)
    ]
    text = ("question", "context", "completion", "source", "prompt_id", "prompt_hash", "policy")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in text),
            ("seed", pa.int64()),
            ("sample", pa.int32()),
            ("verdicts", pa.string()),
            ("filters", pa.string()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), ctx.out / HARVEST_FILE)
