"""A reward model from pairs: a harvest's correct against wrong, or judged pairs from a file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.generate.chat import Chat, load_chat, with_opening, without_opening
from pipeline.generate.groups import Group
from pipeline.measure.drops import Drop, drop_rows
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.reject_stage import RejectStage
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.records import Prompt, read_scored
from pipeline.stages.context import Output, RunContext
from pipeline.stages.drop_log import too_long
from pipeline.stages.harvest import preference_pairs
from pipeline.stages.reject import ROLLOUTS_FILE
from pipeline.stages.support import model_of, named, prefaces, prompts_of, train, train_job
from pipeline.stages.training_rows import completion_of
from pipeline.train import training_calls

Pair = tuple[str, str, str]  # rendered prompt, chosen completion, rejected completion


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Train a reward model on top of `init`. Raises ValueError when there are no pairs."""
    spec = plan.spec
    assert isinstance(spec, RewardModelStage)
    (init,) = named(plan, "init")
    model = model_of(ctx, init.name)
    harvested = spec.pairs in {s.name for s in ctx.plan.stages}
    every, drops = (
        _from_harvest(ctx, plan, model) if harvested else (_from_prompts(ctx, spec, model), [])
    )
    pairs = every[: spec.max_pairs]
    if not pairs:
        raise ValueError(
            f"{plan.name}: {spec.pairs} has no prompt with a chosen and a rejected completion; "
            "sample more per prompt or raise the temperature"
        )
    path = ctx.work / "pairs.parquet"
    columns = zip(*pairs, strict=True)
    pq.write_table(
        pa.table(dict(zip(("prompt", "chosen", "rejected"), columns, strict=True))), path
    )
    job = train_job(ctx, plan, model=model)
    info = train(ctx, plan, partial(training_calls.reward_model, job, path))
    drops += [
        Drop(
            what="pairs",
            reason="after the first so many",
            dropped=len(every) - len(pairs),
            total=len(every),
            key=f"stages.{plan.name}.max_pairs",
        ),
        too_long(info, "pairs", tokens=spec.max_tokens, key=f"stages.{plan.name}.max_tokens"),
    ]
    lengths = _mean_tokens(model, pairs)
    ctx.console.log(
        f"{plan.name}: {lengths['chosen_tokens']:.1f} tokens in a chosen completion, "
        f"{lengths['rejected_tokens']:.1f} in a rejected one (means of {len(pairs):,} pairs)"
    )
    return Output(kind="checkpoint", info={**info, **lengths, "drops": drop_rows(drops)})


def _mean_tokens(model: Path, pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean tokens of chosen and of rejected completions, which length should not tell apart."""
    chat = load_chat(model)
    _, chosen, rejected = zip(*pairs, strict=True)
    return {
        f"{side}_tokens": sum(map(len, chat.completions_ids(texts))) / len(texts)
        for side, texts in (("chosen", chosen), ("rejected", rejected))
    }


def _from_harvest(ctx: RunContext, plan: StagePlan, model: Path) -> tuple[list[Pair], list[Drop]]:
    """The pairs, and the prompts that gave none."""
    spec = plan.spec
    assert isinstance(spec, RewardModelStage)
    source = next(s.spec for s in ctx.plan.stages if s.name == spec.pairs)
    assert isinstance(source, RejectStage)
    chat, policy = load_chat(model), load_chat(model_of(ctx, source.policy))
    prompts = {p.id: p for p in prompts_of(ctx, source.prompts)}
    preface = prefaces(ctx)[source.prompts]
    scored = read_scored(ctx.artifacts[spec.pairs].path / ROLLOUTS_FILE)
    size = source.samples_per_prompt
    groups = [
        Group(prompt_id=scored[i].rollout.prompt_id, samples=tuple(scored[i : i + size]))
        for i in range(0, len(scored), size)
    ]
    pairs = preference_pairs(groups, source.rewards, source.threshold)

    def rendered(by: Chat, asked: Prompt) -> str:
        return by.render(asked.question, preface, asked.context)

    def fitted(asked: Prompt, text: str) -> str:
        """The policy's completion as one of the reward model's own prompt."""
        whole = with_opening(rendered(policy, asked), text)
        return without_opening(rendered(chat, asked), whole)

    asked = [prompts[chosen.rollout.prompt_id] for chosen, _ in pairs]
    unpaired = Drop(
        what="prompts",
        reason="not both a right and a wrong completion",
        dropped=len(groups) - len(pairs),
        total=len(groups),
        key=f"stages.{spec.pairs}.samples_per_prompt",
    )
    return [
        (rendered(chat, p), fitted(p, chosen.text), fitted(p, rejected.text))
        for p, (chosen, rejected) in zip(asked, pairs, strict=True)
    ], [unpaired]


def _from_prompts(ctx: RunContext, spec: RewardModelStage, model: Path) -> list[Pair]:
    chat = load_chat(model)
    preface = prefaces(ctx)[spec.pairs]
    return [
        (
            chat.render(p.question, preface, p.context),
            completion_of(p, "chosen"),
            completion_of(p, "rejected"),
        )
        for p in prompts_of(ctx, spec.pairs)
    ]
